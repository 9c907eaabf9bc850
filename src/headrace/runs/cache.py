"""The cache key of a task: everything that its result depends on, and no path."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from headrace.runs.model import ReadyTask
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
    """Whether the artifacts of a task's outputs (JSON) are still there, as far as they are on this machine."""
    artifacts = json.loads(outputs).get("artifacts", {})
    return all(not item["digest"] or Path(item["uri"]).exists() for items in artifacts.values() for item in items)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
