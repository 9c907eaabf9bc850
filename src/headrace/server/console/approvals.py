"""Approvals: what waits for a person, what is asked and why, and the decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headrace.catalog.registry import cards
from headrace.catalog.registry.cards import Card
from headrace.errors import HeadraceError, NotFoundError, UsageError
from headrace.governance import approvals
from headrace.governance.rbac import Role
from headrace.project.wiring import Platform
from headrace.runs import queries
from headrace.server.console.actions import Action, Done, Submission
from headrace.server.console.forms import PREFIX, Field
from headrace.server.console.pages import Page
from headrace.server.json_text import json_text
from headrace.server.requests import Call

DECIDED = 50


@dataclass(frozen=True)
class ApprovalsPage:
    """Gates as the API gives them; the newest `decided` first."""

    waiting: list[Mapping[str, Any]]
    decided: list[Mapping[str, Any]]


@dataclass(frozen=True)
class Difference:
    """A metric or a parameter of the model that is asked about and of the one that serves. `better`: None when that
    cannot be said."""

    name: str
    old: Any
    new: Any
    better: bool | None


@dataclass(frozen=True)
class ApprovalPage:
    """`champion` and `model`: what serves, and what is asked about; None when the gate is not about a model."""

    gate: Mapping[str, Any]
    run: Mapping[str, Any] | None
    task: str
    inputs: list[Field]
    missing: int
    champion: Card | None
    model: Card | None
    differences: list[Difference]
    registry: str


class Approvals:
    """The data of the pages and what their forms do."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.database = platform.database

    def listed(self, call: Call) -> ApprovalsPage:
        gates: list[Mapping[str, Any]] = [gate.to_dict() for gate in approvals.gates(self.database)]
        decided = [gate for gate in gates if gate["state"] != "waiting"]
        return ApprovalsPage([gate for gate in gates if gate["state"] == "waiting"], decided[::-1][:DECIDED])

    def shown(self, call: Call) -> ApprovalPage:
        gate = approvals.gate(self.database, call.path["gate"])
        told = gate.to_dict()
        run, task = None, ""
        if gate.subject.startswith("run/"):
            _, run_id, _, task = gate.subject.split("/", 3)
            try:
                run = queries.run_row_json(queries.find(self.database, run_id))
            except NotFoundError:
                run = None
        champion, model, problem = self._models(gate.evidence)
        return ApprovalPage(
            gate=told, run=run, task=task, inputs=[_field(name, asked) for name, asked in gate.parameters.items()],
            missing=gate.required - sum(one.approved for one in gate.decisions),
            champion=champion, model=model, differences=_differences(champion, model), registry=problem,
        )  # fmt: skip

    def _models(self, evidence: Mapping[str, Any]) -> tuple[Card | None, Card | None, str]:
        """The champion and the model that the evidence names, and why the registry does not tell."""
        uris = [value for value in evidence.values() if isinstance(value, str) and value.startswith("models:/")]
        if not uris:
            return None, None, ""
        registry = self.platform.registry
        try:
            version = registry.version(uris[0])
            champion = registry.champion(version.name)
            model = cards.card(registry, version.name, version.version)
            same = champion is None or champion.version == version.version
            return (
                None if same or champion is None else cards.card(registry, champion.name, champion.version),
                model,
                "",
            )
        except HeadraceError as error:
            return None, None, error.problem

    def decide(self, sent: Submission) -> Done:
        approve = sent.fields.get("decision") == "approve"
        if not approve and sent.fields.get("decision") != "reject":
            raise UsageError("must be approve or reject", where="decision", remedy="Use the page's buttons.")
        if not approve and not sent.reason:
            raise UsageError("is needed to reject", where="reason", remedy="Go back, and say why.")
        values = {
            name.removeprefix(PREFIX): value
            for name, value in sent.fields.items()
            if name.startswith(PREFIX) and value != ""
        }
        gate = approvals.decide(
            self.database, sent.path["gate"], at=self.platform.clock.now(), actor=sent.who.name, approve=approve,
            reason=sent.reason, values=values if approve else {},
        )  # fmt: skip
        told = {"approved": "Approved. It goes on.", "rejected": "Rejected."}
        return Done(f"/approvals/{gate.id}", told.get(gate.state, "Your word is on record; another one is needed."))


def pages(platform: Platform) -> list[Page]:
    """The pages below /approvals."""
    data = Approvals(platform)
    return [
        Page("/approvals", "approvals.html", data.listed, live=True),
        Page("/approvals/{gate}", "approval.html", data.shown, live=True),
    ]


def actions(platform: Platform) -> list[Action]:
    """The decision."""
    return [Action("/approvals/{gate}/decide", Approvals(platform).decide, (Role.APPROVER,))]


def _field(name: str, asked: Mapping[str, Any]) -> Field:
    value = asked.get("default")
    text = "" if value is None else value if isinstance(value, str) else json_text(value)
    choices = tuple(str(choice) for choice in asked.get("enum") or ())
    kind = {"bool": "BOOLEAN", "boolean": "BOOLEAN"}.get(str(asked.get("type", "")).lower(), "STRING")
    return Field(name, kind, text, "default" not in asked, str(asked.get("description", "")), choices)


def _differences(champion: Card | None, model: Card | None) -> list[Difference]:
    if champion is None or model is None:
        return []
    found = []
    for old, new in ((champion.metrics, model.metrics), (champion.parameters, model.parameters)):
        for name in sorted({*old, *new}):
            if old.get(name) != new.get(name):
                found.append(
                    Difference(name, old.get(name), new.get(name), _better(name, old.get(name), new.get(name)))
                )
    return found


def _better(name: str, old: Any, new: Any) -> bool | None:
    """Whether a metric went the right way, where its name says which way that is."""
    if not isinstance(old, int | float) or not isinstance(new, int | float):
        return None
    words = name.lower()
    if words.startswith("champion"):  # of the model that served when it was evaluated
        return None
    if any(word in words for word in ("loss", "error", "rmse", "mae", "mse", "brier")):
        return new < old
    if any(word in words for word in ("auc", "accuracy", "precision", "recall", "f1", "r2", "score")):
        return new > old
    return None
