"""Create a run: everything is checked before a row is written."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from headrace.contracts.pipeline_spec import PipelineDocument
from headrace.runs.components import refuse_unsupported
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
) -> str:
    """Write a PENDING run and return its id; an engine takes it from there.

    Raises:
        UsageError: a parameter is missing, unknown or of the wrong type.
        UnsupportedError: the embedded engine cannot run a component of the pipeline.
    """
    arguments = document.arguments(parameters)
    refuse_unsupported(document)
    run_id = secrets.token_hex(6)
    moment = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")
    with database.transaction() as connection:
        connection.execute(
            "INSERT INTO run (id, pipeline, name, document, file, parameters, environment, actor, reason, source_dir,"
            " commit_sha, caching, state, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'PENDING', ?)",
            (
                run_id, pipeline, f"{pipeline} {moment}", document.text, document.file, json.dumps(arguments),
                environment, actor, reason, source_dir, commit, int(caching), at,
            ),
        )  # fmt: skip
        events.append(
            connection, at=at, actor=actor, kind="run.created", subject=f"run/{run_id}", reason=reason,
            data={"pipeline": pipeline, "commit": commit},
        )  # fmt: skip
    return run_id
