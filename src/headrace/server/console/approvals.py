"""Approvals: what waits for a person, what is asked and why, and the decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from headrace.catalog.registry import ModelRegistry, cards
from headrace.catalog.registry.cards import Card
from headrace.errors import ConflictError, HeadraceError, NotFoundError, UsageError
from headrace.governance import approvals
from headrace.governance.approvals import Gate
from headrace.governance.rbac import Role
from headrace.project.wiring import Platform
from headrace.runs import queries
from headrace.server.console import evidence, forms
from headrace.server.console.actions import Action, Done, FormError, Submission
from headrace.server.console.evidence import Item
from headrace.server.console.forms import Field
from headrace.server.console.pages import Page
from headrace.server.console.patience import Patience
from headrace.server.requests import Call

DECIDED = 50


@dataclass(frozen=True)
class ApprovalsPage:
    """Gates as the API gives them, those that wait with `missing`, the approvals that they need still, and `run`, the
    id of the run that asks ("" for none); the newest `decided` first."""

    waiting: list[Mapping[str, Any]]
    decided: list[Mapping[str, Any]]


@dataclass(frozen=True)
class Difference:
    """What is not the same about the model that is asked about and the one that serves.

    `change` in words; `better`: None when that cannot be said. `same_data`: both were measured on the same rows.
    """

    name: str
    old: Any
    new: Any
    change: str = ""
    better: bool | None = None
    same_data: bool = False


@dataclass(frozen=True)
class ApprovalPage:
    """`model`: what is asked about, None when it is no model; `champion`: what serves, None when nothing does, or this
    very model. `same`: how many metrics and parameters are the same. `registry`: why it does not tell of them."""

    gate: Mapping[str, Any]
    run: Mapping[str, Any] | None
    task: str
    inputs: list[Field]
    missing: int
    evidence: list[Item]
    champion: Card | None
    model: Card | None
    metrics: list[Difference]
    parameters: list[Difference]
    same: int
    registry: str


class Approvals:
    """The data of the pages and what their forms do."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.database = platform.database
        self.patience = Patience(platform.registry)

    def listed(self, call: Call) -> ApprovalsPage:
        gates = approvals.gates(self.database)
        waiting: list[Mapping[str, Any]] = [
            {**gate.to_dict(), "missing": _missing(gate), "run": _run_of(gate)[0]}
            for gate in gates
            if gate.state == "waiting"
        ]
        closed = sorted((gate for gate in gates if gate.decided_at), key=lambda gate: -(gate.decided_at or 0))
        return ApprovalsPage(waiting, [gate.to_dict() for gate in closed[:DECIDED]])

    def shown(self, call: Call) -> ApprovalPage:
        gate = approvals.gate(self.database, call.path["gate"])
        (run_id, task), run = _run_of(gate), None
        if run_id:
            try:
                run = queries.run_row_json(queries.find(self.database, run_id))
            except NotFoundError:
                run = None
        champion, model, problem = self._models(gate.evidence)
        metrics, parameters, same = _differences(champion, model)
        return ApprovalPage(
            gate=gate.to_dict(), run=run, task=task, inputs=_inputs(gate), missing=_missing(gate),
            evidence=evidence.items(gate.evidence), champion=champion, model=model, metrics=metrics,
            parameters=parameters, same=same, registry=problem,
        )  # fmt: skip

    def _models(self, shown: Mapping[str, Any]) -> tuple[Card | None, Card | None, str]:
        """The champion and the model that the evidence names, and why the registry does not tell."""
        uris = [value for value in shown.values() if isinstance(value, str) and value.startswith("models:/")]
        if not uris:
            return None, None, ""

        def ask(registry: ModelRegistry) -> tuple[Card | None, Card]:
            version = registry.version(uris[0])
            model = cards.card(registry, version.name, version.version)
            champion = registry.champion(version.name)
            if champion is None or champion.version == version.version:
                return None, model
            return cards.card(registry, champion.name, champion.version), model

        try:
            return *self.patience.ask(ask), ""
        except HeadraceError as error:
            return None, None, error.problem

    def decide(self, sent: Submission) -> Done:
        """Write down a person's word about a gate."""
        approve = sent.fields.get("decision") == "approve"
        if not approve and sent.fields.get("decision") != "reject":
            raise UsageError("must be approve or reject", where="decision", remedy="Use the page's buttons.")
        if not approve and not sent.reason:
            raise UsageError("is needed to reject", where="reason", remedy="Say why; whoever asked will read it.")
        gate = approvals.gate(self.database, sent.path["gate"])
        try:
            gate = approvals.decide(
                self.database, gate.id, at=self.platform.clock.now(), actor=sent.who.name, approve=approve,
                reason=sent.reason, values=_typed(gate, sent.fields) if approve else {},
            )  # fmt: skip
        except ConflictError as error:
            raise _late(approvals.gate(self.database, gate.id), sent.who.name) from error
        told = {"approved": "Approved. It goes on.", "rejected": "Rejected."}
        return Done(f"/approvals/{gate.id}", told.get(gate.state, "Your word is on record; another one is needed."))


def pages(platform: Platform) -> list[Page]:
    """The pages below /approvals."""
    data = Approvals(platform)
    return [Page("/approvals", "approvals.html", data.listed, live=True), _page_of_one(data)]


def actions(platform: Platform) -> list[Action]:
    """The decision."""
    data = Approvals(platform)
    return [Action("/approvals/{gate}/decide", data.decide, (Role.APPROVER,), page=_page_of_one(data))]


def _page_of_one(data: Approvals) -> Page:
    return Page("/approvals/{gate}", "approval.html", data.shown, live=True)


def _missing(gate: Gate) -> int:
    return gate.required - sum(one.approved for one in gate.decisions)


def _run_of(gate: Gate) -> tuple[str, str]:
    """The id of the run whose task asks, and the task; "" for what is asked by something else."""
    parts = gate.subject.split("/", 3)
    return (parts[1], parts[3]) if parts[0] == "run" and len(parts) == 4 else ("", "")


def _late(gate: Gate, who: str) -> ConflictError:
    """What a person is told whose decision came too late."""
    if gate.state == "waiting":
        return ConflictError("You have decided about this already.", remedy="The other approval is another person's.")
    spoken = [one.actor for one in gate.decisions if one.approved == (gate.state == "approved")]
    by = ", ".join(spoken) if spoken and gate.state != "expired" else "the clock, as nobody had decided in time"
    return ConflictError(
        f"Your decision came too late: it is {gate.state} already, by {'you' if by == who else by}.",
        remedy="That one stands; yours is not on record.",
    )


# Of the words that a gate's parameters have for types (contracts.pipeline_spec.values).
_KINDS = {
    "int": "NUMBER_INTEGER", "float": "NUMBER_DOUBLE", "bool": "BOOLEAN", "list": "LIST", "dict": "STRUCT",
}  # fmt: skip


def _inputs(gate: Gate) -> list[Field]:
    """What the gate's parameters ask for. Only the last approval that it needs must leave none of them open."""
    made = []
    for name, asked in gate.parameters.items():
        definition = {
            "parameterType": _KINDS.get(str(asked.get("type", "")), "STRING"),
            "description": asked.get("description", ""), "literals": asked.get("enum") or (),
            **({"defaultValue": asked["default"]} if "default" in asked else {}),
        }  # fmt: skip
        made.append(forms.field_of(name, definition, gate.values))
    return [replace(one, required=one.required and _missing(gate) == 1) for one in made]


def _typed(gate: Gate, fields: Mapping[str, str]) -> dict[str, Any]:
    """What was filled in, of the types that the gate asks for. Who leaves a field empty gives no value.

    Raises:
        FormError: fields do not hold what the gate asks for.
    """
    inputs = _inputs(gate)
    given = {name: text for name, text in fields.items() if text != ""}
    empty = [one.name for one in inputs if one.required and forms.PREFIX + one.name not in given]
    if empty:
        raise FormError(dict.fromkeys(empty, "needs a value"))
    found = forms.read(inputs, given)
    for name, value in found.items():
        # A choice without a type is what it is in the gate's list.
        choices = gate.parameters[name].get("enum") or ()
        found[name] = next((one for one in choices if forms.text_of(one) == value), value)
    return found


def _differences(champion: Card | None, model: Card | None) -> tuple[list[Difference], list[Difference], int]:
    """Metrics and parameters that are not the same, and how many are.

    A model that was measured beside its champion has the champion's metric as `champion_NAME`, on the same rows. The
    metrics in the registry are each of the data of its own run, and say less.
    """
    if champion is None or model is None:
        return [], [], 0
    beside = {name for name in model.metrics if f"champion_{name}" in model.metrics}
    metrics = []
    for name in sorted(beside):
        metrics.append(_measured(name, model.metrics[f"champion_{name}"], model.metrics[name], same_data=True))
    same = 0
    for name in sorted({*champion.metrics, *model.metrics} - beside):
        if name.startswith("champion_"):
            continue
        old, new = champion.metrics.get(name), model.metrics.get(name)
        same += old == new
        if old != new:
            metrics.append(_measured(name, old, new))
    parameters = []
    # The version of the data is told beside them.
    for name in sorted({*champion.parameters, *model.parameters} - {"data_version"}):
        before, now = champion.parameters.get(name), model.parameters.get(name)
        same += before == now
        if before != now:
            parameters.append(Difference(name, before, now))
    return metrics, parameters, same


def _measured(name: str, old: float | None, new: float | None, *, same_data: bool = False) -> Difference:
    return Difference(name, old, new, evidence.change(old, new), evidence.better(name, old, new), same_data)
