"""Rollouts: the picture of a move from one revision to the next, and what a person may do about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from headrace.contracts.rollout import Rollout
from headrace.control.rollouts import actions as acts
from headrace.control.rollouts import judging, queries, rows
from headrace.governance.rbac import Role
from headrace.project.wiring import Platform
from headrace.quality.analysis.judge import compared
from headrace.server.console.actions import Action, Done, Submission
from headrace.server.console.pages import Page
from headrace.server.requests import Call
from headrace.serving import payload_log
from headrace.serving.payload_log import LabelCounts
from headrace.serving.traffic import Figures, Traffic
from headrace.store import events

LISTED = 100
# A curve has so many points at most.
POINTS = 200
# Where nothing is counted, labels are those of so many of the newest predictions.
LABELS = 20_000
_ENDS = {"Healthy": 100, "Degraded": 0, "Aborted": 0}


@dataclass(frozen=True)
class RolloutsPage:
    rollouts: list[Mapping[str, Any]]


@dataclass(frozen=True)
class Curve:
    """The test of a metric as it ran. Times in unix seconds.

    It fails when the e-value reaches `limit`. `ratios` are estimates of the new revision's rate over the old one's,
    which lies between `low` and `high`; below `margin` it counts as no worse. `words` say the newest of them.
    """

    metric: str
    limit: float
    margin: float
    words: str
    at: list[float]
    e_values: list[float]
    ratios: list[float | None]
    low: list[float]
    high: list[float]


@dataclass(frozen=True)
class RolloutPage:
    """`weights`: since when (unix seconds) which share was in force. `until`: where the time axis ends.

    `right`: by arm, how late labels of its predictions turned out; without an arm that has none. `events`: by metric,
    what its events are, in words.
    """

    rollout: Mapping[str, Any]
    steps: list[str]
    weights: list[tuple[float, int]]
    begun: float
    until: float
    curves: list[Curve]
    stable: Figures | None
    canary: Figures | None
    right: Mapping[str, LabelCounts]
    events: Mapping[str, str]


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
        document = rows.rollout(self.database, told["id"]).document
        begun = _seconds(told["created_at"])
        until = _seconds(told["finished_at"]) if told["finished_at"] else self._seen(told["id"], begun)
        active = told["finished_at"] is None
        return RolloutPage(
            rollout=told, steps=[step_words(step) for step in told["steps"]], weights=self._weights(told),
            begun=begun, until=until, curves=self._curves(told["id"], document),
            stable=self._figures(told["from"]) if active else None,
            canary=self._figures(told["to"]) if active else None, right=self._right(told),
            events={name: judging.events(document, name) for name in told["counts"]},
        )  # fmt: skip

    def _right(self, told: Mapping[str, Any]) -> dict[str, LabelCounts]:
        """As counted; where nothing is counted side by side, what the log holds of each revision."""
        counted = told["counts"].get("labels") or told["counts"].get(judging.ALONE + "labels")
        if counted:
            found = {arm: LabelCounts(of["requests"], of["events"]) for arm, of in counted.items()}
        elif told["from"] is None or told["strategy"] == "blueGreen":
            logged = payload_log.label_counts(self.platform.home, told["service"], newest=LABELS)
            arms = {"canary": told["to"], "stable": told["from"]}
            found = {arm: logged[one["id"]] for arm, one in arms.items() if one and one["id"] in logged}
        else:
            found = {}
        return {arm: labels for arm, labels in found.items() if labels.labelled}

    def _figures(self, revision: Mapping[str, Any] | None) -> Figures | None:
        return self.traffic.now([revision["id"]]) if self.traffic and revision else None

    def _seen(self, rollout_id: str, begun: float) -> float:
        """When it was last counted: nothing after that is known yet."""
        row = self.database.one("SELECT max(at) AS at FROM rollout_window WHERE rollout_id = ?", (rollout_id,))
        return max(begun, row["at"] or begun) if row else begun

    def _weights(self, told: Mapping[str, Any]) -> list[tuple[float, int]]:
        log = events.read(self.database, subject=f"rollout/{told['id']}", kinds=["rollout.weight"], limit=1000)
        weights = [(event.at, int(event.data["weight"])) for event in log]
        end = _ENDS.get(told["state"], 0)
        if told["finished_at"] and (not weights or weights[-1][1] != end):
            weights.append((_seconds(told["finished_at"]), end))
        return weights

    def _curves(self, rollout_id: str, document: Rollout) -> list[Curve]:
        judged = judging.judged_on_both(document)
        found: dict[str, list[Mapping[str, Any]]] = {}
        for window in queries.windows_json(self.database, rollout_id, points=POINTS):
            if window["metric"] in judged:
                found.setdefault(window["metric"], []).append(window)
        return [
            Curve(
                metric=name,
                limit=windows[-1]["limit"],
                margin=judged[name][1].margin,
                words=compared(judged[name][1], windows[-1]["ratio_interval"], judging.unit(document, name)),
                at=[_seconds(one["at"]) for one in windows],
                e_values=[one["e_value"] for one in windows],
                ratios=[one["ratio"] for one in windows],
                low=[one["ratio_interval"][0] for one in windows],
                high=[one["ratio_interval"][1] for one in windows],
            )
            for name, windows in found.items()
        ]

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
