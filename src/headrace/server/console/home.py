"""Home: the one thing that needs you, what serves, what runs, what waits for a person, what failed last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.contracts.verdict import Outcome
from headrace.control.rollouts import queries as rollouts
from headrace.governance import approvals
from headrace.project.wiring import Platform
from headrace.runs import browse
from headrace.runs.browse import Wanted
from headrace.server.console.pages import Page
from headrace.server.console.services import ServiceNow, Services
from headrace.server.requests import Call

_ACTIVE = ("PENDING", "RUNNING", "PAUSED", "CANCELING")
SHOWN = 5


@dataclass(frozen=True)
class Need:
    """Something that needs a person: a sentence, where to go, since when. `bad`: wrong, and not only waiting."""

    sentence: str
    path: str
    since: str
    bad: bool


@dataclass(frozen=True)
class HomePage:
    """`needs`: the most urgent first; runs as the API gives them."""

    needs: list[Need]
    services: list[ServiceNow]
    active: list[Mapping[str, Any]]
    failed: list[Mapping[str, Any]]


def pages(platform: Platform, services: Services) -> list[Page]:
    """The page /."""

    def data(call: Call) -> HomePage:
        active = [run for state in _ACTIVE for run in _newest(platform, state)]
        served = services.all()
        return HomePage(
            needs=_needs(platform, served),
            services=served,
            active=sorted(active, key=lambda run: str(run["created_at"]), reverse=True),
            failed=_newest(platform, "FAILED"),
        )

    return [Page("/", "home.html", data, live=True, moving=True)]


def _newest(platform: Platform, state: str) -> list[Mapping[str, Any]]:
    return list(browse.newest(platform.database, Wanted(state=state), limit=SHOWN).runs)


def _needs(platform: Platform, served: Sequence[ServiceNow]) -> list[Need]:
    database = platform.database
    found = []
    for service in rollouts.list_services(database):
        stable = service["stable"]
        if stable and stable["state"] == "failed":
            sentence = f"{service['name']} does not serve: {stable['message']}"
            found.append(Need(sentence, f"/services/{service['name']}", service["updated_at"], True))
        found += _of_rollouts(service["name"], rollouts.list_rollouts(database, service=service["name"], limit=1))
    for one in served:
        if one.drift and one.drift.verdict.outcome is Outcome.FAILED:
            sentence = f"What {one.name} predicts is {one.drift.verdict.summary}"
            found.append(Need(sentence, f"/services/{one.name}#drift", one.drift.current_since, False))
    for gate in approvals.gates(database, "waiting"):
        told = gate.to_dict()
        found.append(Need(told["question"], f"/approvals/{gate.id}", told["opened_at"], False))
    found += [_failed(run) for run in browse.ended_last(database) if run["state"] == "FAILED"]
    return sorted(found, key=lambda need: (not need.bad, need.since))


def _of_rollouts(service: str, newest: Sequence[Mapping[str, Any]]) -> list[Need]:
    """A rollout that is held, and one that was rolled back with nothing after it."""
    found = []
    for one in newest:
        path = f"/rollouts/{one['id']}"
        if one["state"] == "Paused":
            sentence = f"The rollout of {service} waits: {one['message'] or one['doing']}"
            found.append(Need(sentence, path, one["created_at"], False))
        if one["state"] == "Degraded":
            found.append(Need(f"{service} was rolled back: {one['message']}", path, one["finished_at"], True))
    return found


def _failed(run: Mapping[str, Any]) -> Need:
    why = (run["error"] or {}).get("message", "")
    return Need(f"{run['pipeline']} failed: {why}", f"/runs/{run['run_id']}", run["finished_at"], True)
