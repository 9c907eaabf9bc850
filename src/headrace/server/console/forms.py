"""Forms whose fields have the types of a pipeline's inputs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.errors import UsageError
from headrace.server.json_text import json_text

PREFIX = "p."


@dataclass(frozen=True)
class Field:
    """A field for one parameter. `kind`: KFP's ParameterType; `text` is what stands in it; `choices`: all there is."""

    name: str
    kind: str
    text: str
    required: bool
    description: str = ""
    choices: tuple[str, ...] = ()


def fields(definitions: Mapping[str, Mapping[str, Any]], values: Mapping[str, Any]) -> list[Field]:
    """A field for each input of a pipeline (ComponentInputsSpec.ParameterSpec by name), filled with `values`."""
    made = []
    for name, definition in definitions.items():
        value = values.get(name, definition.get("defaultValue"))
        required = "defaultValue" not in definition and not definition.get("isOptional", False)
        kind = str(definition.get("parameterType", "STRING"))
        made.append(Field(name, kind, _text(value), required, str(definition.get("description", ""))))
    return made


def read(asked: Sequence[Field], sent: Mapping[str, str]) -> dict[str, Any]:
    """The values that were sent, of the fields' types; an empty field that is not required is left out.

    Raises:
        UsageError: a field does not hold what its type needs.
    """
    found = {}
    for field in asked:
        text = sent.get(PREFIX + field.name)
        if text is None or (text == "" and not field.required and field.kind != "STRING"):
            continue
        found[field.name] = _value(field, text)
    return found


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json_text(value)


def _value(field: Field, text: str) -> Any:
    if field.kind in ("STRING", "TASK_FINAL_STATUS"):
        return text
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    wanted = _KINDS.get(field.kind)
    if wanted is not None:
        types, words = wanted
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise UsageError(f"must be {words}", where=field.name, remedy="Go back, and correct it.")
    return float(value) if field.kind == "NUMBER_DOUBLE" else value


_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "NUMBER_INTEGER": ((int,), "a whole number"),
    "NUMBER_DOUBLE": ((int, float), "a number"),
    "BOOLEAN": ((bool,), "true or false"),
    "LIST": ((list,), "a list, as JSON"),
    "STRUCT": ((dict,), "an object, as JSON"),
}
