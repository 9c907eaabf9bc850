"""Runs as people look for them: newest first, by state, pipeline and words, in pages that stay quick."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from headrace.errors import UsageError
from headrace.runs.queries import run_row_json
from headrace.store.database import Database

_SEARCHED = ("name", "reason", "commit_sha", "id")
_PLACE = "As in 1790000000.5~4be49f56e9b5: what the page before said."


@dataclass(frozen=True)
class Wanted:
    """Which runs; "" is any. `text` is looked for in name, reason, commit and id; case does not matter.

    `before` is the place after which the page starts: what `Found.older` said.
    """

    state: str = ""
    pipeline: str = ""
    text: str = ""
    before: str = ""


@dataclass(frozen=True)
class Found:
    """A page of runs as `queries.run_row_json` gives them, and where the next page starts; "" after the last."""

    runs: list[dict[str, Any]]
    older: str


def newest(database: Database, wanted: Wanted, *, limit: int = 50) -> Found:
    """The newest runs of which this is true. Raises UsageError: `before` is no place."""
    conditions, values = ["deleted_at IS NULL"], list[Any]()
    for column, value in (("state", wanted.state), ("pipeline", wanted.pipeline)):
        if value:
            conditions.append(f"{column} = ?")
            values.append(value)
    if wanted.text:
        conditions.append("(" + " OR ".join(f"{column} LIKE ? ESCAPE '\\'" for column in _SEARCHED) + ")")
        values += [f"%{_literal(wanted.text)}%"] * len(_SEARCHED)
    if wanted.before:
        conditions.append("(created_at, id) < (?, ?)")
        values += _place(wanted.before)
    # The index holds all that is asked for here: the rows themselves, with documents in them, are long.
    chosen = database.query(
        f"SELECT id, created_at FROM run INDEXED BY run_browsed WHERE {' AND '.join(conditions)}"
        " ORDER BY created_at DESC, id DESC LIMIT ?",
        (*values, limit + 1),
    )
    shown = [str(row["id"]) for row in chosen[:limit]]
    last = chosen[limit - 1] if len(chosen) > limit else None
    older = f"{last['created_at']!r}~{last['id']}" if last is not None else ""
    return Found([run_row_json(row) for row in _rows(database, shown)], older)


def ended_last(database: Database) -> list[dict[str, Any]]:
    """Of each pipeline the newest run that succeeded or failed."""
    rows = database.query(
        "SELECT id, max(created_at) FROM run INDEXED BY run_browsed"
        " WHERE deleted_at IS NULL AND state IN ('SUCCEEDED', 'FAILED') GROUP BY pipeline"
    )
    return [run_row_json(row) for row in _rows(database, [str(row["id"]) for row in rows])]


def pipelines(database: Database) -> list[str]:
    """The names of the pipelines that have runs."""
    rows = database.query("SELECT DISTINCT pipeline FROM run INDEXED BY run_browsed WHERE deleted_at IS NULL")
    return sorted(str(row["pipeline"]) for row in rows)


def _rows(database: Database, ids: Sequence[str]) -> list[dict[str, Any]]:
    marks = ",".join("?" * len(ids))
    rows = {str(row["id"]): dict(row) for row in database.query(f"SELECT * FROM run WHERE id IN ({marks})", list(ids))}
    return [rows[run_id] for run_id in ids if run_id in rows]


def _literal(text: str) -> str:
    for special in ("\\", "%", "_"):
        text = text.replace(special, f"\\{special}")
    return text


def _place(text: str) -> tuple[float, str]:
    moment, tilde, run_id = text.partition("~")
    try:
        if tilde and run_id:
            return float(moment), run_id
    except ValueError:
        pass
    raise UsageError(f"{text!r} is no place in the list", where="before", remedy=_PLACE)
