"""The cache key of a task: everything that its result depends on, and no path."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.runs.model import ReadyTask
from headrace.store.artifacts import content
from headrace.store.database import Database


def key(pipeline: str, task: ReadyTask, component: Any, executor: Any) -> str:
    """A digest of component, code, image, command, environment, parameters and the digests of input artifacts.

    "" when an input artifact has no digest (it is not on this machine), so that nothing is assumed of it.
    A `cacheKey` of the author replaces all but the names of the component and its pipeline.
    """
    if task.cache_key:
        return _digest([pipeline, task.component, task.cache_key])
    artifacts = {}
    for name, items in task.artifacts.items():
        digests = [item.get("digest", "") for item in items]
        if not all(digests):
            return ""
        artifacts[name] = [[digest, item.get("metadata", {})] for digest, item in zip(digests, items, strict=True)]
    return _digest(
        [
            task.component,
            component.SerializeToString(deterministic=True).hex(),
            executor.SerializeToString(deterministic=True).hex(),
            dict(task.parameters),
            artifacts,
        ]
    )


def find(database: Database, cache_key: str) -> str | None:
    """The outputs (JSON) of the newest succeeded task with this key whose artifacts are still there."""
    if not cache_key:
        return None
    rows = database.query(
        "SELECT outputs FROM task WHERE cache_key = ? AND cache_key != '' AND state = 'SUCCEEDED'"
        " ORDER BY finished_at DESC LIMIT 5",
        (cache_key,),
    )
    return next((str(row["outputs"]) for row in rows if intact(row["outputs"])), None)


def intact(outputs: str) -> bool:
    """Whether the artifacts of a task's outputs (JSON) are still there, as far as they are on this machine, and are as
    large as they were: to digest them anew would take longer than many a task."""
    artifacts = json.loads(outputs).get("artifacts", {})
    return all(_there(item) for items in artifacts.values() for item in items)


def _there(artifact: Mapping[str, Any]) -> bool:
    if not artifact["digest"]:
        return True
    try:
        return bool(content.size(Path(artifact["uri"])) == artifact["bytes"])
    except FileNotFoundError:
        return False


@dataclass(frozen=True)
class Reuse:
    """Whether a task's result was taken from an earlier one, and why or why not, as far as the rows tell it.

    `run_id`, `path`: the task that did the work, or the one that it was compared with; "" for none.
    """

    word: str
    why: str
    run_id: str = ""
    path: str = ""


def explain(database: Database, run: Mapping[str, Any], task: Mapping[str, Any], spec: Any, executor: Any) -> Reuse:
    """Tell of a task's row (of this run's row) why it was or was not reused; `spec` is its PipelineTaskSpec."""
    if task["cached"]:
        return _reused(database, task)
    if executor is not None and executor.WhichOneof("spec") == "importer":
        return Reuse("not reused", "An importer looks at its source anew in each run.")
    if executor is not None and executor.container.image.startswith("kfp://"):
        return Reuse("not reused", "A gate asks anew in each run.")
    if not run["caching"]:
        return Reuse("not reused", "Caching was off for this run.")
    if not spec.caching_options.enable_cache:
        return Reuse("not reused", "The pipeline turns caching off for this task.")
    if not task["cache_key"]:
        if task["started_at"] is None:
            return Reuse("not known yet", "It is decided when the task starts.")
        return Reuse(
            "not reused", "An input artifact has no digest (it is not on this machine): nothing is assumed of it."
        )
    return _not_found(database, run, task)


def _reused(database: Database, task: Mapping[str, Any]) -> Reuse:
    if not task["cache_key"]:
        row = database.one(
            "SELECT data FROM event WHERE kind = 'task.kept' AND subject = ? ORDER BY seq DESC LIMIT 1",
            (f"run/{task['run_id']}/task/{task['path']}",),
        )
        previous = str(json.loads(row["data"]).get("run", "")) if row else ""
        return Reuse(
            "kept", "The run that this one goes on from had done it with the same inputs.", previous, task["path"]
        )
    row = database.one(
        "SELECT run_id, path FROM task WHERE cache_key = ? AND cache_key != '' AND state = 'SUCCEEDED' AND cached = 0"
        " AND finished_at <= ? ORDER BY finished_at DESC LIMIT 1",
        (task["cache_key"], task["finished_at"]),
    )
    why = "The same component, code, parameters and input artifacts had succeeded before."
    return Reuse("reused", why, *((row["run_id"], row["path"]) if row else ("", "")))


def _not_found(database: Database, run: Mapping[str, Any], task: Mapping[str, Any]) -> Reuse:
    same = database.one(
        "SELECT run_id, path FROM task WHERE cache_key = ? AND cache_key != '' AND state = 'SUCCEEDED'"
        " AND finished_at < ? ORDER BY finished_at DESC LIMIT 1",
        (task["cache_key"], task["started_at"] or 0.0),
    )
    if same is not None:
        return Reuse("not reused", "The same had succeeded before, but its artifacts were gone.", *same)
    before = database.one(
        "SELECT task.run_id, task.path, task.inputs FROM run INDEXED BY run_browsed JOIN task ON task.run_id = run.id"
        " WHERE run.deleted_at IS NULL AND run.pipeline = ? AND run.created_at < ? AND task.path = ?"
        " AND task.state = 'SUCCEEDED' AND task.cache_key != '' ORDER BY run.created_at DESC LIMIT 1",
        (run["pipeline"], run["created_at"], task["path"]),
    )
    if before is None:
        return Reuse("not reused", "Nothing with this key had succeeded: no run before had a result of this task.")
    changed = _changed(json.loads(before["inputs"]), json.loads(task["inputs"]))
    told = ", ".join(changed) if changed else "the component itself (code, image, command or environment)"
    return Reuse("not reused", f"Since its last result, this changed: {told}.", before["run_id"], before["path"])


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The inputs that differ, as the key sees them: parameters by value, artifacts by digest and metadata."""
    found = []
    for kind, word in (("parameters", "parameter"), ("artifacts", "artifact")):
        was, now = old.get(kind, {}), new.get(kind, {})
        for name in sorted({*was, *now}):
            if kind == "parameters":
                differs = (name in was, was.get(name)) != (name in now, now.get(name))
            else:
                differs = _seen(was.get(name)) != _seen(now.get(name))
            if differs:
                found.append(f"{word} {name}")
    return found


def _seen(items: Any) -> Any:
    return [[item.get("digest", ""), item.get("metadata", {})] for item in items or []]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
