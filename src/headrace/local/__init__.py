"""A drop-in for `kfp.local`: `headrace.local.init()`, and pipelines and components are called as functions.

    from kfp import dsl
    import headrace.local

    headrace.local.init()
    task = train(rounds=10)      # a @dsl.component or a @dsl.pipeline
    task.outputs["accuracy"]

They run as `headrace run` runs them: recorded in .headrace/, each task in a process of its own, packages in
environments of their own. As with kfp.local's SubprocessRunner, components work and import from the folder that the
caller works in. What they give lies where kfp.local leaves it: pipeline_root/PIPELINE-TIME/TASK/OUTPUT.
"""

from __future__ import annotations

import getpass
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

from headrace.cli import follow
from headrace.contracts import pipeline_spec as pipeline_spec_document
from headrace.local.outputs import Outputs, called
from headrace.local.terminal import Terminal, line, say
from headrace.project import wiring
from headrace.project.wiring import Platform
from headrace.runs import queries
from headrace.runs.model import RunOptions
from headrace.runs.submit import create_run

POLL_SECONDS = 0.05
PIPELINE_ROOT = "./local_outputs"


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
        pipeline_root: the folder where outputs are found, ./local_outputs by default.
        workspace_root: the workspace of every run; default: each run has its own.
        raise_on_error: raise RuntimeError when a run fails; else its outputs are empty.
        enable_caching: reuse the outputs of tasks that ran before with the same inputs.
        run_on_host: run the commands of container components as plain processes.
        quiet: print neither progress nor the tasks' output.
    """
    from kfp import local
    from kfp.local import config, pipeline_orchestrator, task_dispatcher

    # KFP asks what was given to init; which runner it was does not matter, since it is not asked to run anything.
    root = str(Path(pipeline_root or PIPELINE_ROOT).resolve())
    config.init(
        runner or local.SubprocessRunner(use_venv=False), root, workspace_root, raise_on_error, enable_caching,
        cache_root,
    )  # fmt: skip
    options = RunOptions(
        run_on_host=run_on_host,
        pipeline_root=root,
        artifacts_in_home=True,
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
    from kfp.local import config, executor_input_utils, logging_utils, status

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
            options=replace(settings.options, workdir=str(Path.cwd())),
        )
        folder = executor_input_utils.get_local_pipeline_resource_name(name)
        outputs = Outputs(platform.database, run_id, Path(settings.options.pipeline_root) / folder)
        terminal = None if settings.quiet else Terminal()
        if terminal is not None and not single:
            say(f"Running pipeline: {logging_utils.format_pipeline_name(name)}")
            line()
        _Drive(platform, run_id, pipeline_spec, outputs, terminal).drive()
        run = queries.run_json(platform.database, run_id)
        if run["state"] != "SUCCEEDED":
            _fail(name, run, single, settings.raise_on_error)
            return {}
        if terminal is not None and not single:
            outcome = logging_utils.format_status(status.Status.SUCCESS)
            say(f"Pipeline {logging_utils.format_pipeline_name(name)} finished with status {outcome}")
        return outputs.objects(queries.find(platform.database, run_id)["outputs"], pipeline_spec.root)
    finally:
        platform.database.close()


@dataclass(frozen=True)
class _Drive:
    """A run of a PipelineSpec that is driven here."""

    platform: Platform
    run_id: str
    spec: Any
    outputs: Outputs
    terminal: Terminal | None
    # The tasks of which all is told.
    told: set[str] = field(default_factory=set)

    def drive(self) -> None:
        """Run it in a thread (a notebook has an event loop of its own in this one), and tell here what happens."""
        with ThreadPoolExecutor(1, thread_name_prefix="headrace.local") as threads:
            stop = Event()
            work = threads.submit(follow.watch, self.platform, self.run_id, quiet=True, interrupted=stop.is_set)
            ended = False
            try:
                while not ended:
                    ended = bool(wait([work], timeout=POLL_SECONDS).done)
                    self._tell()
            except KeyboardInterrupt:
                stop.set()
                raise
            work.result()

    def _tell(self) -> None:
        """Lay out the outputs of tasks that have ended since, and print what tasks do."""
        rows = self.platform.database.query(
            "SELECT path, component, state, cached, message, outputs, finished_at FROM task"
            " WHERE run_id = ? AND coalesce(started_at, finished_at) IS NOT NULL"
            " ORDER BY coalesce(finished_at, 1e12), started_at",
            (self.run_id,),
        )
        logs: dict[str, list[Path]] = {}
        for path, _, log in queries.attempts(self.platform.database, self.platform.home, self.run_id):
            logs.setdefault(path, []).append(log)
        for row in rows:
            task, own = dict(row), logs.get(row["path"], [])
            if task["path"] in self.told:
                continue
            if task["finished_at"] is not None:
                self.told.add(task["path"])
                self._ended(task, own)
            elif self.terminal is not None:
                self.terminal.running(task, own)

    def _ended(self, task: Mapping[str, Any], logs: list[Path]) -> None:
        if task["state"] == "SUCCEEDED":
            self.outputs.add(task)
        if self.terminal is not None:
            component = self.spec.components[task["component"]]
            self.terminal.ended(task, logs, self.outputs.objects(task["outputs"], component))


def _fail(name: str, run: Mapping[str, Any], single: bool, raise_on_error: bool) -> None:
    """Say or raise what kfp.local says or raises."""
    from kfp.local import logging_utils, pipeline_orchestrator, status

    failed = [task["task_id"] for task in run["run_details"]["task_details"] if task["state"] == "FAILED"]
    if not single and failed:
        inside_out = called(failed[0]).split("/")[::-1]
        pipeline_orchestrator.log_and_maybe_raise_for_failure(name, raise_on_error, inside_out)
        return
    outcome = logging_utils.format_status(status.Status.FAILURE)
    message = f"Task {logging_utils.format_task_name(name)} finished with status {outcome}"
    if not failed:
        message = f"{name} ended {run['state']}: {(run['error'] or {}).get('message', '')}"
    if raise_on_error:
        raise RuntimeError(message)
