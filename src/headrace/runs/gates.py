"""Gates in a pipeline: what a `kfp://human-input` component asks, and what it gives once people have decided."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from headrace.contracts.pipeline_spec import values
from headrace.errors import HeadraceError
from headrace.governance.approvals import EXPIRY, Gate

_ASKED = {"question", "description", "parameters", "required", "timeout_seconds", "on_timeout"}
_ON_TIMEOUT = ("approve", "reject")


@dataclass(frozen=True)
class GateRequest:
    """What a gate asks. `timeout_seconds`: when nobody has decided by then, it is approved or rejected by itself."""

    question: str
    parameters: dict[str, Any] = field(default_factory=dict)
    evidence: dict[str, Any] = field(default_factory=dict)
    required: int = 1
    timeout_seconds: float | None = None
    approved_on_timeout: bool = False


def gate_request(arguments: list[str], component: Any = None) -> GateRequest:
    """Read the arguments of a gate's component, placeholders filled in.

    `arguments[0]` is JSON: {"question": …, "parameters": {name: {"description", "default", "enum"}}, "required": 1,
    "timeout_seconds": 3600, "on_timeout": "approve" or "reject"}, all of it optional; or the parameters alone, as in
    KFP's proposal for human input (https://github.com/kubeflow/pipelines/issues/14413). Then pairs of
    `--evidence.NAME` and a value. The types of the values are those of the component's outputs.

    Raises:
        HeadraceError: `arguments[0]` is something else.
    """
    asked = _json_or_text(arguments[0]) if arguments else ""
    if not isinstance(asked, dict):
        raise HeadraceError(f"a gate asks in a JSON object, and this is none: {asked}")
    if asked and not _ASKED & set(asked) and all(isinstance(spec, dict) for spec in asked.values()):
        asked = {"parameters": asked}
    evidence = {
        name.removeprefix("--evidence."): _json_or_text(value)
        for name, value in zip(arguments[1::2], arguments[2::2], strict=False)
    }
    return GateRequest(
        question=asked.get("question") or asked.get("description") or _questions(asked) or "Go on?",
        parameters=_typed(asked.get("parameters", {}), component),
        evidence=evidence,
        required=int(asked.get("required", 1)),
        timeout_seconds=_timeout(asked),
        approved_on_timeout=asked.get("on_timeout") == "approve",
    )


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


def _timeout(asked: Mapping[str, Any]) -> float | None:
    seconds, then = asked.get("timeout_seconds"), asked.get("on_timeout", "reject")
    if then not in _ON_TIMEOUT:
        raise HeadraceError(f"on_timeout of a gate is approve or reject, not {then}")
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds <= 0:
        raise HeadraceError(f"timeout_seconds of a gate is a number above 0, not {seconds}")
    return float(seconds)


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
