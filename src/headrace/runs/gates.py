"""What a decided gate gives to the pipeline."""

from __future__ import annotations

from typing import Any

from headrace.governance.approvals import Gate


def outputs(gate: Gate, component: Any) -> dict[str, Any]:
    """The declared outputs of a gate's component: submitted values, defaults, `decision`, `decided_by`, `reason`."""
    last = gate.decisions[-1] if gate.decisions else None
    known = {
        "decision": gate.state,
        "decided_by": last.actor if last else "",
        "reason": last.reason if last else "",
        **{name: spec.get("default") for name, spec in gate.parameters.items()},
        **gate.values,
    }
    return {name: known.get(name) for name in component.output_definitions.parameters}
