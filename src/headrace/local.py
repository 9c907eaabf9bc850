"""A drop-in for `kfp.local`: `headrace.local.init()`, and pipelines and components are called as functions.

    from kfp import dsl
    import headrace.local

    headrace.local.init()
    task = train(rounds=10)      # a @dsl.component or a @dsl.pipeline
    task.outputs["accuracy"]

They run as `headrace run` runs them: recorded in .headrace/, each task in a process of its own, packages in
environments of their own.
"""

from __future__ import annotations

import getpass
import json
import logging
import textwrap
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

from headrace.cli import follow
from headrace.contracts import pipeline_spec as pipeline_spec_document
from headrace.project import wiring
from headrace.project.wiring import Platform
from headrace.runs import queries
from headrace.runs.model import RunOptions
from headrace.runs.submit import create_run

POLL_SECONDS = 0.05


@dataclass(frozen=True)
class _Settings:
    options: RunOptions
    raise_on_error: bool
    caching: bool
    quiet: bool


def init(
    runner: Any = None,
    pipeline_root: str | None = None,
    workspace_root: str | None = None,
    raise_on_error: bool = True,
    enable_caching: bool = False,
    cache_root: str | None = None,
    *,
    run_on_host: bool = False,
    quiet: bool = False,
) -> None:
    """Have calls of KFP pipelines and components run here from now on, in this process.

    Args:
        runner, cache_root: taken as `kfp.local.init` takes them, and without effect: Headrace is the runner, and its
            cache is its database.
        pipeline_root: where artifacts go; default: below .headrace/.
        workspace_root: the workspace of every run; default: each run has its own.
        raise_on_error: raise RuntimeError when a run fails; else its outputs are empty.
        enable_caching: reuse the outputs of tasks that ran before with the same inputs.
        run_on_host: run the commands of container components as plain processes.
        quiet: print neither progress nor the tasks' output.
    """
    from kfp import local
    from kfp.local import config, pipeline_orchestrator, task_dispatcher

    # KFP asks what was given to init; which runner it was does not matter, since it is not asked to run anything.
    config.init(
        runner or local.SubprocessRunner(use_venv=False), pipeline_root or "./local_outputs", workspace_root,
        raise_on_error, enable_caching, cache_root,
    )  # fmt: skip
    options = RunOptions(
        run_on_host=run_on_host,
        pipeline_root=str(Path(pipeline_root).resolve()) if pipeline_root else "",
        workspace=str(Path(workspace_root).resolve()) if workspace_root else "",
    )
    settings = _Settings(options, raise_on_error, enable_caching, quiet)
    pipeline_orchestrator.run_local_pipeline = partial(_called, settings, single=False)
    task_dispatcher.run_single_task = partial(_called, settings, single=True)


def _called(settings: _Settings, pipeline_spec: Any, arguments: Mapping[str, Any], *, single: bool) -> dict[str, Any]:
    """Run a PipelineSpec to its end and return its outputs: values, and `dsl.Artifact` objects.

    Raises:
        UsageError: a wrong argument.
        UnsupportedError: something that cannot run here.
        RuntimeError: it did not succeed, in the words of kfp.local.
    """
    from google.protobuf import json_format
    from kfp.local import config

    config.LocalExecutionConfig.validate()
    name = pipeline_spec.pipeline_info.name
    platform = wiring.build()
    try:
        run_id = create_run(
            platform.database,
            pipeline_spec_document.parse(json.dumps(json_format.MessageToDict(pipeline_spec)), name),
            pipeline=name,
            parameters={name: value for name, value in arguments.items() if value is not None},
            environment=platform.environment.name,
            actor=f"user:{getpass.getuser()}",
            at=platform.clock.now(),
            reason="headrace.local",
            caching=settings.caching,
            options=settings.options,
        )
        _drive(platform, run_id, settings.quiet)
        run = queries.run_json(platform.database, run_id)
        if run["state"] != "SUCCEEDED":
            _fail(name, run, single, settings.raise_on_error)
            return {}
        outputs = json.loads(queries.find(platform.database, run_id)["outputs"])
    finally:
        platform.database.close()
    return {**outputs.get("parameters", {}), **{key: _made(items) for key, items in outputs["artifacts"].items()}}


def _drive(platform: Platform, run_id: str, quiet: bool) -> None:
    """Run it in a thread (a notebook has an event loop of its own in this one), and print what happens here."""
    with ThreadPoolExecutor(1, thread_name_prefix="headrace.local") as threads:
        work = threads.submit(follow.watch, platform, run_id, quiet=True)
        told: set[str] = set()
        ended = False
        while not ended:
            ended = bool(wait([work], timeout=POLL_SECONDS).done)
            if not quiet:
                _tell(platform, run_id, told)
        work.result()


def _tell(platform: Platform, run_id: str, told: set[str]) -> None:
    """Print the output and state of tasks that have ended since, as kfp.local does."""
    from kfp.local import logging_utils, status

    rows = platform.database.query(
        "SELECT path, state, cached FROM task WHERE run_id = ? AND finished_at IS NOT NULL ORDER BY finished_at",
        (run_id,),
    )
    logs = {path: log for path, _, log in queries.attempts(platform.database, platform.home, run_id)}
    for row in rows:
        path = str(row["path"])
        if path in told:
            continue
        told.add(path)
        log = logs.get(path)
        if log is not None and log.exists():
            click.echo(textwrap.indent(log.read_text(encoding="utf-8", errors="replace"), "    "), nl=False)
        done = row["state"] == "SUCCEEDED"
        task = logging_utils.format_task_name(path.rpartition("/")[2])
        outcome = logging_utils.format_status(status.Status.SUCCESS if done else status.Status.FAILURE)
        with logging_utils.local_logger_context():
            logging.log(
                logging.INFO if done else logging.ERROR,
                f"Task {task} {'is a cache hit' if row['cached'] else f'finished with status {outcome}'}",
            )


def _made(items: list[Mapping[str, Any]]) -> Any:
    """Artifacts as the SDK's own objects."""
    from kfp.dsl import executor

    artifacts = [executor.create_artifact_instance(item) for item in items]
    return artifacts[0] if len(artifacts) == 1 else artifacts


def _fail(name: str, run: Mapping[str, Any], single: bool, raise_on_error: bool) -> None:
    """Say or raise what kfp.local says or raises."""
    from kfp.local import logging_utils, pipeline_orchestrator, status

    failed = [task["task_id"] for task in run["run_details"]["task_details"] if task["state"] == "FAILED"]
    if not single and failed:
        inside_out = [part for part in reversed(failed[0].split("/")) if not part.isdigit()]
        pipeline_orchestrator.log_and_maybe_raise_for_failure(name, raise_on_error, inside_out)
        return
    outcome = logging_utils.format_status(status.Status.FAILURE)
    message = f"Task {logging_utils.format_task_name(name)} finished with status {outcome}"
    if not failed:
        message = f"{name} ended {run['state']}: {(run['error'] or {}).get('message', '')}"
    if raise_on_error:
        raise RuntimeError(message)
