"""Every change of a run's state: one guarded UPDATE that says whether it landed, and its event, in one transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headrace.errors import ConflictError, NotFoundError
from headrace.governance import approvals
from headrace.runs.executor_input import Outputs
from headrace.runs.gates import GateRequest
from headrace.runs.model import ReadyTask
from headrace.runs.paths import given_up
from headrace.store import events
from headrace.store.database import Database

ENGINE = "system:runs"
_UNFINISHED = "('PENDING', 'RUNNING', 'PAUSED', 'CANCELING')"


def claim(database: Database, run_id: str, *, owner: str, previous: str | None, at: float) -> bool:
    """Make `owner` the engine of an unfinished run whose owner is still `previous`."""
    with database.transaction() as connection:
        landed = _update(
            connection,
            "UPDATE run SET owner = :owner, started_at = coalesce(started_at, :at),"
            " state = CASE state WHEN 'PENDING' THEN 'RUNNING' ELSE state END"
            f" WHERE id = :run AND owner IS :previous AND state IN {_UNFINISHED}",
            {"owner": owner, "at": at, "run": run_id, "previous": previous},
        )
        if landed:
            kind = "run.started" if previous is None else "run.recovered"
            _tell(connection, at, kind, f"run/{run_id}", data={"owner": owner})
    return landed


def finish_run(
    database: Database, run_id: str, state: str, *, outputs: Mapping[str, Any], message: str, at: float
) -> bool:
    """Give a run its final state and let go of it."""
    error = json.dumps({"code": 1, "message": message}) if message else None
    with database.transaction() as connection:
        landed = _update(
            connection,
            "UPDATE run SET state = ?, outputs = ?, error = ?, finished_at = ?, owner = NULL"
            f" WHERE id = ? AND state IN {_UNFINISHED}",
            (state, json.dumps(outputs), error, at, run_id),
        )
        if landed:
            _tell(connection, at, f"run.{state.lower()}", f"run/{run_id}", reason=message)
    return landed


def pause_run(database: Database, run_id: str, at: float) -> bool:
    """RUNNING to PAUSED: nothing can go on until a gate is decided."""
    return _run_state(database, run_id, "RUNNING", "PAUSED", "run.paused", at)


def unpause_run(database: Database, run_id: str, at: float) -> bool:
    """PAUSED to RUNNING."""
    return _run_state(database, run_id, "PAUSED", "RUNNING", "run.resumed", at)


def requeue_run(database: Database, run_id: str, *, owner: str, at: float) -> bool:
    """RUNNING to PENDING: the engine that owns it has ended. The owner stays on record, for the next to take over."""
    with database.transaction() as connection:
        landed = _update(
            connection,
            "UPDATE run SET state = 'PENDING' WHERE id = ? AND owner = ? AND state = 'RUNNING'",
            (run_id, owner),
        )
        if landed:
            _tell(connection, at, "run.requeued", f"run/{run_id}")
    return landed


def start_attempt(
    database: Database, run_id: str, task: ReadyTask, *, cache_key: str, directory: Path, at: float
) -> int:
    """Record that the task is being tried and return the attempt's number; `directory` is its parent folder."""
    with database.transaction() as connection:
        _insert_task(connection, run_id, task, cache_key, at)
        connection.execute(
            "UPDATE task SET state = 'RUNNING', attempt = attempt + 1, started_at = coalesce(started_at, ?)"
            " WHERE run_id = ? AND path = ? AND state = 'PENDING'",
            (at, run_id, task.path),
        )
        row = connection.execute(
            "SELECT attempt FROM task WHERE run_id = ? AND path = ?", (run_id, task.path)
        ).fetchone()
        number = int(row["attempt"])
        connection.execute(
            "INSERT INTO attempt (run_id, path, number, state, directory, started_at)"
            " VALUES (?, ?, ?, 'RUNNING', ?, ?)",
            (run_id, task.path, number, str(directory / str(number)), at),
        )
        _tell(connection, at, "task.started", _subject(run_id, task.path), data={"attempt": number})
    return number


def record_process(
    database: Database, run_id: str, path: str, number: int, *, pid: int, process_created: float
) -> None:
    """Which process does the attempt, so that another engine can find it."""
    with database.transaction() as connection:
        connection.execute(
            "UPDATE attempt SET pid = ?, process_created = ?"
            " WHERE run_id = ? AND path = ? AND number = ? AND state = 'RUNNING'",
            (pid, process_created, run_id, path, number),
        )


def open_gate(database: Database, run_id: str, task: ReadyTask, request: GateRequest, at: float) -> None:
    """Ask, and pause the task until people have answered."""
    with database.transaction() as connection:
        _insert_task(connection, run_id, task, "", at)
        connection.execute(
            "UPDATE task SET state = 'PAUSED', started_at = ? WHERE run_id = ? AND path = ? AND state = 'PENDING'",
            (at, run_id, task.path),
        )
        approvals.open_gate(
            connection,
            at=at,
            subject=_subject(run_id, task.path),
            question=request.question,
            evidence=request.evidence,
            parameters=request.parameters,
            required=request.required,
            expires_at=at + request.timeout_seconds if request.timeout_seconds is not None else None,
            approved_on_expiry=request.approved_on_timeout,
        )


def succeed(
    database: Database,
    run_id: str,
    task: ReadyTask,
    outputs: Outputs,
    *,
    at: float,
    cache_key: str = "",
    cached: bool = False,
) -> bool:
    """Commit a task's outputs and its success together. A task that is finished already stays as it is."""
    with database.transaction() as connection:
        _insert_task(connection, run_id, task, cache_key, at)
        landed = _update(
            connection,
            "UPDATE task SET state = 'SUCCEEDED', outputs = ?, cached = ?, message = '', finished_at = ?,"
            " started_at = coalesce(started_at, ?)"
            " WHERE run_id = ? AND path = ? AND state IN ('PENDING', 'RUNNING', 'PAUSED')",
            (
                json.dumps({"parameters": outputs.parameters, "artifacts": outputs.artifacts}),
                int(cached), at, at, run_id, task.path,
            ),
        )  # fmt: skip
        if landed:
            _close_attempt(connection, run_id, task.path, "SUCCEEDED", "", at)
            _record_artifacts(connection, run_id, task.path, outputs)
            kind = "task.cached" if cached else "task.succeeded"
            _tell(connection, at, kind, _subject(run_id, task.path), data={"outputs": outputs.parameters})
    return landed


def keep(connection: sqlite3.Connection, run_id: str, task: ReadyTask, *, previous: str, at: float) -> None:
    """Give a new run what a task of a previous one has come to, inside the caller's transaction."""
    _insert_task(connection, run_id, task, "", at)
    connection.execute(
        "UPDATE task SET state = 'SUCCEEDED', cached = 1, started_at = :at, finished_at = :at,"
        " outputs = (SELECT outputs FROM task WHERE run_id = :previous AND path = :path)"
        " WHERE run_id = :run AND path = :path AND state = 'PENDING'",
        {"at": at, "previous": previous, "run": run_id, "path": task.path},
    )
    connection.execute(
        "INSERT INTO artifact (run_id, path, name, position, uri, type, metadata, digest, bytes)"
        " SELECT ?, path, name, position, uri, type, metadata, digest, bytes FROM artifact"
        " WHERE run_id = ? AND path = ?",
        (run_id, previous, task.path),
    )
    _tell(connection, at, "task.kept", _subject(run_id, task.path), data={"run": previous})


def fail(database: Database, run_id: str, task: ReadyTask, message: str, at: float) -> bool:
    """Record a failure; True when the task is tried again, which is after its backoff."""
    with database.transaction() as connection:
        _insert_task(connection, run_id, task, "", at)
        row = connection.execute(
            "SELECT failures FROM task WHERE run_id = ? AND path = ?", (run_id, task.path)
        ).fetchone()
        failures = row["failures"] + 1
        again = failures <= task.max_retries
        landed = _update(
            connection,
            "UPDATE task SET state = ?, failures = ?, message = ?, not_before = ?, finished_at = ?"
            " WHERE run_id = ? AND path = ? AND state IN ('PENDING', 'RUNNING', 'PAUSED')",
            (
                "PENDING" if again else "FAILED", failures, message, at + task.backoff.after(failures) if again else 0,
                None if again else at, run_id, task.path,
            ),
        )  # fmt: skip
        if landed:
            _close_attempt(connection, run_id, task.path, "FAILED", message, at)
            kind = "task.retried" if again else "task.failed"
            _tell(connection, at, kind, _subject(run_id, task.path), reason=message)
    return again and landed


def requeue_lost(database: Database, run_id: str, path: str, at: float) -> None:
    """An attempt whose process is gone without a result: the task is tried again, and no retry is used up."""
    with database.transaction() as connection:
        landed = _update(
            connection,
            "UPDATE task SET state = 'PENDING' WHERE run_id = ? AND path = ? AND state = 'RUNNING'",
            (run_id, path),
        )
        if landed:
            _close_attempt(connection, run_id, path, "LOST", "its process ended with what had started it", at)
            _tell(connection, at, "task.requeued", _subject(run_id, path))


def cancel_tasks(database: Database, run_id: str, at: float) -> None:
    """Everything of a run that is not finished becomes CANCELED; its gates ask no more."""
    with database.transaction() as connection:
        approvals.withdraw(connection, _subject(run_id, ""), at=at, actor=ENGINE, reason="its run was canceled")
        connection.execute(
            "UPDATE task SET state = 'CANCELED', finished_at = ?"
            " WHERE run_id = ? AND state IN ('PENDING', 'RUNNING', 'PAUSED')",
            (at, run_id),
        )
        connection.execute(
            "UPDATE attempt SET state = 'CANCELED', finished_at = ? WHERE run_id = ? AND state = 'RUNNING'",
            (at, run_id),
        )


def request_cancel(database: Database, run_id: str, *, actor: str, reason: str, at: float) -> None:
    """Ask the engine to stop a run.

    Raises:
        NotFoundError: no such run.
        ConflictError: it is finished.
    """
    with database.transaction() as connection:
        landed = _update(
            connection,
            "UPDATE run SET state = 'CANCELING' WHERE id = ? AND state IN ('PENDING', 'RUNNING', 'PAUSED')",
            (run_id,),
        )
        if landed:
            events.append(
                connection, at=at, actor=actor, kind="run.cancel-requested", subject=f"run/{run_id}", reason=reason
            )
    if not landed:
        raise ConflictError(f"the run is {_state(database, run_id)} already", where=f"run {run_id}")


def retry_run(database: Database, run_id: str, *, actor: str, reason: str, at: float) -> list[str]:
    """Queue a failed or canceled run again, keeping what succeeded; the paths that will be tried again.

    A gate among them asks anew. Of the tries of a nested pipeline only the last goes on: those before it have failed
    for good, and the planner looks at a try only when the one before it has failed.

    Raises:
        NotFoundError: no such run.
        ConflictError: it is not finished, or succeeded.
    """
    with database.transaction() as connection:
        landed = _update(
            connection,
            "UPDATE run SET state = 'PENDING', owner = NULL, error = NULL, started_at = NULL, finished_at = NULL"
            " WHERE id = ? AND state IN ('FAILED', 'CANCELED')",
            (run_id,),
        )
        states = {
            str(row["path"]): row["state"]
            for row in connection.execute("SELECT path, state FROM task WHERE run_id = ?", (run_id,))
        }
        past = given_up(states)
        paths = [path for path, state in states.items() if state in ("FAILED", "CANCELED") and path not in past]
        if landed:
            for path in paths:
                approvals.set_aside(connection, _subject(run_id, path))
            connection.executemany(
                "UPDATE task SET state = 'PENDING', failures = 0, not_before = 0, message = '', finished_at = NULL"
                " WHERE run_id = ? AND path = ? AND state IN ('FAILED', 'CANCELED')",
                [(run_id, path) for path in paths],
            )
            events.append(
                connection, at=at, actor=actor, kind="run.retried", subject=f"run/{run_id}", reason=reason,
                data={"tasks": paths},
            )  # fmt: skip
    if not landed:
        raise ConflictError(f"the run is {_state(database, run_id)}", where=f"run {run_id}")
    return paths


def _run_state(database: Database, run_id: str, before: str, after: str, kind: str, at: float) -> bool:
    with database.transaction() as connection:
        landed = _update(connection, "UPDATE run SET state = ? WHERE id = ? AND state = ?", (after, run_id, before))
        if landed:
            _tell(connection, at, kind, f"run/{run_id}")
    return landed


def inputs_json(task: ReadyTask) -> str:
    """A task's inputs as they are recorded."""
    return json.dumps({"parameters": dict(task.parameters), "artifacts": dict(task.artifacts)}, default=dict)


def _insert_task(connection: sqlite3.Connection, run_id: str, task: ReadyTask, cache_key: str, at: float) -> None:
    inputs = inputs_json(task)
    connection.execute(
        "INSERT INTO task (run_id, path, display_name, component, state, inputs, cache_key, created_at)"
        " VALUES (?, ?, ?, ?, 'PENDING', ?, ?, ?)"
        " ON CONFLICT (run_id, path) DO UPDATE SET inputs = excluded.inputs,"
        " cache_key = CASE excluded.cache_key WHEN '' THEN cache_key ELSE excluded.cache_key END",
        (run_id, task.path, task.display_name, task.component, inputs, cache_key, at),
    )


def _close_attempt(connection: sqlite3.Connection, run_id: str, path: str, state: str, message: str, at: float) -> None:
    connection.execute(
        "UPDATE attempt SET state = ?, message = ?, finished_at = ?"
        " WHERE run_id = ? AND path = ? AND state = 'RUNNING'",
        (state, message, at, run_id, path),
    )


def _record_artifacts(connection: sqlite3.Connection, run_id: str, path: str, outputs: Outputs) -> None:
    connection.executemany(
        "INSERT INTO artifact (run_id, path, name, position, uri, type, metadata, digest, bytes)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        [
            (
                run_id, path, name, position, item["uri"], item["type"].get("schemaTitle", ""),
                json.dumps(item["metadata"]), item["digest"], item["bytes"],
            )
            for name, items in outputs.artifacts.items()
            for position, item in enumerate(items)
        ],
    )  # fmt: skip


def _state(database: Database, run_id: str) -> str:
    row = database.one("SELECT state FROM run WHERE id = ?", (run_id,))
    if row is None:
        raise NotFoundError(f"no run has the id {run_id}", remedy="`headrace runs list` shows them.")
    return str(row["state"])


def _update(connection: sqlite3.Connection, sql: str, parameters: Any) -> bool:
    return connection.execute(sql, parameters).rowcount == 1


def _subject(run_id: str, path: str) -> str:
    return f"run/{run_id}/task/{path}"


def _tell(
    connection: sqlite3.Connection,
    at: float,
    kind: str,
    subject: str,
    reason: str = "",
    data: Mapping[str, Any] | None = None,
) -> None:
    events.append(connection, at=at, actor=ENGINE, kind=kind, subject=subject, reason=reason, data=data)
