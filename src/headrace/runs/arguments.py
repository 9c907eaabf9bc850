"""A run's parameters as the KFP API takes them: values of exactly the declared types, with macros for times.

Sources: validatePipelineJobInputs in KFP's backend/src/apiserver/template/v2_template.go, and
backend/src/common/util/parameter_formatter.go for the macros.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from headrace.contracts.pipeline_spec import PipelineDocument, values
from headrace.errors import UsageError

_KINDS: Mapping[int, tuple[str, type | tuple[type, ...]]] = {
    values.DOUBLE: ("double or integer", (int, float)),
    values.INTEGER: ("double or integer", (int, float)),
    values.STRING: ("string", str),
    values.BOOLEAN: ("bool", bool),
    values.LIST: ("list", list),
    values.STRUCT: ("struct", dict),
}
_MACRO = re.compile(r"\[\[(\w+)(?:\.(.*?))?\]\]|\{\{\$\.(\w+)\.strftime\('(.*?)'\)\}\}")
# Go's layout of a time is the time 2006-01-02 15:04:05 written in it.
_GO_LAYOUT = {"2006": "%Y", "01": "%m", "02": "%d", "15": "%H", "04": "%M", "05": "%S"}
_DEFAULT_LAYOUT = "%Y%m%d%H%M%S"


@dataclass(frozen=True)
class Moment:
    """What macros stand for. `scheduled_at` and `index` are known for a recurring run's runs only."""

    run_id: str
    now: float
    scheduled_at: float | None = None
    index: int | None = None


def check(document: PipelineDocument, given: Mapping[str, Any]) -> None:
    """Refuse what the pipeline does not take.

    Raises:
        UsageError: a parameter is missing, unknown, of another type, or none of the values that are allowed.
    """
    wanted = document.spec.root.input_definitions.parameters
    for name, definition in sorted(wanted.items()):
        if name in given:
            _check_value(name, definition, given[name])
        elif not definition.is_optional and not definition.HasField("default_value"):
            raise UsageError(
                f"parameter {name} is not optional, yet has neither default value nor user provided value",
                where="runtime_config.parameters",
                remedy=f"Give a {values.type_name(definition.parameter_type)}.",
            )
    unknown = sorted(set(given) - set(wanted))
    if unknown:
        raise UsageError(
            f"parameter(s) provided are not required by pipeline: {', '.join(unknown)}",
            where="runtime_config.parameters",
            remedy=f"Its parameters: {', '.join(sorted(wanted)) or 'none'}.",
        )


def with_macros(given: Mapping[str, Any], moment: Moment) -> dict[str, Any]:
    """The parameters with [[RunUUID]], [[CurrentTime]], [[ScheduledTime]] and [[Index]] in texts replaced.

    Times also take a layout: `[[ScheduledTime.2006-01-02]]` or `{{$.scheduledTime.strftime('%Y-%m-%d')}}`.
    What is not known stays as it is.
    """
    return {
        name: _MACRO.sub(lambda found: _meant(found, moment), value) if isinstance(value, str) else value
        for name, value in given.items()
    }


def _meant(found: re.Match[str], moment: Moment) -> str:
    name, layout, called, pattern = found.groups()
    seconds = {
        "CurrentTime": moment.now, "currentTime": moment.now,
        "ScheduledTime": moment.scheduled_at, "scheduledTime": moment.scheduled_at,
    }.get(name or called)  # fmt: skip
    if seconds is not None:
        wanted = pattern if pattern is not None else _from_go(layout) if layout else _DEFAULT_LAYOUT
        return datetime.fromtimestamp(seconds, UTC).strftime(wanted)
    known = {"RunUUID": moment.run_id, "Index": moment.index}.get(name or "")
    return found[0] if known is None or layout else str(known)


def _from_go(layout: str) -> str:
    return re.sub("|".join(_GO_LAYOUT), lambda part: _GO_LAYOUT[part[0]], layout.replace("%", "%%"))


def _check_value(name: str, definition: Any, value: Any) -> None:
    kind, types = _KINDS.get(definition.parameter_type, ("", ()))
    if not kind:
        raise UsageError(
            f"input parameter {name} is of a type which is invalid for root component",
            where="runtime_config.parameters",
            remedy="Compile the pipeline with another type for it.",
        )
    if not isinstance(value, types) or (isinstance(value, bool) and definition.parameter_type != values.BOOLEAN):
        raise UsageError(
            f"input parameter {name} requires type {kind}, but the parameter value is {value!r}",
            where="runtime_config.parameters",
            remedy=f"Give a JSON {_JSON_KINDS[definition.parameter_type]}.",
        )
    allowed = [values.from_message(literal, definition.parameter_type) for literal in _literals(definition)]
    if allowed and values.normal(value, definition.parameter_type) not in allowed:
        raise UsageError(
            f"input parameter {name} is {value!r}, and must be one of {', '.join(map(repr, allowed))}",
            where="runtime_config.parameters",
            remedy="Choose one of these.",
        )


_JSON_KINDS = {
    values.DOUBLE: "number", values.INTEGER: "number", values.STRING: "string", values.BOOLEAN: "boolean",
    values.LIST: "array", values.STRUCT: "object",
}  # fmt: skip


def _literals(definition: Any) -> list[Any]:
    # Older releases of the message have no such field.
    known = "literals" in definition.DESCRIPTOR.fields_by_name
    return list(definition.literals) if known else []
