"""What becomes of runs that nobody needs in sight any more: archived, or deleted."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3

from headrace.errors import ConflictError
from headrace.runs import queries, transitions
from headrace.store import events
from headrace.store.database import Database
from headrace.store.home import Home

_ENDED = "('SUCCEEDED', 'FAILED', 'CANCELED')"


def archive(database: Database, run_id: str, *, actor: str, at: float) -> None:
    """Put a run away. Idempotent. Raises NotFoundError."""
    _move(database, run_id, "ARCHIVED", "archived", actor, at)


def unarchive(database: Database, run_id: str, *, actor: str, at: float) -> None:
    """Bring an archived run back. Idempotent.

    Raises:
        NotFoundError: no such run.
        ConflictError: its experiment is archived.
    """
    experiment_id = queries.find(database, run_id)["experiment_id"]
    row = database.one("SELECT storage_state FROM experiment WHERE id = ?", (experiment_id,))
    if row is not None and row["storage_state"] == "ARCHIVED":
        raise ConflictError(
            f"Failed to unarchive run {run_id} as experiment {experiment_id} must be un-archived first",
            remedy="Unarchive the experiment first to allow the run to be restored.",
        )
    _move(database, run_id, "AVAILABLE", "unarchived", actor, at)


def delete(database: Database, run_id: str, *, actor: str, at: float) -> None:
    """Take a run out of sight and cancel it if it has not ended; `purge` removes its rows. Raises NotFoundError.

    Its artifacts stay: other runs may have reused them.
    """
    run_id = queries.find(database, run_id)["id"]
    with contextlib.suppress(ConflictError):
        transitions.request_cancel(database, run_id, actor=actor, reason="the run was deleted", at=at)
    with database.transaction() as connection:
        landed = connection.execute(
            "UPDATE run SET deleted_at = ? WHERE id = ? AND deleted_at IS NULL", (at, run_id)
        ).rowcount
        if landed:
            _tell(connection, at, actor, "deleted", run_id)


def purge(database: Database, home: Home) -> list[str]:
    """Remove the rows, logs and workspaces of deleted runs that have ended; their ids. Events stay. Idempotent."""
    # The plus keeps SQLite from looking at every run that has ended.
    rows = database.query(f"SELECT id FROM run WHERE deleted_at IS NOT NULL AND +state IN {_ENDED} AND owner IS NULL")
    for row in rows:
        for folder in (home.logs / "runs", home.path / "workspaces"):
            shutil.rmtree(folder / row["id"], ignore_errors=True)
        with database.transaction() as connection:
            for table in ("artifact", "attempt", "task"):
                connection.execute(f"DELETE FROM {table} WHERE run_id = ?", (row["id"],))
            connection.execute("DELETE FROM run WHERE id = ?", (row["id"],))
    return [str(row["id"]) for row in rows]


def _move(database: Database, run_id: str, state: str, verb: str, actor: str, at: float) -> None:
    run_id = queries.find(database, run_id)["id"]
    with database.transaction() as connection:
        landed = connection.execute(
            "UPDATE run SET storage_state = ? WHERE id = ? AND storage_state != ?", (state, run_id, state)
        ).rowcount
        if landed:
            _tell(connection, at, actor, verb, run_id)


def _tell(connection: sqlite3.Connection, at: float, actor: str, verb: str, run_id: str) -> None:
    events.append(connection, at=at, actor=actor, kind=f"run.{verb}", subject=f"run/{run_id}")
