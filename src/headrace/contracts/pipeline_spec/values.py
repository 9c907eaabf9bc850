"""Parameter values: protobuf `Value` messages, Python values and their KFP types.

Rule for numbers: NUMBER_DOUBLE is a float, every other whole number is an int, also inside lists and structs.
"""

from __future__ import annotations

import json
from typing import Any

from headrace.errors import UsageError

# ParameterType.ParameterTypeEnum of pipeline_spec.proto
DOUBLE, INTEGER, STRING, BOOLEAN, LIST, STRUCT, FINAL_STATUS = 1, 2, 3, 4, 5, 6, 7
_NAMES = {DOUBLE: "float", INTEGER: "int", STRING: "str", BOOLEAN: "bool", LIST: "list", STRUCT: "dict"}


def type_name(parameter_type: int) -> str:
    """The Python word for a ParameterTypeEnum."""
    return _NAMES.get(parameter_type, "value")


def type_named(word: str) -> int:
    """The ParameterTypeEnum for a Python word; 0 for any other, which stands for every type."""
    return next((number for number, name in _NAMES.items() if name == word), 0)


def from_message(value: Any, parameter_type: int = 0) -> Any:
    """The Python value of a `google.protobuf.Value`; a struct has no order of its own, so its keys are sorted."""
    from google.protobuf import json_format

    return normal(_sorted(json_format.MessageToDict(value)), parameter_type)


def normal(value: Any, parameter_type: int = 0) -> Any:
    """`value` with its numbers by the rule above."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        if parameter_type == DOUBLE:
            return float(value)
        return int(value) if isinstance(value, float) and value.is_integer() else value
    if isinstance(value, list):
        return [normal(item) for item in value]
    if isinstance(value, dict):
        return {key: normal(item) for key, item in value.items()}
    return value


def checked(value: Any, parameter_type: int, name: str) -> Any:
    """A value that a person gave, as its type wants it; text is read as JSON where the type is not a string.

    Raises:
        UsageError: it is of another type.
    """
    wanted: dict[int, type | tuple[type, ...]] = {
        DOUBLE: (int, float), INTEGER: int, STRING: str, BOOLEAN: bool, LIST: list, STRUCT: dict,
    }  # fmt: skip
    if parameter_type not in wanted:
        return value
    read = _read(value) if isinstance(value, str) and parameter_type != STRING else value
    read = normal(read, parameter_type)
    is_bool = isinstance(read, bool)
    if not isinstance(read, wanted[parameter_type]) or (is_bool and parameter_type != BOOLEAN):
        raise UsageError(
            f"parameter {name} must be of type {type_name(parameter_type)}, not {value!r}",
            remedy="Lists and dicts are written as JSON." if parameter_type in (LIST, STRUCT) else "",
        )
    return read


def from_text(text: str, parameter_type: int) -> Any:
    """What a component wrote into an output parameter's file."""
    if parameter_type == STRING:
        return text
    try:
        return normal(json.loads(text), parameter_type)
    except ValueError:
        lowered = text.strip().lower()
        if parameter_type == BOOLEAN and lowered in ("true", "false"):
            return lowered == "true"
        return text


def to_text(value: Any) -> str:
    """A value inside a command line or a longer text: strings as they are, the rest as compact JSON."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _sorted(value: Any) -> Any:
    if isinstance(value, list):
        return [_sorted(item) for item in value]
    return {key: _sorted(value[key]) for key in sorted(value)} if isinstance(value, dict) else value


def _read(text: str) -> Any:
    lowered = text.strip().lower()
    if lowered in ("true", "false"):
        return lowered == "true"
    try:
        return json.loads(text)
    except ValueError:
        return text
