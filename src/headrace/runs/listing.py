"""Lists in pages, sorted and filtered as KFP's API does it.

Sources: ListRunsRequest in KFP's backend/api/v2beta1/run.proto (page_token, page_size, sort_by) and filter.proto.
"""

from __future__ import annotations

import base64
import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import unquote_plus

from headrace.errors import UsageError
from headrace.store.database import Database

DEFAULT_PAGE_SIZE = 20
MAX_PAGE_SIZE = 200
_LARGEST_INTEGER = 2**63 - 1  # SQLite's

TEXT, TIME = "text", "time"

# Predicate.Operation of filter.proto, by number and by name.
_OPERATIONS = {
    1: "EQUALS", 2: "NOT_EQUALS", 3: "GREATER_THAN", 5: "GREATER_THAN_EQUALS", 6: "LESS_THAN",
    7: "LESS_THAN_EQUALS", 8: "IN", 9: "IS_SUBSTRING",
}  # fmt: skip
_COMPARISONS = {
    "EQUALS": "=", "NOT_EQUALS": "!=", "GREATER_THAN": ">", "GREATER_THAN_EQUALS": ">=", "LESS_THAN": "<",
    "LESS_THAN_EQUALS": "<=",
}  # fmt: skip
_SCALARS = {"int_value", "long_value", "string_value", "timestamp_value"}
_ARRAYS = {"int_values", "long_values", "string_values"}
_CAMEL: Mapping[str, str] = {
    "".join([word if n == 0 else word.title() for n, word in enumerate(name.split("_"))]): name
    for name in _SCALARS | _ARRAYS
}
_EXAMPLE = '{"predicates": [{"operation": "EQUALS", "key": "display_name", "string_value": "x"}]}'


@dataclass(frozen=True)
class Field:
    """A field that can be sorted and filtered by: an SQL expression that is never NULL, and its kind."""

    sql: str
    kind: str = TEXT


@dataclass(frozen=True)
class Listable:
    """A table whose rows are listed; `key` makes the order total."""

    table: str
    fields: Mapping[str, Field]
    key: str = "id"
    sort: str = "created_at"


@dataclass(frozen=True)
class ListQuery:
    """What a client asks of a list: `sort_by` is "field", "field asc" or "field desc", `filter` a JSON Filter."""

    page_size: int = 0
    page_token: str = ""
    sort_by: str = ""
    filter: str = ""


@dataclass(frozen=True)
class Page:
    """The rows of one page, how many there are in all, and the token of the next page ("" after the last)."""

    rows: list[dict[str, Any]]
    total_size: int
    next_page_token: str


@dataclass(frozen=True)
class Condition:
    """A piece of a WHERE clause with its parameters."""

    sql: str
    parameters: tuple[Any, ...] = ()


@dataclass(frozen=True)
class _Order:
    field: str
    descending: bool


def page(
    database: Database, listable: Listable, query: ListQuery, conditions: Sequence[Condition] = ()
) -> Page:  # fmt: skip
    """One page of a table's rows that fulfil the conditions and the query's filter.

    Raises:
        UsageError: the page size, token, sorting or filter is wrong.
    """
    size = _page_size(query.page_size)
    order, filter_text, start = _asked(listable, query)
    wanted = [*conditions, *filter_conditions(listable, filter_text)]
    total = database.one(f"SELECT count(*) AS n FROM {listable.table}{_where(wanted)}", _values(wanted))
    if start is not None:
        wanted.append(_from(listable, order, start))
    direction = "DESC" if order.descending else "ASC"
    sort = listable.fields[order.field].sql
    rows = database.query(
        f"SELECT *, {sort} AS sort_value FROM {listable.table}{_where(wanted)}"
        f" ORDER BY sort_value {direction}, {listable.key} {direction} LIMIT ?",
        (*_values(wanted), size + 1),
    )
    following = rows[size] if len(rows) > size else None
    token = "" if following is None else _token(order, filter_text, following["sort_value"], following[listable.key])
    return Page([dict(row) for row in rows[:size]], int(total["n"]) if total else 0, token)


def filter_conditions(listable: Listable, text: str) -> list[Condition]:
    """The conditions that a JSON Filter stands for; enum values as numbers or names, keys in either spelling.

    Raises:
        UsageError: it is no Filter, or names a field that cannot be filtered by.
    """
    if not text:
        return []
    wanted = _json(text)
    if not isinstance(wanted, dict) or not isinstance(wanted.get("predicates", []), list):
        raise UsageError("is not a filter", where="filter", remedy=f"As in: {_EXAMPLE}")
    return [_condition(listable, predicate) for predicate in wanted.get("predicates", [])]


def moment(value: object, where: str) -> float:
    """An RFC 3339 time with its zone as unix seconds. Raises UsageError."""
    try:
        if isinstance(value, str) and (parsed := datetime.fromisoformat(value)).tzinfo is not None:
            seconds = parsed.timestamp()
            if 0 <= seconds < _LATEST:
                return seconds
    except (ValueError, OverflowError):
        pass
    raise UsageError(
        f"{value!r} is not a time between 1970 and 2999", where=where, remedy="As in: 2026-11-23T08:38:09Z"
    )


_LATEST = datetime.fromisoformat("3000-01-01T00:00:00+00:00").timestamp()


def _json(text: str) -> Any:
    # Clients that encode the filter by themselves send it encoded twice.
    for candidate in (text, unquote_plus(text)):
        with contextlib.suppress(ValueError):
            return _loads(candidate)
    raise UsageError("is not JSON", where="filter", remedy=f"As in: {_EXAMPLE}")


def _loads(text: str | bytes) -> Any:
    # Unlike Python's own parser, this one refuses text that cannot be stored (lone surrogates) and NaN.
    import orjson

    return orjson.loads(text)


def _condition(listable: Listable, predicate: object) -> Condition:
    if not isinstance(predicate, dict):
        raise UsageError("a predicate must be an object", where="filter", remedy=f"As in: {_EXAMPLE}")
    named: dict[str, Any] = {_CAMEL.get(str(name), str(name)): value for name, value in predicate.items()}
    operation, key = _operation(named.pop("operation", 0)), named.pop("key", "")
    field = listable.fields.get(key) if isinstance(key, str) else None
    if field is None:
        raise UsageError(
            f'no support for filtering on unrecognized field "{key}"',
            where="filter",
            remedy=f"Fields: {', '.join(listable.fields)}.",
        )
    if len(named) != 1 or not set(named) <= _SCALARS | _ARRAYS:
        raise UsageError("a predicate has exactly one value", where="filter", remedy=f"As in: {_EXAMPLE}")
    kind, value = named.popitem()
    if operation == "IN":
        return _any_of(field, kind, value)
    if kind in _ARRAYS:
        raise UsageError(
            f"cannot use scalar operator {operation} on {kind}", where="filter", remedy="Use IN for a list of values."
        )
    if operation == "IS_SUBSTRING":
        return _substring(field, kind, value)
    sql = _comparable(field)
    return Condition(f"{sql} {_COMPARISONS[operation]} ?", (_value(field, kind, value),))


def _operation(value: object) -> str:
    name = _OPERATIONS.get(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if isinstance(name, str) and name in _OPERATIONS.values():
        return name
    raise UsageError(
        f"invalid predicate operation: {value}",
        where="filter",
        remedy=f"Operations: {', '.join(_OPERATIONS.values())}.",
    )


def _any_of(field: Field, kind: str, value: object) -> Condition:
    items = value.get("values", []) if isinstance(value, dict) else None
    if kind not in _ARRAYS or not isinstance(items, list):
        raise UsageError(
            "cannot use the operator IN with a scalar", where="filter", remedy='As in: "string_values": {"values": []}'
        )
    values = tuple(_value(field, kind.removesuffix("s"), item) for item in items)
    return Condition(f"{_comparable(field)} IN ({','.join('?' * len(values))})", values)


def _substring(field: Field, kind: str, value: object) -> Condition:
    if kind != "string_value" or field.kind != TEXT:
        raise UsageError(
            "IS_SUBSTRING compares text only", where="filter", remedy="Give a string_value for a field that is text."
        )
    text = _value(field, kind, value)
    for special in ("\\", "%", "_"):
        text = text.replace(special, f"\\{special}")
    return Condition(f"{field.sql} LIKE ? ESCAPE '\\'", (f"%{text}%",))


def _comparable(field: Field) -> str:
    # The API tells times in microseconds; what it told can be asked for.
    return f"round({field.sql}, 6)" if field.kind == TIME else field.sql


def _value(field: Field, kind: str, value: object) -> Any:
    if field.kind == TEXT:
        if kind == "string_value" and isinstance(value, str):
            return value
        raise UsageError("this field is text", where="filter", remedy='Give a "string_value".')
    if kind in ("string_value", "timestamp_value"):
        return round(moment(value, "filter"), 6)
    # protobuf's JSON writes int64 as a string.
    whole = int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20 else value
    if isinstance(whole, int) and not isinstance(whole, bool) and abs(whole) <= _LARGEST_INTEGER:
        return whole
    raise UsageError(f"{value!r} is not a whole number", where="filter", remedy='Give a "timestamp_value".')


def _page_size(size: int) -> int:
    if size < 0:
        raise UsageError(
            f"The page size should be greater than 0. Got {size}", where="page_size", remedy="Leave it out for 20."
        )
    return min(size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)


def _asked(listable: Listable, query: ListQuery) -> tuple[_Order, str, tuple[Any, str] | None]:
    """The order, the filter and where to start; a token brings its own, which a query may repeat but not change."""
    if not query.page_token:
        return _order(listable, query.sort_by), query.filter, None
    told = _read_token(listable, query.page_token)
    order = _Order(told["sort"], told["descending"])
    if (query.sort_by and _order(listable, query.sort_by) != order) or (
        query.filter and query.filter != told["filter"]
    ):
        raise UsageError(
            "page token does not match the supplied sort by and/or filtering criteria",
            where="page_token",
            remedy="Specify the same criteria, or leave them out when a page token is specified.",
        )
    return order, told["filter"], (told["value"], told["key"])


def _order(listable: Listable, sort_by: str) -> _Order:
    words = sort_by.lower().split()
    if len(words) > 2 or (len(words) == 2 and words[1] not in ("asc", "desc")):
        raise UsageError(
            f'Received invalid sort by format "{sort_by}"',
            where="sort_by",
            remedy='Supported: "field_name", "field_name desc" or "field_name asc".',
        )
    field = words[0] if words else listable.sort
    if field not in listable.fields:
        raise UsageError(
            f'Invalid sorting field: "{field}"', where="sort_by", remedy=f"Fields: {', '.join(listable.fields)}."
        )
    return _Order(field, words[1:] == ["desc"])


def _token(order: _Order, filter_text: str, value: Any, key: str) -> str:
    told = {"sort": order.field, "descending": order.descending, "filter": filter_text, "value": value, "key": key}
    return base64.urlsafe_b64encode(json.dumps(told).encode()).decode()


def _read_token(listable: Listable, token: str) -> dict[str, Any]:
    told = None
    with contextlib.suppress(ValueError):
        told = _loads(base64.b64decode(token.encode(), altchars=b"-_", validate=True))
    if (
        not isinstance(told, dict)
        or not isinstance(told.get("sort"), str)
        or told["sort"] not in listable.fields
        or not isinstance(told.get("descending"), bool)
        or not isinstance(told.get("filter"), str)
        or not isinstance(told.get("key"), str)
        or not _storable(told.get("value"))
    ):
        raise UsageError(
            "Invalid page token", where="page_token", remedy="Give the next_page_token of the page before."
        )
    return told


def _storable(value: object) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(value, int | float):
        return math.isfinite(value) and abs(value) <= _LARGEST_INTEGER
    return isinstance(value, str)


def _from(listable: Listable, order: _Order, start: tuple[Any, str]) -> Condition:
    sign = "<" if order.descending else ">"
    sort = listable.fields[order.field].sql
    value, key = start
    return Condition(f"({sort} {sign} ? OR ({sort} = ? AND {listable.key} {sign}= ?))", (value, value, key))


def _where(conditions: Sequence[Condition]) -> str:
    return f" WHERE {' AND '.join(condition.sql for condition in conditions)}" if conditions else ""


def _values(conditions: Sequence[Condition]) -> tuple[Any, ...]:
    return tuple(value for condition in conditions for value in condition.parameters)
