"""Experiments: the groups that runs stand in. One called Default is always there.

Shapes and behaviour: KFP's backend/api/v2beta1/experiment.proto; archiving one archives its runs and disables its
recurring runs, and unarchiving it brings none of them back.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Mapping
from typing import Any

from headrace.clock import rfc3339
from headrace.errors import AlreadyExistsError, ConflictError, NotFoundError, UsageError
from headrace.runs.listing import TIME, Field, Listable, ListQuery, page
from headrace.store import events
from headrace.store.database import Database

DEFAULT = "default"
MAX_NAME = 128
_LAST_RUN = (
    "(SELECT coalesce(max(run.created_at), 0) FROM run WHERE run.experiment_id = experiment.id AND deleted_at IS NULL)"
)

LISTABLE = Listable(
    "experiment",
    {
        "experiment_id": Field("id"),
        "id": Field("id"),
        "display_name": Field("name"),
        "name": Field("name"),
        "description": Field("description"),
        "storage_state": Field("storage_state"),
        "created_at": Field("created_at", TIME),
        "last_run_created_at": Field(_LAST_RUN, TIME),
    },
)


def create(database: Database, *, name: str, description: str, actor: str, at: float) -> dict[str, Any]:
    """Make an experiment and return it as JSON.

    Raises:
        UsageError: the name is empty or too long.
        AlreadyExistsError: the name is taken.
    """
    if not name.strip():
        raise UsageError("Experiment must have a non-empty name", where="display_name", remedy="Give it a name.")
    if len(name) > MAX_NAME:
        raise UsageError(
            f"is longer than {MAX_NAME} characters", where="display_name", remedy="Give it a shorter name."
        )
    experiment_id = str(uuid.uuid4())
    with database.transaction() as connection:
        try:
            connection.execute(
                "INSERT INTO experiment (id, name, description, created_at) VALUES (?, ?, ?, ?)",
                (experiment_id, name, description, at),
            )
        except sqlite3.IntegrityError as error:
            raise AlreadyExistsError(
                f"The experiment {name} already exists", where="display_name", remedy="Please specify a new name."
            ) from error
        _tell(connection, at, actor, "created", experiment_id, {"name": name})
    return experiment_json(database, experiment_id)


def experiment_json(database: Database, experiment_id: str) -> dict[str, Any]:
    """An experiment as KFP's v2beta1 `Experiment`. Raises NotFoundError."""
    row = database.one(f"SELECT *, {_LAST_RUN} AS last_run FROM experiment WHERE id = ?", (experiment_id,))
    if row is None:
        raise NotFoundError(f"Experiment {experiment_id} not found", remedy="List the experiments to see their ids.")
    return _json(dict(row))


def list_experiments(database: Database, query: ListQuery) -> dict[str, Any]:
    """A page of experiments as KFP's `ListExperimentsResponse`. Raises UsageError."""
    found = page(database, LISTABLE, query)
    ids = [row["id"] for row in found.rows]
    last = {
        row["id"]: row["at"]
        for row in database.query(
            f"SELECT id, {_LAST_RUN} AS at FROM experiment WHERE id IN ({','.join('?' * len(ids))})", ids
        )
    }
    return {
        "experiments": [_json({**row, "last_run": last[row["id"]]}) for row in found.rows],
        "total_size": found.total_size,
        "next_page_token": found.next_page_token,
    }


def archive(database: Database, experiment_id: str, *, actor: str, at: float) -> None:
    """Archive an experiment with its runs, and disable its recurring runs. Idempotent. Raises NotFoundError."""
    experiment_json(database, experiment_id)
    with database.transaction() as connection:
        connection.execute("UPDATE experiment SET storage_state = 'ARCHIVED' WHERE id = ?", (experiment_id,))
        connection.execute("UPDATE run SET storage_state = 'ARCHIVED' WHERE experiment_id = ?", (experiment_id,))
        _disable_recurring_runs(connection, experiment_id, at)
        _tell(connection, at, actor, "archived", experiment_id)


def unarchive(database: Database, experiment_id: str, *, actor: str, at: float) -> None:
    """Bring an experiment back; its runs stay archived. Idempotent. Raises NotFoundError."""
    experiment_json(database, experiment_id)
    with database.transaction() as connection:
        connection.execute("UPDATE experiment SET storage_state = 'AVAILABLE' WHERE id = ?", (experiment_id,))
        _tell(connection, at, actor, "unarchived", experiment_id)


def delete(database: Database, experiment_id: str, *, actor: str, at: float) -> None:
    """Delete an experiment. Its runs stay and keep its id; its recurring runs are disabled.

    Raises:
        NotFoundError: no such experiment.
        ConflictError: it is the Default one.
    """
    experiment_json(database, experiment_id)
    if experiment_id == DEFAULT:
        raise ConflictError("The default experiment cannot be deleted", remedy="Archive it to hide its runs.")
    with database.transaction() as connection:
        connection.execute("DELETE FROM experiment WHERE id = ?", (experiment_id,))
        _disable_recurring_runs(connection, experiment_id, at)
        _tell(connection, at, actor, "deleted", experiment_id)


def _disable_recurring_runs(connection: sqlite3.Connection, experiment_id: str, at: float) -> None:
    connection.execute(
        "UPDATE recurring_run SET enabled = 0, updated_at = ? WHERE experiment_id = ? AND enabled = 1",
        (at, experiment_id),
    )


def _json(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "experiment_id": row["id"],
        "display_name": row["name"],
        "description": row["description"],
        "created_at": rfc3339(row["created_at"]),
        "storage_state": row["storage_state"],
        "last_run_created_at": rfc3339(row["last_run"]),
    }


def _tell(
    connection: sqlite3.Connection,
    at: float,
    actor: str,
    verb: str,
    experiment_id: str,
    data: Mapping[str, Any] | None = None,
) -> None:
    subject = f"experiment/{experiment_id}"
    events.append(connection, at=at, actor=actor, kind=f"experiment.{verb}", subject=subject, data=data)
