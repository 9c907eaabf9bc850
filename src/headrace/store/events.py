"""The append-only log: when, who, what, about what, why. Every view of the past is derived from it."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.clock import rfc3339
from headrace.store.database import Database

_GENESIS = "0" * 64
# Sorts behind all that a kind or a subject may go on with.
_LAST = "\U0010ffff"


@dataclass(frozen=True)
class Event:
    """One line of the log. `at` is in unix seconds; `digest` chains it to the line before."""

    seq: int
    at: float
    actor: str
    kind: str
    subject: str
    reason: str
    data: Mapping[str, Any]
    digest: str

    def to_dict(self) -> dict[str, Any]:
        return {
            "seq": self.seq,
            "at": rfc3339(self.at),
            "actor": self.actor,
            "kind": self.kind,
            "subject": self.subject,
            "reason": self.reason,
            "data": dict(self.data),
        }


def append(
    connection: sqlite3.Connection,
    *,
    at: float,
    actor: str,
    kind: str,
    subject: str,
    reason: str = "",
    data: Mapping[str, Any] | None = None,
) -> int:
    """Add a line inside the caller's transaction (that of the state change it tells of) and return its number."""
    last = connection.execute("SELECT digest FROM event ORDER BY seq DESC LIMIT 1").fetchone()
    text = json.dumps(data or {}, sort_keys=True, separators=(",", ":"))
    digest = _chain(last["digest"] if last else _GENESIS, at, actor, kind, subject, reason, text)
    cursor = connection.execute(
        "INSERT INTO event (at, actor, kind, subject, reason, data, digest) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (at, actor, kind, subject, reason, text, digest),
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def read(
    database: Database,
    *,
    after: int = 0,
    kinds: Sequence[str] | None = None,
    subject: str | None = None,
    limit: int = 1000,
) -> list[Event]:
    """Lines with a number above `after`, oldest first, at most `limit`; filtered by kinds and subject when given."""
    clauses: list[str] = ["seq > ?"]
    parameters: list[Any] = [after]
    if kinds is not None:
        clauses.append(f"kind IN ({','.join('?' * len(kinds))})")
        parameters.extend(kinds)
    if subject is not None:
        clauses.append("subject = ?")
        parameters.append(subject)
    rows = database.query(
        f"SELECT * FROM event WHERE {' AND '.join(clauses)} ORDER BY seq LIMIT ?", (*parameters, limit)
    )
    return [_event(row) for row in rows]


def newest(
    database: Database,
    *,
    before: int | None = None,
    kind: str = "",
    actor: str = "",
    subject: str = "",
    limit: int = 100,
) -> list[Event]:
    """Lines with a number below `before`, newest first, at most `limit`.

    `kind` and `subject` may be the beginning of what they ask for ("run" finds "run.started"); "" asks for all.
    """
    clauses = ["(? IS NULL OR seq < ?)"]
    parameters: list[Any] = [before, before]
    for column, wanted in (("kind", kind), ("subject", subject)):
        if wanted:
            clauses.append(f"{column} >= ? AND {column} < ?")
            parameters += [wanted, wanted + _LAST]
    if actor:
        clauses.append("actor = ?")
        parameters.append(actor)
    rows = database.query(
        f"SELECT * FROM event WHERE {' AND '.join(clauses)} ORDER BY seq DESC LIMIT ?", (*parameters, limit)
    )
    return [_event(row) for row in rows]


def known(database: Database) -> tuple[list[str], list[str]]:
    """The kinds and the actors that the log names, sorted."""
    return _distinct(database, "kind"), _distinct(database, "actor")


def _distinct(database: Database, column: str) -> list[str]:
    """From one value to the next by the index, however many lines have each."""
    rows = database.query(
        f"WITH RECURSIVE known(value) AS (SELECT min({column}) FROM event UNION ALL"
        f" SELECT (SELECT min({column}) FROM event WHERE {column} > value) FROM known WHERE value IS NOT NULL)"
        " SELECT value FROM known WHERE value IS NOT NULL"
    )
    return [str(row["value"]) for row in rows]


def total(database: Database) -> int:
    """How many lines there are: none is ever removed, so it is the number of the last."""
    row = database.one("SELECT coalesce(max(seq), 0) AS n FROM event")
    return int(row["n"]) if row else 0


@dataclass(frozen=True)
class Checked:
    """How far the chain of digests was checked, and the first line whose digest does not follow from the line before;
    None when all up to there hold."""

    lines: int
    broken: int | None


class Chain:
    """Checks the chain of digests a piece at a time, and later only what has come since. Any thread may ask."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._seq, self._digest = 0, _GENESIS
        self._broken: int | None = None
        self._guard = threading.Lock()

    def check(self, most: int) -> Checked:
        """Check at most `most` lines more."""
        with self._guard:
            if self._broken is None:
                sql = "SELECT * FROM event WHERE seq > ? ORDER BY seq LIMIT ?"
                for row in self.database.query(sql, (self._seq, most)):
                    if not self._follows(row):
                        self._broken = int(row["seq"])
                        break
            return Checked(self._seq, self._broken)

    def _follows(self, row: sqlite3.Row) -> bool:
        fields = (row["actor"], row["kind"], row["subject"], row["reason"], row["data"])
        self._seq, self._digest = int(row["seq"]), _chain(self._digest, row["at"], *fields)
        return bool(self._digest == row["digest"])


def first_broken(database: Database) -> int | None:
    """The number of the first line whose digest does not follow from the line before; None when all hold."""
    return Chain(database).check(most=-1).broken


def _event(row: sqlite3.Row) -> Event:
    return Event(
        row["seq"], row["at"], row["actor"], row["kind"], row["subject"], row["reason"],
        json.loads(row["data"]), row["digest"],
    )  # fmt: skip


def _chain(previous: str, at: float, *fields: str) -> str:
    line = json.dumps([previous, repr(float(at)), *fields], ensure_ascii=False)
    return hashlib.sha256(line.encode()).hexdigest()
