"""Evidence as people read it: verdicts with their figures, old beside new, and which way it went."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.contracts.verdict import Outcome
from headrace.server.console.rendering import figure

MOST_ROWS, MOST_COLUMNS = 100, 12
# What serves or was, and what wants to or is, as people name their columns.
_SIDES = (
    ("champion", "challenger"), ("old", "new"), ("before", "after"), ("stable", "canary"), ("current", "new"),
    ("baseline", "candidate"), ("production", "candidate"), ("control", "treatment"),
)  # fmt: skip
_LOWER = frozenset(
    [
        "rmse", "mae", "mse", "mape", "brier", "latency", "p50", "p90", "p95", "p99", "failed", "failures", "wrong",
        "missing", "psi",
    ]
)  # fmt: skip
_HIGHER = frozenset(["auc", "accuracy", "precision", "recall", "f1", "r2", "score", "passed", "ndcg", "kappa"])


@dataclass(frozen=True)
class Row:
    """`change` and `better` are of the new beside the old; "" and None where there is no such pair, or no telling."""

    name: str
    cells: list[Any]
    change: str = ""
    better: bool | None = None


@dataclass(frozen=True)
class Item:
    """One piece: a `text`, a verdict (`outcome` is not ""), or a table; a verdict may have a table as well.

    `compared`: the rows tell a change.
    """

    name: str
    text: str = ""
    outcome: str = ""
    columns: list[str] | None = None
    rows: list[Row] | None = None
    compared: bool = False
    left_out: int = 0


def items(evidence: Mapping[str, Any]) -> list[Item]:
    """Each piece of what a gate shows, in its order."""
    return [_item(name, value) for name, value in evidence.items()]


def change(old: Any, new: Any) -> str:
    """`0.0041 higher (0.6 %)`; "" where one of them is no number."""
    if not _is_number(old) or not _is_number(new):
        return ""
    if old == new:
        return "the same"
    share = f" ({figure(100 * abs(new - old) / abs(old), 2)} %)" if old else ""
    return f"{figure(abs(new - old), 3)} {'higher' if new > old else 'lower'}{share}"


def better(name: str, old: Any, new: Any) -> bool | None:
    """Whether a metric went the right way, where its name says which way that is; None when it does not."""
    if not _is_number(old) or not _is_number(new) or old == new:
        return None
    words = set(re.split(r"[^a-z0-9]+", name.lower()))
    lower = bool(words & _LOWER) or any(part in name.lower() for part in ("loss", "error"))
    # scikit-learn's neg_mean_squared_error is higher for the better one.
    if "neg" in words:
        return bool(new > old)
    if lower:
        return bool(new < old)
    return bool(new > old) if words & _HIGHER else None


def _item(name: str, value: Any) -> Item:
    if isinstance(value, Mapping):
        if value.get("outcome") in tuple(Outcome):
            return _verdict(name, value)
        if value:
            return _of_mapping(name, value)
    if isinstance(value, Sequence) and not isinstance(value, str) and value:
        if all(isinstance(one, Mapping) and one for one in value):
            return _records(name, value)
        if not any(isinstance(one, Mapping | list) for one in value):
            return Item(name, ", ".join(map(_said, value)))
    return Item(name, _said(value))


def _verdict(name: str, value: Mapping[str, Any]) -> Item:
    about = value.get("evidence")
    table = _of_mapping(name, about) if isinstance(about, Mapping) and about else Item(name)
    return Item(
        name, str(value.get("summary", "")), str(value["outcome"]), table.columns, table.rows, table.compared,
        table.left_out,
    )  # fmt: skip


def _of_mapping(name: str, value: Mapping[str, Any]) -> Item:
    """Names and values; of {side: {metric: value}} and {metric: {side: value}} a table with the sides as columns."""
    inner = [one for one in value.values() if isinstance(one, Mapping)]
    sides = _sides(value)
    if sides and not inner:
        return _table(name, list(value), [(name, [value[side] for side in value])], sides)
    if len(inner) < len(value):
        return _table(name, ["value"], [(key, [one]) for key, one in value.items()], None)
    if sides:
        metrics = list(dict.fromkeys(key for one in inner for key in one))
        return _table(name, list(value), [(key, [one.get(key) for one in inner]) for key in metrics], sides)
    columns = list(dict.fromkeys(key for one in inner for key in one))
    rows = [(key, [one.get(column) for column in columns]) for key, one in value.items()]
    return _table(name, columns, rows, _sides(dict.fromkeys(columns)))


def _records(name: str, value: Sequence[Mapping[str, Any]]) -> Item:
    columns = list(dict.fromkeys(key for one in value for key in one))
    rows = [(str(one.get(columns[0], "")), [one.get(column) for column in columns[1:]]) for one in value]
    return _table(name, columns[1:], rows, _sides(dict.fromkeys(columns[1:])))


def _table(name: str, columns: list[str], rows: list[tuple[str, list[Any]]], sides: tuple[str, str] | None) -> Item:
    made = []
    for key, cells in rows[:MOST_ROWS]:
        shown = [_cell(cell) for cell in cells[:MOST_COLUMNS]]
        if sides is None:
            made.append(Row(str(key), shown))
            continue
        old, new = (cells[columns.index(side)] for side in sides)
        made.append(Row(str(key), shown, change(old, new), better(str(key), old, new)))
    left_out = max(len(rows) - MOST_ROWS, 0)
    return Item(name, "", "", [str(one) for one in columns[:MOST_COLUMNS]], made, sides is not None, left_out)


def _sides(names: Mapping[str, Any]) -> tuple[str, str] | None:
    return next((pair for pair in _SIDES if pair[0] in names and pair[1] in names), None)


def _cell(value: Any) -> Any:
    return value if _is_number(value) else _said(value)


def _said(value: Any) -> str:
    """A value in words; what is deep is not unfolded here, and stands in the raw evidence."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if _is_number(value):
        return figure(value, 6)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_said(one)}" for key, one in list(value.items())[:MOST_COLUMNS]) or "nothing"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_said, value[:MOST_COLUMNS])) or "nothing"
    return str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
