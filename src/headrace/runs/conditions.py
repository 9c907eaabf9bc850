"""Conditions and selectors of the IR, by a real CEL implementation (https://cel.dev)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from headrace.errors import HeadraceError


class ConditionError(HeadraceError):
    """An expression of the pipeline that cannot be evaluated over its inputs."""


def holds(expression: str, parameters: Mapping[str, Any]) -> bool:
    """Whether a trigger policy's condition is true over a task's own inputs.

    Raises:
        ConditionError: it fails, or is not a truth value.
    """
    outcome = _evaluate(expression, {"inputs": {"parameter_values": dict(parameters)}})
    if not isinstance(outcome, bool):
        raise ConditionError(f"the condition is not a truth value: {expression}")
    return outcome


def select(expression: str, value: Any) -> Any:
    """The part of a parameter that a `parameterExpressionSelector` names, as in `parseJson(string_value)["a"]`.

    Raises:
        ConditionError: there is no such part.
    """
    text = value if isinstance(value, str) else json.dumps(value)
    return _evaluate(expression, {"string_value": text})


def _evaluate(expression: str, variables: dict[str, Any]) -> Any:
    import cel

    context = cel.Context(variables=variables, functions={"parseJson": json.loads})
    try:
        return cel.evaluate(expression, context)
    except (ValueError, RuntimeError, TypeError, KeyError) as error:
        raise ConditionError(f"{expression} cannot be evaluated: {error}") from error
