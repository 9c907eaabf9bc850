"""Home: what needs you, what serves, what runs, what failed last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headrace.control.rollouts import queries as rollouts
from headrace.governance import approvals
from headrace.project.wiring import Platform
from headrace.runs import queries as runs
from headrace.server.console.pages import Page
from headrace.server.requests import Call

_ACTIVE = ("PENDING", "RUNNING", "PAUSED", "CANCELING")
SHOWN = 5


@dataclass(frozen=True)
class HomePage:
    """`waiting`: gates; `services`, `active` and `failed`: as the API gives them."""

    waiting: list[Mapping[str, Any]]
    services: list[Mapping[str, Any]]
    active: list[Mapping[str, Any]]
    failed: list[Mapping[str, Any]]


def pages(platform: Platform) -> list[Page]:
    """The page /."""

    def data(call: Call) -> HomePage:
        database = platform.database
        active = [run for state in _ACTIVE for run in runs.list_runs(database, limit=SHOWN, state=state)]
        return HomePage(
            waiting=[gate.to_dict() for gate in approvals.gates(database, "waiting")],
            services=list(rollouts.list_services(database)),
            active=sorted(active, key=lambda run: str(run["created_at"]), reverse=True),
            failed=list(runs.list_runs(database, limit=SHOWN, state="FAILED")),
        )

    return [Page("/", "home.html", data, live=True)]
