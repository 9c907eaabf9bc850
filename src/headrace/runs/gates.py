"""Gates in a pipeline: what a `kfp://human-input` component asks, and what it gives once people have decided."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from headrace.contracts.pipeline_spec import values
from headrace.errors import HeadraceError
from headrace.governance.approvals import EXPIRY, Gate, needed

_ASKED = {
    "question": values.STRING, "description": values.STRING, "parameters": values.STRUCT, "required": values.INTEGER,
    "timeout_seconds": values.DOUBLE, "on_timeout": values.STRING,
}  # fmt: skip
_ON_TIMEOUT = ("approve", "reject")
_LONGEST_SECONDS = 100 * 365.25 * 24 * 3600


@dataclass(frozen=True)
class GateRequest:
    """What a gate asks. `timeout_seconds`: when nobody has decided by then, it is approved or rejected by itself."""

    question: str
    parameters: dict[str, Any] = field(default_factory=dict)
    evidence: dict[str, Any] = field(default_factory=dict)
    required: int = 1
    timeout_seconds: float | None = None
    approved_on_timeout: bool = False


def gate_request(
    arguments: Sequence[str], component: Any = None, fill: Callable[[Any], Any] = lambda value: value
) -> GateRequest:
    """Read the arguments of a gate's component.

    `arguments[0]` is JSON: {"question": …, "parameters": {name: {"description", "default", "enum"}}, "required": 1,
    "timeout_seconds": 3600, "on_timeout": "approve" or "reject"}, all of it optional; or the parameters alone, as in
    KFP's proposal for human input (https://github.com/kubeflow/pipelines/issues/14413). Then pairs of
    `--evidence.NAME` and a value. The types of the values are those of the component's outputs.

    `fill` replaces the placeholders in what was read of `arguments[0]`: it is read first, so that what a run was given
    cannot change what its gate demands. The other arguments have theirs replaced already.

    Raises:
        HeadraceError: `arguments[0]` is something else.
    """
    asked = fill(_json_or_text(arguments[0])) if arguments else ""
    if not isinstance(asked, dict):
        raise HeadraceError(
            f"a gate asks in a JSON object, and this is none: {asked}",
            remedy="An input stands in it between quotes, or is a dict and all of it.",
        )
    if asked and not _ASKED.keys() & asked.keys() and all(isinstance(spec, dict) for spec in asked.values()):
        asked = {"parameters": asked}
    asked = _checked(asked)
    request = GateRequest(
        question=asked.get("question") or asked.get("description") or _questions(asked) or "Go on?",
        parameters=_typed(asked.get("parameters", {}), component),
        evidence={
            name.removeprefix("--evidence."): _json_or_text(value)
            for name, value in zip(arguments[1::2], arguments[2::2], strict=False)
        },
        required=asked.get("required", 1),
        timeout_seconds=asked.get("timeout_seconds"),
        approved_on_timeout=asked.get("on_timeout") == "approve",
    )
    open_ended = needed(request.parameters, {})
    if request.approved_on_timeout and open_ended:
        raise HeadraceError(
            f"a gate cannot be approved by itself without a value for {', '.join(open_ended)}",
            remedy='Give it a "default", or let on_timeout be reject.',
        )
    return request


def outputs(gate: Gate, component: Any) -> dict[str, Any]:
    """The declared outputs of a gate's component: submitted values, defaults, `decision`, `decided_by`, `reason`."""
    last = gate.decisions[-1] if gate.decisions else None
    known = {
        "decision": gate.state,
        "decided_by": last.actor if last else EXPIRY,
        "reason": last.reason if last else "nobody has decided in time",
        **{name: spec.get("default") for name, spec in gate.parameters.items()},
        **gate.values,
    }
    return {name: known.get(name) for name in component.output_definitions.parameters}


def _typed(parameters: Mapping[str, Any], component: Any) -> dict[str, Any]:
    declared = component.output_definitions.parameters if component is not None else {}
    return {
        name: {**spec, "type": values.type_name(declared[name].parameter_type)} if name in declared else dict(spec)
        for name, spec in parameters.items()
    }


def _questions(asked: Mapping[str, Any]) -> str:
    """What the parameters' descriptions ask, when nothing else does."""
    return " ".join(spec["description"] for spec in asked.get("parameters", {}).values() if spec.get("description"))


def _checked(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What is asked, of the types that it has to have."""
    unknown = sorted(asked.keys() - _ASKED.keys())
    if unknown:
        raise HeadraceError(f"a gate knows no {', '.join(unknown)}", remedy=f"It knows {', '.join(_ASKED)}.")
    checked = {name: values.checked(value, _ASKED[name], f"{name} of a gate") for name, value in asked.items()}
    for name, spec in checked.get("parameters", {}).items():
        values.checked(spec, values.STRUCT, f"{name} of a gate")
        values.checked(spec.get("description", ""), values.STRING, f"description of {name}")
        values.checked(spec.get("enum", []), values.LIST, f"enum of {name}")
    if checked.get("required", 1) < 1:
        raise HeadraceError(f"a gate needs at least 1 approval, not {checked['required']}")
    seconds = checked.get("timeout_seconds", 1)
    # Also what is no number at all is not in between.
    if not 0 < seconds <= _LONGEST_SECONDS:
        raise HeadraceError(f"timeout_seconds of a gate is above 0 and at most 100 years, not {seconds}")
    if checked.get("on_timeout", "reject") not in _ON_TIMEOUT:
        raise HeadraceError(f"on_timeout of a gate is {' or '.join(_ON_TIMEOUT)}, not {checked['on_timeout']}")
    return checked


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
