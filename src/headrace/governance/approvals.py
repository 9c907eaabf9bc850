"""Gates and the people who decide them: asked once, decided once, remembered with who and why."""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headrace.clock import rfc3339
from headrace.contracts.pipeline_spec import values as values_of
from headrace.errors import ConflictError, NotFoundError, UsageError
from headrace.store import events
from headrace.store.database import Database

# Who decides when nobody has.
EXPIRY = "system:timeout"


@dataclass(frozen=True)
class Decision:
    """What one person said about a gate. `at` is in unix seconds."""

    actor: str
    approved: bool
    reason: str
    at: float


@dataclass(frozen=True)
class Gate:
    """A question that waits for `required` approvals; one rejection closes it. Times are in unix seconds.

    `parameters` describes the values that a person may fill in: {name: {"type", "default", "enum", "description"}}, all
    of it optional; `values` holds what was filled in. Who has not decided by `expires_at` has agreed when
    `approved_on_expiry`, else the gate is `expired`.
    """

    id: str
    subject: str
    question: str
    evidence: Mapping[str, Any]
    parameters: Mapping[str, Any]
    required: int
    state: str
    opened_at: float
    expires_at: float | None
    approved_on_expiry: bool
    decided_at: float | None
    values: Mapping[str, Any]
    decisions: tuple[Decision, ...]

    @property
    def on_expiry(self) -> str | None:
        """The state that it comes to when nobody decides; None: it waits for ever."""
        if self.expires_at is None:
            return None
        return "approved" if self.approved_on_expiry else "expired"

    def to_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "subject": self.subject,
            "question": self.question,
            "state": self.state,
            "required": self.required,
            "evidence": dict(self.evidence),
            "parameters": dict(self.parameters),
            "values": dict(self.values),
            "opened_at": rfc3339(self.opened_at),
            "expires_at": rfc3339(self.expires_at) if self.expires_at is not None else None,
            "on_expiry": self.on_expiry,
            "decided_at": rfc3339(self.decided_at) if self.decided_at is not None else None,
            "decisions": [
                {"actor": d.actor, "approved": d.approved, "reason": d.reason, "at": rfc3339(d.at)}
                for d in self.decisions
            ],
        }


def open_gate(
    connection: sqlite3.Connection,
    *,
    at: float,
    subject: str,
    question: str,
    evidence: Mapping[str, Any],
    parameters: Mapping[str, Any] | None = None,
    required: int = 1,
    expires_at: float | None = None,
    approved_on_expiry: bool = False,
    actor: str = "system:runs",
) -> str:
    """Ask once for each subject, inside the caller's transaction; asking again returns the id of the first gate."""
    known = connection.execute("SELECT id FROM gate WHERE subject = ?", (subject,)).fetchone()
    if known:
        return str(known["id"])
    gate_id = secrets.token_hex(4)
    connection.execute(
        "INSERT INTO gate (id, subject, question, evidence, parameters, required, state, opened_at, expires_at,"
        " approved_on_expiry) VALUES (?, ?, ?, ?, ?, ?, 'waiting', ?, ?, ?)",
        (
            gate_id, subject, question, json.dumps(evidence), json.dumps(parameters or {}), required, at,
            expires_at, int(approved_on_expiry),
        ),
    )  # fmt: skip
    events.append(
        connection, at=at, actor=actor, kind="gate.opened", subject=f"gate/{gate_id}", reason=question,
        data={"about": subject},
    )  # fmt: skip
    return gate_id


def expire(database: Database, gate_id: str, *, at: float) -> None:
    """Close a gate whose time is over, as was said when it was opened. Idempotent; one that has time stays open."""
    with database.transaction() as connection:
        landed = connection.execute(
            "UPDATE gate SET state = iif(approved_on_expiry, 'approved', 'expired'), decided_at = ?"
            " WHERE id = ? AND state = 'waiting' AND expires_at <= ? RETURNING subject, state",
            (at, gate_id, at),
        ).fetchone()
        if landed:
            events.append(
                connection, at=at, actor=EXPIRY, kind=f"gate.{landed['state']}", subject=f"gate/{gate_id}",
                reason="nobody has decided in time", data={"about": landed["subject"]},
            )  # fmt: skip


def withdraw(connection: sqlite3.Connection, subjects: str, *, at: float, actor: str, reason: str) -> None:
    """Close the gates that wait and whose subject starts with `subjects`, inside the caller's transaction."""
    waiting = connection.execute(
        "SELECT id, subject FROM gate WHERE state = 'waiting' AND substr(subject, 1, ?) = ?", (len(subjects), subjects)
    ).fetchall()
    for row in waiting:
        connection.execute("UPDATE gate SET state = 'expired', decided_at = ? WHERE id = ?", (at, row["id"]))
        events.append(
            connection, at=at, actor=actor, kind="gate.expired", subject=f"gate/{row['id']}", reason=reason,
            data={"about": row["subject"]},
        )  # fmt: skip


def set_aside(connection: sqlite3.Connection, subject: str) -> None:
    """Let the next question about `subject` be a new one; a gate that was rejected or has expired stays on record."""
    connection.execute(
        "UPDATE gate SET subject = subject || '#' || id WHERE subject = ? AND state IN ('rejected', 'expired')",
        (subject,),
    )


def decide(
    database: Database,
    gate_id: str,
    *,
    at: float,
    actor: str,
    approve: bool,
    reason: str,
    values: Mapping[str, Any] | None = None,
) -> Gate:
    """Record one person's word; the gate closes at the first rejection or at the last approval that it needs.

    Raises:
        NotFoundError: no such gate.
        UsageError: a value that the gate does not ask for, of the wrong type, or that is none of its choices; or the
            last approval leaves a value open that has no default.
        ConflictError: the gate is closed already, or this person has spoken.
    """
    expire(database, gate_id, at=at)
    with database.transaction() as connection:
        before = gate(database, gate_id)
        values = _checked_values(before, values or {})
        _refuse_late(connection, gate_id, actor)
        connection.execute(
            "INSERT INTO decision (gate_id, actor, approved, reason, at) VALUES (?, ?, ?, ?, ?)",
            (gate_id, actor, int(approve), reason, at),
        )
        _close(connection, before, approve, values, at)
        events.append(
            connection, at=at, actor=actor, kind="gate.approved" if approve else "gate.rejected",
            subject=f"gate/{gate_id}", reason=reason, data={"about": before.subject, "values": values},
        )  # fmt: skip
    return gate(database, gate_id)


def gates(database: Database, state: str | None = None) -> list[Gate]:
    """All gates, oldest first; only those in `state` when it is given."""
    where, parameters = ("WHERE state = ?", (state,)) if state else ("", ())
    return [
        _gate(database, row) for row in database.query(f"SELECT * FROM gate {where} ORDER BY opened_at", parameters)
    ]


def gate(database: Database, gate_id: str) -> Gate:
    """One gate. Raises NotFoundError."""
    row = database.one("SELECT * FROM gate WHERE id = ?", (gate_id,))
    if row is None:
        raise NotFoundError(f"no gate has the id {gate_id}", remedy="`headrace approvals list` shows those that wait.")
    return _gate(database, row)


def gate_of(database: Database, subject: str) -> Gate | None:
    """The gate that was opened for a subject, if any."""
    row = database.one("SELECT * FROM gate WHERE subject = ?", (subject,))
    return _gate(database, row) if row else None


def needed(parameters: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """The parameters of a gate that have neither a default nor a value yet."""
    return [name for name, asked in parameters.items() if "default" not in asked and name not in given]


def _checked_values(gate: Gate, given: Mapping[str, Any]) -> dict[str, Any]:
    """What a person filled in, of the types that are asked for."""
    unknown = sorted(set(given) - set(gate.parameters))
    if unknown:
        raise UsageError(
            f"the gate does not ask for {', '.join(unknown)}",
            where=f"gate {gate.id}",
            remedy=f"It asks for: {', '.join(gate.parameters) or 'nothing but a decision'}.",
        )
    checked = {}
    for name, value in given.items():
        asked = gate.parameters[name]
        checked[name] = values_of.checked(value, values_of.type_named(asked.get("type", "")), name)
        choices = asked.get("enum")
        if choices and checked[name] not in choices:
            raise UsageError(
                f"{name} must be one of {', '.join(map(str, choices))}, not {value}", where=f"gate {gate.id}"
            )
    return checked


def _refuse_late(connection: sqlite3.Connection, gate_id: str, actor: str) -> None:
    state = connection.execute("SELECT state FROM gate WHERE id = ?", (gate_id,)).fetchone()["state"]
    if state != "waiting":
        raise ConflictError(f"the gate is {state} already", where=f"gate {gate_id}")
    spoken = connection.execute("SELECT 1 FROM decision WHERE gate_id = ? AND actor = ?", (gate_id, actor)).fetchone()
    if spoken:
        raise ConflictError(
            f"{actor} has decided already", where=f"gate {gate_id}", remedy="Another person has to decide."
        )


def _close(connection: sqlite3.Connection, before: Gate, approve: bool, values: Mapping[str, Any], at: float) -> None:
    approvals = connection.execute(
        "SELECT count(*) AS n FROM decision WHERE gate_id = ? AND approved = 1", (before.id,)
    ).fetchone()["n"]
    submitted = {**before.values, **values}
    if not approve:
        state, decided_at = "rejected", at
    elif approvals >= before.required:
        _refuse_open(before, submitted)
        state, decided_at = "approved", at
    else:
        state, decided_at = "waiting", None
    connection.execute(
        "UPDATE gate SET state = ?, decided_at = ?, submitted = ? WHERE id = ? AND state = 'waiting'",
        (state, decided_at, json.dumps(submitted), before.id),
    )


def _refuse_open(gate: Gate, submitted: Mapping[str, Any]) -> None:
    missing = needed(gate.parameters, submitted)
    if missing:
        raise UsageError(
            f"the gate needs a value for {', '.join(missing)}",
            where=f"gate {gate.id}",
            remedy=f"Give it with -p {missing[0]}=VALUE, or in the values of the request.",
        )


def _gate(database: Database, row: sqlite3.Row) -> Gate:
    decisions = tuple(
        Decision(d["actor"], bool(d["approved"]), d["reason"], d["at"])
        for d in database.query("SELECT * FROM decision WHERE gate_id = ? ORDER BY at", (row["id"],))
    )
    return Gate(
        id=row["id"], subject=row["subject"], question=row["question"], evidence=json.loads(row["evidence"]),
        parameters=json.loads(row["parameters"]), required=row["required"], state=row["state"],
        opened_at=row["opened_at"], expires_at=row["expires_at"],
        approved_on_expiry=bool(row["approved_on_expiry"]), decided_at=row["decided_at"],
        values=json.loads(row["submitted"]), decisions=decisions,
    )  # fmt: skip
