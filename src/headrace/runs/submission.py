"""Runs as the KFP API asks for them: from an uploaded version or from a document of their own, in an experiment."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace.contracts import pipeline_spec
from headrace.contracts.pipeline_spec import PipelineDocument
from headrace.errors import UnsupportedError, UsageError
from headrace.runs import arguments, experiments, pipelines
from headrace.runs.arguments import Moment
from headrace.runs.gaps import refuse_unsupported
from headrace.runs.model import RunOptions
from headrace.runs.pipelines import Source
from headrace.runs.submit import create_run, new_run_id
from headrace.store.database import Database

_MLFLOW_FIELDS = {"experiment_name": str, "experiment_id": str, "disabled": bool}


@dataclass(frozen=True)
class RunRequest:
    """What a run, or each run of a recurring run, is to be.

    Either `source` or `pipeline_version_id`, or `pipeline_id` alone for its newest version. `experiment_id` "" is
    the Default experiment. `pipeline_root` is a folder for artifacts, "" the one in the home. `service_account` is kept
    and told, and means nothing on one machine.
    """

    display_name: str
    description: str = ""
    experiment_id: str = ""
    source: Source | None = None
    pipeline_id: str = ""
    pipeline_version_id: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    pipeline_root: str = ""
    service_account: str = ""
    plugins_input: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Occasion:
    """Why a run starts, and when: `scheduled_at` and `index` are its place in a recurring run."""

    actor: str
    reason: str
    at: float
    recurring_run_id: str = ""
    scheduled_at: float | None = None
    index: int | None = None


@dataclass(frozen=True)
class _Resolved:
    """The pipeline that a request means, and where it was uploaded, if it was."""

    document: PipelineDocument
    pipeline_id: str = ""
    version_id: str = ""


def check(database: Database, request: RunRequest) -> None:
    """Refuse a request that could not become a run now.

    Raises:
        NotFoundError: no such experiment, pipeline or version.
        UsageError: the name, a parameter or a plugin's input is wrong.
        DocumentError: the source is no pipeline.
        UnsupportedError: the embedded engine cannot run a component of the pipeline.
    """
    _resolve(database, request)


def submit(
    database: Database,
    request: RunRequest,
    occasion: Occasion,
    *,
    environment: str,
    together: Callable[[sqlite3.Connection, str], None] | None = None,
) -> str:
    """Write a PENDING run and return its id. `together` does its work in the same transaction.

    Raises:
        NotFoundError, UsageError, DocumentError, UnsupportedError: as `check` does.
    """
    found = _resolve(database, request)
    new_id = new_run_id()
    moment = Moment(new_id, occasion.at, occasion.scheduled_at, occasion.index)

    def describe(connection: sqlite3.Connection, run_id: str) -> None:
        connection.execute(
            "UPDATE run SET name = ?, description = ?, experiment_id = ?, pipeline_id = ?, pipeline_version_id = ?,"
            " recurring_run_id = ?, scheduled_at = ?, pipeline_root = ?, service_account = ?, plugins_input = ?"
            " WHERE id = ?",
            (
                request.display_name, request.description, request.experiment_id or experiments.DEFAULT,
                found.pipeline_id, found.version_id, occasion.recurring_run_id, occasion.scheduled_at,
                request.pipeline_root, request.service_account, json.dumps(dict(request.plugins_input)), run_id,
            ),
        )  # fmt: skip
        if together is not None:
            together(connection, run_id)

    return create_run(
        database,
        found.document,
        pipeline=found.document.name,
        parameters=arguments.with_macros(request.parameters, moment),
        environment=environment,
        actor=occasion.actor,
        at=occasion.at,
        reason=occasion.reason,
        options=_options(request),
        run_id=new_id,
        together=describe,
    )


def inherit(connection: sqlite3.Connection, old: Mapping[str, Any], run_id: str, *, same_code: bool) -> None:
    """Give a run that goes on from `old` its place: experiment, description, plugins' inputs, and its version."""
    version = (old["pipeline_id"], old["pipeline_version_id"]) if same_code else ("", "")
    connection.execute(
        "UPDATE run SET experiment_id = ?, description = ?, service_account = ?, pipeline_root = ?, plugins_input = ?,"
        " pipeline_id = ?, pipeline_version_id = ? WHERE id = ?",
        (
            old["experiment_id"], old["description"], old["service_account"], old["pipeline_root"],
            old["plugins_input"], *version, run_id,
        ),
    )  # fmt: skip


def _resolve(database: Database, request: RunRequest) -> _Resolved:
    if not request.display_name.strip():
        raise UsageError("The run name is empty", where="display_name", remedy="Please specify a valid name.")
    experiments.experiment_json(database, request.experiment_id or experiments.DEFAULT)
    _check_plugins(request.plugins_input)
    if request.source is not None:
        found = _Resolved(pipeline_spec.parse(request.source.text, request.source.file))
    else:
        chosen = pipelines.choose(database, request.pipeline_id, request.pipeline_version_id)
        document = pipeline_spec.parse(chosen.source.text, chosen.source.file)
        found = _Resolved(document, chosen.pipeline_id, chosen.version_id)
    arguments.check(found.document, request.parameters)
    refuse_unsupported(found.document, _options(request))
    return found


def _options(request: RunRequest) -> RunOptions:
    root = request.pipeline_root.removeprefix("file://")
    if root and not Path(root).is_absolute():
        raise UnsupportedError(
            f"artifacts cannot go to {root}: the embedded engine keeps them on this machine",
            where="runtime_config.pipeline_root",
            remedy="Give the absolute path of a folder, or leave it out.",
        )
    return RunOptions(pipeline_root=root)


def _check_plugins(plugins: Mapping[str, Any]) -> None:
    """`mlflow` is checked as KEP-12862 says (MLflowPluginInput); other plugins' inputs are kept and told."""
    for name, given in plugins.items():
        if not isinstance(given, dict):
            raise UsageError("must be an object", where=f"plugins_input.{name}", remedy='As in: {"mlflow": {}}')
    for name, value in plugins.get("mlflow", {}).items():
        if name not in _MLFLOW_FIELDS:
            raise UsageError(
                f"has no field {name}",
                where="plugins_input.mlflow",
                remedy=f"Its fields: {', '.join(_MLFLOW_FIELDS)}.",
            )
        if not isinstance(value, _MLFLOW_FIELDS[name]):
            kind = "true or false" if _MLFLOW_FIELDS[name] is bool else "a string"
            raise UsageError(f"must be {kind}", where=f"plugins_input.mlflow.{name}", remedy="Correct it.")
