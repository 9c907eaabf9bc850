"""One task or one artifact of a run in full."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.contracts.pipeline_spec import PipelineDocument
from headrace.errors import NotFoundError
from headrace.governance import approvals
from headrace.runs import cache, queries, tree
from headrace.runs.attempts import log_path
from headrace.runs.executor_input import is_local
from headrace.store.database import Database
from headrace.store.home import Home

_TAIL_BYTES = 16 * 1024


@dataclass(frozen=True)
class ArtifactRow:
    """An artifact as it was recorded. `bytes` is 0 where there is no content on this machine, or none that counts."""

    run_id: str
    path: str
    name: str
    position: int
    uri: str
    type: str
    metadata: dict[str, Any]
    digest: str
    bytes: int

    @property
    def file(self) -> Path | None:
        """Where its content is on this machine; None when it is elsewhere or gone."""
        path = Path(self.uri.removeprefix("file://"))
        return path if is_local(self.uri) and path.is_absolute() and path.exists() else None


@dataclass(frozen=True)
class AttemptRow:
    """A process that tried to do a task. Times are unix seconds."""

    number: int
    state: str
    message: str
    started_at: float
    finished_at: float | None


@dataclass(frozen=True)
class TaskView:
    """All that is known of a task. `inputs` and `outputs` are parameters; `input_artifacts` name who made each.

    A task that has not started has only what its pipeline says. `gate`: the gate that it asks at; "" for none.
    `resources`: what its pipeline asks of the machine. `retries`: how often it may fail and be tried again.
    """

    run_id: str
    path: str
    name: str
    component: str
    state: str
    started_at: float | None
    finished_at: float | None
    message: str
    inputs: dict[str, Any]
    input_artifacts: list[dict[str, Any]]
    outputs: dict[str, Any]
    artifacts: list[ArtifactRow]
    attempts: list[AttemptRow]
    reuse: cache.Reuse | None
    resources: dict[str, Any]
    image: str
    retries: int
    condition: str
    gate: str


def task(database: Database, run: Mapping[str, Any], path: str) -> TaskView:
    """A task of a run (its row) by its path. Raises NotFoundError: neither the run nor its pipeline has it."""
    document = tree.document_of(run)
    found = database.one("SELECT * FROM task WHERE run_id = ? AND path = ?", (run["id"], path))
    row = dict(found) if found else None
    spec = tree.task_spec(document, path)
    if row is None and (spec is None or document.spec.components[spec.component_ref.name].HasField("dag")):
        raise NotFoundError(f'no task called "{path}" is part of it', where=f"run {run['id']}")
    component = row["component"] if row else spec.component_ref.name if spec is not None else ""
    executor = _executor(document, component)
    inputs = json.loads(row["inputs"]) if row else {}
    outputs = json.loads(row["outputs"]) if row else {}
    gate = approvals.gate_of(database, f"run/{run['id']}/task/{path}")
    return TaskView(
        run_id=run["id"], path=path, name=(row["display_name"] if row else "") or path, component=component,
        state=row["state"] if row else "PENDING",
        started_at=row["started_at"] if row else None, finished_at=row["finished_at"] if row else None,
        message=row["message"] if row else "",
        inputs=inputs.get("parameters", {}), outputs=outputs.get("parameters", {}),
        input_artifacts=_inputs(database, run["id"], inputs.get("artifacts", {})),
        artifacts=artifacts(database, run["id"], path), attempts=_attempts(database, run["id"], path),
        reuse=cache.explain(database, run, row, spec, executor) if row and spec is not None else None,
        resources=_resources(executor), image=executor.container.image if executor is not None else "",
        retries=spec.retry_policy.max_retry_count if spec is not None else 0,
        condition=spec.trigger_policy.condition if spec is not None else "", gate=gate.id if gate else "",
    )  # fmt: skip


def artifacts(database: Database, run_id: str, path: str | None = None) -> list[ArtifactRow]:
    """The artifacts of a run, or of one of its tasks."""
    rows = database.query(
        "SELECT * FROM artifact WHERE run_id = ? AND (? IS NULL OR path = ?) ORDER BY path, name, position",
        (run_id, path, path),
    )
    return [_artifact(dict(row)) for row in rows]


def artifact(database: Database, run_id: str, path: str, name: str, position: int) -> ArtifactRow:
    """One artifact. Raises NotFoundError."""
    row = database.one(
        "SELECT * FROM artifact WHERE run_id = ? AND path = ? AND name = ? AND position = ?",
        (run_id, path, name, position),
    )
    if row is None:
        raise NotFoundError(f"the task {path} has no artifact {name}", where=f"run {run_id}")
    return _artifact(dict(row))


def last_lines(database: Database, home: Home, run_id: str, path: str, count: int = 30) -> str:
    """What the last attempt of a task printed at the end; "" when it printed nothing."""
    tried = queries.attempts(database, home, run_id, path, missing_ok=True)
    if not tried:
        return ""
    file = log_path(home, run_id, path, max(number for _, number, _ in tried))
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - _TAIL_BYTES))
            text = stream.read(_TAIL_BYTES).decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-count:])


def _artifact(row: Mapping[str, Any]) -> ArtifactRow:
    return ArtifactRow(**{**row, "metadata": json.loads(row["metadata"])})


def _attempts(database: Database, run_id: str, path: str) -> list[AttemptRow]:
    rows = database.query(
        "SELECT number, state, message, started_at, finished_at FROM attempt WHERE run_id = ? AND path = ?"
        " ORDER BY number",
        (run_id, path),
    )
    return [AttemptRow(**dict(row)) for row in rows]


def _inputs(database: Database, run_id: str, given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Input artifacts with the task of this run that made each; "" when none did."""
    made = {
        row["uri"]: row
        for row in database.query("SELECT path, name, position, uri FROM artifact WHERE run_id = ?", (run_id,))
    }
    return [
        {
            "name": name, "uri": item["uri"], "digest": item.get("digest", ""),
            "producer": made[item["uri"]]["path"] if item["uri"] in made else "",
            "output": made[item["uri"]]["name"] if item["uri"] in made else "",
            "position": made[item["uri"]]["position"] if item["uri"] in made else 0,
        }
        for name, items in given.items()
        for item in items
    ]  # fmt: skip


def _executor(document: PipelineDocument, component: str) -> Any | None:
    known = document.spec.components
    label = known[component].executor_label if component in known else ""
    return document.executors.get(label) if label else None


def _resources(executor: Any | None) -> dict[str, Any]:
    from google.protobuf import json_format

    if executor is None or executor.WhichOneof("spec") != "container":
        return {}
    asked: dict[str, Any] = json_format.MessageToDict(executor.container.resources, preserving_proto_field_name=True)
    return {name.removeprefix("resource_").replace("_", " "): value for name, value in asked.items()}
