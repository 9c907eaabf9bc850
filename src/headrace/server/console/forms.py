"""Forms whose fields have the types of a pipeline's inputs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.contracts.pipeline_spec import PipelineDocument
from headrace.contracts.pipeline_spec import values as values_of
from headrace.server.console.actions import FormError
from headrace.server.json_text import json_text

PREFIX = "p."


@dataclass(frozen=True)
class Field:
    """A field for one parameter. `kind`: KFP's ParameterType; `text` is what stands in it; `choices`: all there is.

    `otherwise`: where the value comes from when the field is left empty; "" when it is then an empty text or a default.
    """

    name: str
    kind: str
    text: str
    required: bool
    description: str = ""
    choices: tuple[str, ...] = ()
    otherwise: str = ""


def fields(
    document: PipelineDocument, values: Mapping[str, Any], otherwise: Mapping[str, str] | None = None
) -> list[Field]:
    """A field for each input of a pipeline, filled with `values`.

    `otherwise` says of some from where their values come when nobody gives them.
    """
    from google.protobuf import json_format

    told = json_format.MessageToDict(document.spec.root.input_definitions).get("parameters", {})
    # A map of protobuf has no order.
    return [field_of(name, told[name], values, (otherwise or {}).get(name, "")) for name in sorted(told)]


def field_of(name: str, definition: Mapping[str, Any], values: Mapping[str, Any], elsewhere: str = "") -> Field:
    """A field for an input that is described as in ComponentInputsSpec.ParameterSpec."""
    value = None if elsewhere else values.get(name, definition.get("defaultValue"))
    known = "defaultValue" in definition or name in values or bool(elsewhere)
    required = not known and not definition.get("isOptional", False)
    kind = str(definition.get("parameterType", "STRING"))
    choices = tuple(text_of(choice, kind) for choice in definition.get("literals", ()))
    text, description = text_of(value, kind), str(definition.get("description", ""))
    return Field(name, kind, text, required, description, choices, elsewhere)


def read(asked: Sequence[Field], sent: Mapping[str, str]) -> dict[str, Any]:
    """The values that were sent, of the fields' types; an empty field that is not required is left out.

    Raises:
        FormError: fields do not hold what their types need.
    """
    found, wrong = {}, {}
    for field in asked:
        text = typed(sent, field.name)
        may_be_empty = field.kind == "STRING" and not field.choices and not field.otherwise
        if text is None or (text == "" and not may_be_empty and not field.required):
            continue
        try:
            found[field.name] = _value(field, text)
        except ValueError as error:
            wrong[field.name] = str(error)
    if wrong:
        raise FormError(wrong)
    return found


def changed(asked: Sequence[Field], sent: Mapping[str, str]) -> dict[str, Any]:
    """What was sent and differs from what stood in the fields. Raises FormError."""
    before = {field.name: field.text.replace("\r\n", "\n") for field in asked}
    return {name: value for name, value in read(asked, sent).items() if typed(sent, name) != before[name]}


def typed(sent: Mapping[str, str], name: str) -> str | None:
    """What was typed for a parameter; None when it was not asked for. A browser sends lines with CR LF."""
    text = sent.get(PREFIX + name)
    return None if text is None else text.replace("\r\n", "\n")


def text_of(value: Any, kind: str = "") -> str:
    """A value as it stands in its field."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json_text(values_of.normal(value, _number(kind)))


def _value(field: Field, text: str) -> Any:
    """Raises ValueError: the text is of another type, or none of the choices; its message says what it must be."""
    if field.choices and text not in field.choices:
        raise ValueError(f"must be one of {', '.join(field.choices)}")
    if field.kind in ("STRING", "TASK_FINAL_STATUS"):
        return text
    try:
        value = values_of.normal(json.loads(text), _number(field.kind))
    except ValueError:
        value = None
    types, words = _KINDS.get(field.kind, ((object,), "JSON"))
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types and object not in types):
        raise ValueError(f"must be {words}")
    return value


def _number(kind: str) -> int:
    return values_of.DOUBLE if kind == "NUMBER_DOUBLE" else 0


_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "NUMBER_INTEGER": ((int,), "a whole number"),
    "NUMBER_DOUBLE": ((int, float), "a number"),
    "BOOLEAN": ((bool,), "true or false"),
    "LIST": ((list,), "a list, as JSON"),
    "STRUCT": ((dict,), "an object, as JSON"),
}
