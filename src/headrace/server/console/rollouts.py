"""Rollouts: the picture of a move from one revision to the next, and what a person may do about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from headrace.control.rollouts import actions as acts
from headrace.control.rollouts import queries
from headrace.governance.rbac import Role
from headrace.project.wiring import Platform
from headrace.server.console.actions import Action, Done, Submission
from headrace.server.console.pages import Page
from headrace.server.requests import Call
from headrace.serving.traffic import Figures, Traffic
from headrace.store import events

LISTED = 100
# A curve has so many points at most.
POINTS = 400
_ENDS = {"Healthy": 100, "Degraded": 0, "Aborted": 0}


@dataclass(frozen=True)
class RolloutsPage:
    rollouts: list[Mapping[str, Any]]


@dataclass(frozen=True)
class Curve:
    """The e-value of a metric as it grew; the test fails at `limit`. Times in unix seconds."""

    metric: str
    limit: float
    at: list[float]
    e_values: list[float]


@dataclass(frozen=True)
class RolloutPage:
    """`weights`: since when (unix seconds) which share was in force. `until`: where the time axis ends."""

    rollout: Mapping[str, Any]
    steps: list[str]
    weights: list[tuple[float, int]]
    begun: float
    until: float
    curves: list[Curve]
    stable: Figures | None
    canary: Figures | None


class Rollouts:
    """The data of the pages and what their forms do."""

    def __init__(self, platform: Platform, traffic: Traffic | None) -> None:
        self.platform = platform
        self.database = platform.database
        self.traffic = traffic

    def listed(self, call: Call) -> RolloutsPage:
        return RolloutsPage(list(queries.list_rollouts(self.database, limit=LISTED)))

    def shown(self, call: Call) -> RolloutPage:
        told = queries.rollout_json(self.database, call.path["rollout"])
        begun = _seconds(told["created_at"])
        until = _seconds(told["finished_at"]) if told["finished_at"] else self._seen(told["id"], begun)
        active = told["finished_at"] is None
        return RolloutPage(
            rollout=told, steps=[step_words(step) for step in told["steps"]], weights=self._weights(told),
            begun=begun, until=until, curves=self._curves(told["id"]),
            stable=self._figures(told["from"]) if active else None,
            canary=self._figures(told["to"]) if active else None,
        )  # fmt: skip

    def _figures(self, revision: Mapping[str, Any] | None) -> Figures | None:
        return self.traffic.now([revision["id"]]) if self.traffic and revision else None

    def _seen(self, rollout_id: str, begun: float) -> float:
        """When it was last counted: nothing after that is known yet."""
        row = self.database.one("SELECT max(at) AS at FROM rollout_window WHERE rollout_id = ?", (rollout_id,))
        return max(begun, row["at"] or begun) if row else begun

    def _weights(self, told: Mapping[str, Any]) -> list[tuple[float, int]]:
        log = events.read(self.database, subject=f"rollout/{told['id']}", kinds=["rollout.weight"], limit=1000)
        weights = [(event.at, int(event.data["weight"])) for event in log]
        if told["finished_at"]:
            weights.append((_seconds(told["finished_at"]), _ENDS.get(told["state"], 0)))
        return weights

    def _curves(self, rollout_id: str) -> list[Curve]:
        found: dict[str, list[Mapping[str, Any]]] = {}
        for window in queries.windows_json(self.database, rollout_id):
            if window["limit"] is not None:
                found.setdefault(window["metric"], []).append(window)
        curves = []
        for metric, windows in found.items():
            step = max(1, -(-len(windows) // POINTS))
            chosen = windows[::-1][::step][::-1]
            curves.append(
                Curve(
                    metric, windows[-1]["limit"], [_seconds(one["at"]) for one in chosen],
                    [one["e_value"] for one in chosen],
                )
            )  # fmt: skip
        return curves

    def _act(self, action: Callable[..., None], told: str) -> Callable[[Submission], Done]:
        def do(sent: Submission) -> Done:
            rollout = sent.path["rollout"]
            action(
                self.database, rollout, actor=sent.who.name, reason=sent.reason, at=self.platform.clock.now()
            )  # fmt: skip
            return Done(f"/rollouts/{rollout}", told)

        return do

    def actions(self) -> list[Action]:
        """What can be done with a rollout."""
        deciders = (Role.OPERATOR, Role.APPROVER)
        return [
            Action("/rollouts/{rollout}/promote", self._act(acts.promote, "It goes on."), deciders),
            Action("/rollouts/{rollout}/pause", self._act(acts.pause, "It is held where it is."), (Role.OPERATOR,)),
            Action("/rollouts/{rollout}/abort", self._act(acts.abort, "All traffic goes back."), deciders),
        ]


def pages(rollouts: Rollouts) -> list[Page]:
    """The pages below /rollouts."""
    return [
        Page("/rollouts", "rollouts.html", rollouts.listed, live=True),
        Page("/rollouts/{rollout}", "rollout.html", rollouts.shown, live=True),
    ]


def step_words(step: Mapping[str, Any]) -> str:
    """A step as people say it."""
    if "setWeight" in step:
        return f"{step['setWeight']} %"
    for name in ("analysis", "pause", "test", "mirror"):
        if name in step:
            detail = step[name] if isinstance(step[name], Mapping) else {}
            words = {"pause": "pause", "analysis": "judge", "test": "test", "mirror": "mirror"}[name]
            return f"{words} {detail['duration']}" if detail.get("duration") else words
    return next(iter(step), "")


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
