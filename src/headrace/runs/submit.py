"""Create a run: everything is checked before a row is written."""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from headrace.contracts.pipeline_spec import PipelineDocument
from headrace.errors import UsageError
from headrace.runs.executor_input import is_local, registered
from headrace.runs.gaps import refuse_unsupported
from headrace.runs.model import RunOptions
from headrace.store import events
from headrace.store.database import Database


def create_run(
    database: Database,
    document: PipelineDocument,
    *,
    pipeline: str,
    parameters: Mapping[str, Any],
    environment: str,
    actor: str,
    at: float,
    reason: str = "",
    source_dir: str = "",
    commit: str = "",
    caching: bool = True,
    options: RunOptions = RunOptions(),  # noqa: B008 - it is frozen
    run_id: str = "",
    together: Callable[[sqlite3.Connection, str], None] | None = None,
) -> str:
    """Write a PENDING run and return its id; an engine takes it from there.

    `parameters` may also name input artifacts of the pipeline; such a value is a path or a URI.
    `together(connection, run_id)` does its work in the same transaction; when it raises, there is no run.

    Raises:
        UsageError: a parameter is missing, unknown or of the wrong type; an artifact does not exist.
        UnsupportedError: the embedded engine cannot run a component of the pipeline.
    """
    wanted = document.spec.root.input_definitions.artifacts
    arguments = document.arguments({name: value for name, value in parameters.items() if name not in wanted})
    artifacts = {name: [_artifact(document, name, str(parameters[name]))] for name in wanted if name in parameters}
    _refuse_missing(document, artifacts)
    refuse_unsupported(document, options)
    run_id = run_id or new_run_id()
    moment = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")
    with database.transaction() as connection:
        connection.execute(
            "INSERT INTO run (id, pipeline, name, document, file, parameters, environment, actor, reason, source_dir,"
            " commit_sha, caching, options, artifacts, state, created_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'PENDING', ?)",
            (
                run_id, pipeline, f"{pipeline} {moment}", document.text, document.file, json.dumps(arguments),
                environment, actor, reason, source_dir, commit, int(caching), json.dumps(asdict(options)),
                json.dumps(artifacts), at,
            ),
        )  # fmt: skip
        events.append(
            connection, at=at, actor=actor, kind="run.created", subject=f"run/{run_id}", reason=reason,
            data={"pipeline": pipeline, "commit": commit},
        )  # fmt: skip
        if together is not None:
            together(connection, run_id)
    return run_id


def new_run_id() -> str:
    """An id that no run has."""
    return secrets.token_hex(6)


def _artifact(document: PipelineDocument, name: str, uri: str) -> dict[str, Any]:
    spec = document.spec.root.input_definitions.artifacts[name]
    if is_local(uri) and not Path(uri.removeprefix("file://")).exists():
        raise UsageError(
            f"input artifact {name}: {uri} does not exist", where=document.file, remedy="Give a path or URI."
        )
    return registered(name, spec.artifact_type, uri, {})


def _refuse_missing(document: PipelineDocument, artifacts: Mapping[str, Any]) -> None:
    for name, spec in sorted(document.spec.root.input_definitions.artifacts.items()):
        if name not in artifacts and not spec.is_optional:
            raise UsageError(
                f"the pipeline {document.name} needs the artifact {name} ({spec.artifact_type.schema_title})",
                where=document.file,
                remedy=f"Give a path or URI with -p {name}=PATH.",
            )
