"""Runs as JSON: one function behind the command line, the API and the console."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headrace.clock import rfc3339
from headrace.errors import NotFoundError
from headrace.runs.attempts import log_path
from headrace.runs.packages import spec_json
from headrace.store.database import Database
from headrace.store.home import Home


def run_json(database: Database, run_id: str) -> dict[str, Any]:
    """A run as KFP's v2beta1 `Run` in snake_case, with two additions.

    `outputs`: the pipeline's outputs; on each task detail `outputs_values` and `cached`. `run_id` may be the
    beginning of an id.

    Raises:
        NotFoundError: no such run, or more than one.
    """
    run = find(database, run_id)
    tasks = database.query("SELECT * FROM task WHERE run_id = ? ORDER BY created_at, path", (run["id"],))
    details = [task_row_json(dict(task)) for task in tasks]
    if run["state"] == "PENDING":
        # What was cut off is taken up again with its run, and until then it does not run.
        details = [{**one, "state": "PENDING"} if one["state"] == "RUNNING" else one for one in details]
    return {**run_row_json(run), "run_details": {"task_details": details}}


def find(database: Database, run_id: str) -> dict[str, Any]:
    """The row of a run by its id or the beginning of it. Raises NotFoundError."""
    # A range, so that the index of ids answers it however many runs there are.
    rows = database.query(
        "SELECT * FROM run WHERE deleted_at IS NULL AND id >= ? AND id <= ? LIMIT 2", (run_id, run_id + _LAST)
    )
    if len(rows) != 1 or not run_id:
        problem = f"no run has the id {run_id}" if not rows else f"more than one run has an id that starts {run_id}"
        raise NotFoundError(problem, remedy="`headrace runs list` shows them.")
    return dict(rows[0])


def attempts(
    database: Database, home: Home, run_id: str, task: str | None = None, *, missing_ok: bool = False
) -> list[tuple[str, int, Path]]:
    """Tasks that were tried, in order, each with the attempt's number and its log. `task` is a path or its last part.

    Raises:
        NotFoundError: no such run, or (unless `missing_ok`) no task of this name was tried.
    """
    run = find(database, run_id)
    rows = database.query(
        f"SELECT path, number FROM attempt WHERE run_id = ? AND {_NAMED} ORDER BY started_at, number",
        (run["id"], task, task, task),
    )
    if task is not None and not rows and not missing_ok:
        raise _no_task(run["id"], task, "has run")
    return [(row["path"], row["number"], log_path(home, run["id"], row["path"], row["number"])) for row in rows]


def task_states(database: Database, run_id: str, task: str) -> list[str]:
    """The states of the tasks that `task` (a path or its last part) names; none when it has not started."""
    rows = database.query(f"SELECT state FROM task WHERE run_id = ? AND {_NAMED}", (run_id, task, task, task))
    return [str(row["state"]) for row in rows]


def require_task(database: Database, run_id: str, task: str) -> None:
    """Refuse a task that the run has not started and that its pipeline does not name. Raises NotFoundError."""
    run = find(database, run_id)
    if task_states(database, run["id"], task):
        return
    spec = spec_json(run["document"])
    spec = spec.get("pipeline_spec", spec)
    groups = [spec["root"], *spec.get("components", {}).values()]
    if not any(task.rpartition("/")[2] in group.get("dag", {}).get("tasks", {}) for group in groups):
        raise _no_task(run["id"], task, "is part of it")


# Sorts behind all that an id may go on with.
_LAST = "\U0010ffff"
_NAMED = "(? IS NULL OR path = ? OR path LIKE '%/' || ?)"


def _no_task(run_id: str, task: str, what: str) -> NotFoundError:
    return NotFoundError(
        f'no task called "{task}" {what}', where=f"run {run_id}", remedy="`headrace runs show` lists them."
    )


def run_row_json(run: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the table `run` as JSON, without its tasks."""
    outputs = json.loads(run["outputs"])
    return {
        "run_id": run["id"],
        "display_name": run["name"],
        "experiment_id": run["experiment_id"],
        "storage_state": run["storage_state"],
        "pipeline": run["pipeline"],
        "state": run["state"],
        "created_at": rfc3339(run["created_at"]),
        "scheduled_at": rfc3339(run["scheduled_at"] or run["created_at"]),
        "started_at": _time(run["started_at"]),
        "finished_at": _time(run["finished_at"]),
        "error": json.loads(run["error"]) if run["error"] else None,
        "runtime_config": {"parameters": json.loads(run["parameters"])},
        "environment": run["environment"],
        "commit": run["commit_sha"],
        "actor": run["actor"],
        "reason": run["reason"],
        "outputs": {
            **outputs.get("parameters", {}),
            **{name: _artifacts(items) for name, items in outputs.get("artifacts", {}).items()},
        },
    }


def task_row_json(task: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the table `task` as JSON."""
    outputs, inputs = json.loads(task["outputs"]), json.loads(task["inputs"])
    parent, _, name = task["path"].rpartition("/")
    return {
        "task_id": task["path"],
        "run_id": task["run_id"],
        "name": name,
        "display_name": task["display_name"],
        "parent_task_id": parent or None,
        "state": task["state"],
        "create_time": rfc3339(task["created_at"]),
        "start_time": _time(task["started_at"]),
        "end_time": _time(task["finished_at"]),
        "attempts": task["attempt"],
        "error": {"code": 1, "message": task["message"]} if task["message"] else None,
        "inputs": {
            "parameters": inputs.get("parameters", {}),
            "artifacts": {name: _artifacts(items) for name, items in inputs.get("artifacts", {}).items()},
        },
        "outputs_values": {
            **outputs.get("parameters", {}),
            **{name: _artifacts(items) for name, items in outputs.get("artifacts", {}).items()},
        },
        "cached": bool(task["cached"]),
    }


def _artifacts(items: list[Mapping[str, Any]]) -> Any:
    """One artifact as `{uri, type, metadata}`; a list as a list of them."""
    told = [
        {"uri": item["uri"], "type": item["type"].get("schemaTitle", ""), "metadata": item.get("metadata", {})}
        for item in items
    ]
    return told[0] if len(told) == 1 else told


def _time(seconds: float | None) -> str | None:
    return rfc3339(seconds) if seconds is not None else None
