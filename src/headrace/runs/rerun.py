"""Run a pipeline again from where it went wrong, or from a chosen task: with other parameters or other code.

What a task of the previous run has come to is kept when the new run would give it the very same inputs, when its
artifacts are still there, and when nothing was asked to begin at it or before it. The planner tells the inputs and the
order: it is asked what can start, what of that is known is taken as done, and so on until nothing more is known.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from headrace.contracts import pipeline_spec
from headrace.contracts.pipeline_spec import PipelineDocument
from headrace.errors import ConflictError, NotFoundError, UsageError
from headrace.runs import cache, paths, queries, submission, transitions
from headrace.runs.live import LiveRun
from headrace.runs.model import FINAL, ReadyTask, RunOptions, State, TaskFact
from headrace.runs.submit import create_run
from headrace.store import events
from headrace.store.database import Database
from headrace.store.home import Home


def rerun(
    database: Database,
    home: Home,
    run_id: str,
    *,
    actor: str,
    at: float,
    begin: Sequence[str] = (),
    parameters: Mapping[str, Any] | None = None,
    document: PipelineDocument | None = None,
    commit: str | None = None,
    reason: str = "",
) -> str:
    """Create a run that goes on from a finished one, and return its id.

    Args:
        begin: tasks or groups that run again with all that comes after them: paths, or their last parts. What had not
            succeeded runs again in any case.
        parameters: what differs from the previous run's.
        document: other code; else the previous run's. `commit` is where it comes from.

    Raises:
        NotFoundError: no such run, or no such task in it.
        ConflictError: it is not finished.
        UsageError: nothing would run again; a parameter is unknown or of the wrong type.
    """
    old = queries.find(database, run_id)
    if State(old["state"]) not in FINAL:
        raise ConflictError(
            f"the run is {old['state']}", where=f"run {old['id']}", remedy="Wait for its end, or cancel it first."
        )
    known = {row["path"]: dict(row) for row in database.query("SELECT * FROM task WHERE run_id = ?", (old["id"],))}
    again = _paths(old["id"], known, begin)
    succeeded = {path: row for path, row in known.items() if row["state"] == "SUCCEEDED" and not _within(path, again)}
    if old["state"] == "SUCCEEDED" and not again and not parameters and document is None:
        raise UsageError(
            "everything has succeeded", where=f"run {old['id']}", remedy="Say where to begin, with --from TASK."
        )
    code = document or pipeline_spec.parse(old["document"], old["file"])

    def keep_what_holds(connection: sqlite3.Connection, new: str) -> None:
        submission.inherit(connection, old, new, same_code=document is None)
        told = {"run": old["id"], "from": sorted(begin)}
        events.append(
            connection, at=at, actor=actor, kind="run.goes-on", subject=f"run/{new}", reason=reason, data=told
        )
        row = connection.execute("SELECT * FROM run WHERE id = ?", (new,)).fetchone()
        _keep(connection, LiveRun({**row, "started_at": at}, home), succeeded, previous=old["id"], at=at)

    return create_run(
        database, code, pipeline=old["pipeline"], parameters={**_given(old, code), **(parameters or {})},
        environment=old["environment"], actor=actor, at=at, reason=reason or f"rerun of {old['id']}",
        source_dir=old["source_dir"], commit=old["commit_sha"] if commit is None else commit,
        caching=bool(old["caching"]), options=RunOptions(**json.loads(old["options"])), together=keep_what_holds,
    )  # fmt: skip


def goes_on_from(database: Database, run_id: str) -> str:
    """The run that this one goes on from; "" when it began by itself."""
    row = database.one("SELECT data FROM event WHERE subject = ? AND kind = 'run.goes-on'", (f"run/{run_id}",))
    return str(json.loads(row["data"])["run"]) if row else ""


def _paths(run_id: str, known: Collection[str], names: Sequence[str]) -> set[str]:
    """The paths of tasks and groups that are called so, by their whole path or its last part."""
    groups = {group for path in known for group in paths.groups(path)}
    found: set[str] = set()
    for name in names:
        called = {path for path in {*known, *groups} if path == name or path.endswith(f"/{name}")}
        if not called:
            raise NotFoundError(
                f'no task called "{name}" has run', where=f"run {run_id}", remedy="`headrace runs show` lists them."
            )
        found |= called
    return found


def _within(path: str, groups: Collection[str]) -> bool:
    """Whether a task is one of these, or inside one; a later try of a nested pipeline is inside it, too."""
    return any(path == group or path.startswith((f"{group}/", f"{group}~")) for group in groups)


def _given(old: Mapping[str, Any], code: PipelineDocument) -> dict[str, Any]:
    """What the previous run was given, as far as the code still asks for it."""
    asked = code.spec.root.input_definitions
    values = {name: value for name, value in json.loads(old["parameters"]).items() if name in asked.parameters}
    artifacts = json.loads(old["artifacts"])
    return {**values, **{name: items[0]["uri"] for name, items in artifacts.items() if name in asked.artifacts}}


def _keep(
    connection: sqlite3.Connection, run: LiveRun, succeeded: Mapping[str, Any], *, previous: str, at: float
) -> None:
    while kept := [task for task in run.plan(every_iteration=True).ready if _same(task, succeeded.get(task.path))]:
        for task in kept:
            transitions.keep(connection, run.id, task, previous=previous, at=at)
            outputs = json.loads(succeeded[task.path]["outputs"])
            run.facts[task.path] = TaskFact(
                State.SUCCEEDED, outputs.get("parameters", {}), outputs.get("artifacts", {})
            )


def _same(task: ReadyTask, row: Mapping[str, Any] | None) -> bool:
    """Whether a task is the one of the previous run: the same component and inputs, and its artifacts still there."""
    if row is None or row["component"] != task.component:
        return False
    same = json.loads(row["inputs"]) == json.loads(transitions.inputs_json(task))
    return same and cache.intact(row["outputs"])
