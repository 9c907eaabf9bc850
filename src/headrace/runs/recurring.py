"""Recurring runs: what is to run, and the facts from which follows when.

Shapes and behaviour: KFP's backend/api/v2beta1/recurring_run.proto. Starting a run and noting that it was started
are one transaction, so that a due run starts once.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import uuid
from collections.abc import Mapping
from typing import Any

from headrace.clock import rfc3339
from headrace.errors import ConflictError, HeadraceError, NotFoundError, StorageError, UsageError
from headrace.runs import experiments, packages, submission
from headrace.runs.listing import TIME, Condition, Field, Listable, ListQuery, page
from headrace.runs.pipelines import Source
from headrace.runs.schedules import Schedule, next_due, to_start
from headrace.runs.submission import Occasion, RunRequest
from headrace.store import events
from headrace.store.database import Database

MAX_CONCURRENCY = 10
_ENDED = "('SUCCEEDED', 'FAILED', 'CANCELED')"

LISTABLE = Listable(
    "recurring_run",
    {
        "recurring_run_id": Field("id"),
        "id": Field("id"),
        "display_name": Field("display_name"),
        "name": Field("display_name"),
        "description": Field("description"),
        "experiment_id": Field("experiment_id"),
        "status": Field("CASE enabled WHEN 1 THEN 'ENABLED' ELSE 'DISABLED' END"),
        "created_at": Field("created_at", TIME),
        "updated_at": Field("updated_at", TIME),
    },
)


def create(
    database: Database,
    request: RunRequest,
    schedule: Schedule,
    *,
    max_concurrency: int,
    enabled: bool,
    actor: str,
    at: float,
) -> dict[str, Any]:
    """Make a recurring run and return it as JSON. Its pipeline and parameters are checked now and for each run.

    Raises:
        NotFoundError: no such experiment, pipeline or version.
        UsageError: the schedule, the concurrency, the name or a parameter is wrong.
        DocumentError: the source is no pipeline.
    """
    if not 1 <= max_concurrency <= MAX_CONCURRENCY:
        raise UsageError(
            f"Max concurrency of a recurring run must be at least 1 and at most {MAX_CONCURRENCY}."
            f" Received {max_concurrency}",
            where="max_concurrency",
            remedy="Correct it.",
        )
    schedule.check()
    submission.check(database, request)
    recurring_run_id = str(uuid.uuid4())
    source = request.source or Source("", "")
    with database.transaction() as connection:
        connection.execute(
            "INSERT INTO recurring_run (id, display_name, description, experiment_id, pipeline_id,"
            " pipeline_version_id, document, file, parameters, pipeline_root, service_account, plugins_input,"
            " max_concurrency, no_catchup, cron, interval_seconds, start_at, end_at, enabled, created_at, updated_at,"
            " next_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                recurring_run_id, request.display_name, request.description,
                request.experiment_id or experiments.DEFAULT, request.pipeline_id, request.pipeline_version_id,
                source.text, source.file, json.dumps(dict(request.parameters)), request.pipeline_root,
                request.service_account, json.dumps(dict(request.plugins_input)), max_concurrency,
                int(schedule.no_catchup), schedule.cron, schedule.interval_seconds, schedule.start_at,
                schedule.end_at, int(enabled), at, at, next_due(schedule, None, at),
            ),
        )  # fmt: skip
        _tell(connection, at, actor, "created", recurring_run_id, data={"name": request.display_name})
    return recurring_run_json(database, recurring_run_id)


def recurring_run_json(database: Database, recurring_run_id: str) -> dict[str, Any]:
    """A recurring run as KFP's v2beta1 `RecurringRun`. Raises NotFoundError."""
    return _json(_row(database, recurring_run_id))


def list_recurring_runs(database: Database, query: ListQuery, experiment_id: str = "") -> dict[str, Any]:
    """A page of recurring runs as KFP's `ListRecurringRunsResponse`: its list alone is named in camel case.

    Raises:
        NotFoundError: no such experiment.
        UsageError: the query is wrong.
    """
    conditions = []
    if experiment_id:
        experiments.experiment_json(database, experiment_id)
        conditions.append(Condition("experiment_id = ?", (experiment_id,)))
    found = page(database, LISTABLE, query, conditions)
    return {
        "recurringRuns": [_json(row) for row in found.rows],
        "total_size": found.total_size,
        "next_page_token": found.next_page_token,
    }


def of_pipeline(database: Database, pipeline_id: str, moments: int = 3) -> list[dict[str, Any]]:
    """The recurring runs of an uploaded pipeline, oldest first: `recurring_run_id`, `name`, `schedule` in words,
    `enabled`, `error` of the last start, `last_at`, and `next`, the next few moments; none when it is disabled."""
    rows = database.query("SELECT * FROM recurring_run WHERE pipeline_id = ? ORDER BY created_at", (pipeline_id,))
    return [
        {
            "recurring_run_id": row["id"],
            "name": row["display_name"],
            "schedule": _words(row),
            "enabled": bool(row["enabled"]),
            "parameters": json.loads(row["parameters"]),
            "error": row["error"],
            "last_at": rfc3339(row["last_at"]) if row["last_at"] is not None else None,
            "next": [rfc3339(due) for due in _upcoming(dict(row), moments)] if row["enabled"] else [],
        }
        for row in rows
    ]


def schedules(database: Database) -> dict[str, list[str]]:
    """By the id of an uploaded pipeline, the schedules of its recurring runs that are enabled."""
    found: dict[str, list[str]] = {}
    for row in database.query("SELECT * FROM recurring_run WHERE enabled = 1 ORDER BY created_at"):
        found.setdefault(row["pipeline_id"], []).append(_words(row))
    return found


def _words(row: sqlite3.Row) -> str:
    return str(row["cron"] or f"every {row['interval_seconds']} s")


def _upcoming(row: Mapping[str, Any], moments: int) -> list[float]:
    found: list[float] = []
    due = row["next_at"]
    while due is not None and len(found) < moments:
        found.append(due)
        due = next_due(_schedule(row), due, row["created_at"])
    return found


def enable(database: Database, recurring_run_id: str, *, enabled: bool, actor: str, at: float) -> None:
    """Let a recurring run start runs, or not. Idempotent. Moments that it missed are still due unless `no_catchup`.

    Raises:
        NotFoundError: no such recurring run.
        ConflictError: it is to start runs in an experiment that is not there any more or archived.
    """
    row = _row(database, recurring_run_id)
    if enabled:
        _require_experiment(database, row["experiment_id"])
    with database.transaction() as connection:
        connection.execute(
            "UPDATE recurring_run SET enabled = ?, updated_at = ?, error = '' WHERE id = ?",
            (int(enabled), at, recurring_run_id),
        )
        _tell(connection, at, actor, "enabled" if enabled else "disabled", recurring_run_id)


def delete(database: Database, recurring_run_id: str, *, actor: str, at: float) -> None:
    """Delete a recurring run. Runs that it has started stay. Raises NotFoundError."""
    _row(database, recurring_run_id)
    with database.transaction() as connection:
        connection.execute("DELETE FROM recurring_run WHERE id = ?", (recurring_run_id,))
        _tell(connection, at, actor, "deleted", recurring_run_id)


def start_due(database: Database, *, environment: str, actor: str, now: float) -> list[str]:
    """Start what is due and allowed by its concurrency, at most one run of each; the ids of the runs.

    What cannot be started is noted on the recurring run, and its next moment is waited for.
    """
    rows = database.query(
        "SELECT r.* FROM recurring_run r WHERE r.enabled = 1 AND r.next_at <= ? AND r.max_concurrency >"
        f" (SELECT count(*) FROM run WHERE run.recurring_run_id = r.id AND run.state NOT IN {_ENDED})"
        " ORDER BY r.next_at",
        (now,),
    )
    started = (_start(database, dict(row), environment=environment, actor=actor, now=now) for row in rows)
    return [run_id for run_id in started if run_id]


def _start(database: Database, row: Mapping[str, Any], *, environment: str, actor: str, now: float) -> str:
    """Start the run that is due and return its id; "" when another was first, or when it cannot be started."""
    schedule = _schedule(row)
    due = to_start(schedule, row["next_at"], now)

    def advance(connection: sqlite3.Connection, error: str) -> None:
        landed = connection.execute(
            "UPDATE recurring_run SET last_at = ?, next_at = ?, started = started + ?, error = ?"
            " WHERE id = ? AND enabled = 1 AND next_at = ?",
            (due, next_due(schedule, due, row["created_at"]), int(not error), error, row["id"], row["next_at"]),
        ).rowcount
        if not landed:
            raise ConflictError("another was first", where=f"recurring run {row['id']}")

    occasion = Occasion(
        actor=actor,
        reason=f"recurring run {row['display_name']}, due {rfc3339(due)}",
        at=now,
        recurring_run_id=row["id"],
        scheduled_at=due,
        index=row["started"] + 1,
    )
    try:
        return submission.submit(
            database, _request(row), occasion, environment=environment,
            together=lambda connection, _: advance(connection, ""),
        )  # fmt: skip
    except ConflictError:
        return ""
    except StorageError:
        raise
    except Exception as error:  # noqa: BLE001 - one that cannot be started must not keep the others from their time
        problem = str(error) if isinstance(error, HeadraceError) else f"{type(error).__name__}: {error}"
        with contextlib.suppress(ConflictError), database.transaction() as connection:
            advance(connection, problem)
            _tell(connection, now, actor, "failed", row["id"], reason=problem)
        return ""


def _request(row: Mapping[str, Any]) -> RunRequest:
    return RunRequest(
        display_name=f"{row['display_name']} {row['started'] + 1}",
        description=row["description"],
        experiment_id=row["experiment_id"],
        source=Source(row["document"], row["file"]) if row["document"] else None,
        pipeline_id=row["pipeline_id"],
        pipeline_version_id=row["pipeline_version_id"],
        parameters=json.loads(row["parameters"]),
        pipeline_root=row["pipeline_root"],
        service_account=row["service_account"],
        plugins_input=json.loads(row["plugins_input"]),
    )


def _schedule(row: Mapping[str, Any]) -> Schedule:
    return Schedule(row["cron"], row["interval_seconds"], row["start_at"], row["end_at"], bool(row["no_catchup"]))


def _require_experiment(database: Database, experiment_id: str) -> None:
    try:
        state = experiments.experiment_json(database, experiment_id)["storage_state"]
    except NotFoundError:
        state = "deleted"
    if state != "AVAILABLE":
        raise ConflictError(
            f"its experiment {experiment_id} is {state.lower()}", remedy="Unarchive it, or make the recurring run anew."
        )


def _row(database: Database, recurring_run_id: str) -> Mapping[str, Any]:
    row = database.one("SELECT * FROM recurring_run WHERE id = ?", (recurring_run_id,))
    if row is None:
        raise NotFoundError(
            f"Recurring run {recurring_run_id} not found", remedy="List the recurring runs to see their ids."
        )
    return dict(row)


def _json(row: Mapping[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {
        "recurring_run_id": row["id"],
        "display_name": row["display_name"],
        "description": row["description"],
        "experiment_id": row["experiment_id"],
        "service_account": row["service_account"],
        "mode": "ENABLE" if row["enabled"] else "DISABLE",
        "status": "ENABLED" if row["enabled"] else "DISABLED",
        # int64 is a string in protobuf's JSON.
        "max_concurrency": str(row["max_concurrency"]),
        "no_catchup": bool(row["no_catchup"]),
        "trigger": _trigger(row),
        "runtime_config": {"parameters": json.loads(row["parameters"]), "pipeline_root": row["pipeline_root"]},
        "plugins_input": json.loads(row["plugins_input"]),
        "created_at": rfc3339(row["created_at"]),
        "updated_at": rfc3339(row["updated_at"]),
    }
    if row["document"]:
        told["pipeline_spec"] = packages.spec_json(row["document"])
    else:
        told["pipeline_version_reference"] = {
            "pipeline_id": row["pipeline_id"], "pipeline_version_id": row["pipeline_version_id"],
        }  # fmt: skip
    if row["error"]:
        told["error"] = {"code": 9, "message": row["error"]}
    return told


def _trigger(row: Mapping[str, Any]) -> dict[str, Any]:
    bounds = {
        name: rfc3339(row[column])
        for name, column in (("start_time", "start_at"), ("end_time", "end_at"))
        if row[column] is not None
    }
    if row["cron"]:
        return {"cron_schedule": {**bounds, "cron": row["cron"]}}
    return {"periodic_schedule": {**bounds, "interval_second": str(row["interval_seconds"])}}


def _tell(
    connection: sqlite3.Connection,
    at: float,
    actor: str,
    verb: str,
    recurring_run_id: str,
    *,
    reason: str = "",
    data: Mapping[str, Any] | None = None,
) -> None:
    events.append(
        connection, at=at, actor=actor, kind=f"recurring-run.{verb}", subject=f"recurring-run/{recurring_run_id}",
        reason=reason, data=data,
    )  # fmt: skip
