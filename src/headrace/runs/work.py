"""From a task that can start to the work that a process does: code or a command, its input and its environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace.contracts.pipeline_spec import values
from headrace.errors import HeadraceError
from headrace.runs import components, platform, task_config
from headrace.runs.environments import HOST_PATH
from headrace.runs.executor_input import executor_input
from headrace.runs.executors import container as containers
from headrace.runs.executors.warm import Work
from headrace.runs.inputs import about_job, filled, job_placeholders
from headrace.runs.live import LiveRun
from headrace.runs.model import ReadyTask
from headrace.runs.placeholders import command_line, replaced
from headrace.runs.prelude import Requirements

# The folder that every attempt of a task is given, so that training which was cut off goes on where it was.
CHECKPOINTS = "checkpoints"
CHECKPOINTS_VARIABLE = "HEADRACE_CHECKPOINT_DIR"
_VARIABLE = re.compile(r"\$\$|\$\((?P<name>[^)]+)\)")


@dataclass(frozen=True)
class Prepared:
    """Work, and where it has to be done: the packages that its environment must have, or the container's name."""

    work: Work
    requirements: Requirements = field(default_factory=Requirements)
    container: str = ""


def prepare(
    run: LiveRun,
    task: ReadyTask,
    *,
    number: int,
    directory: Path,
    log: Path,
    environment: Mapping[str, str],
) -> Prepared:
    """The work of an attempt.

    Raises:
        HeadraceError: it needs a container, and there is no engine for it; the folder that it works in is gone.
    """
    component = run.document.spec.components[task.component]
    container = run.document.executor_of(task.component).container
    given = executor_input(task, component, directory)
    label = component.executor_label
    for name in task_config.inputs(component):
        config = platform.executor_config(run.document.platform, label)
        told = task_config.task_config(
            component, container, config, lambda text: values.to_text(filled_in(text, run, task))
        )
        given["inputs"]["parameterValues"][name] = told
    if run.shares_workspace:
        Path(run.context.workspace).mkdir(parents=True, exist_ok=True)
    python = components.python_component(container)
    if python is not None:
        workdir = run.context.options.workdir
        if workdir and not Path(workdir).is_dir():
            raise HeadraceError(f"the folder that headrace.local was called in, {workdir}, is not there any more")
        work = Work(
            directory=directory, log=log, executor_input=given, environment=environment,
            code=python.code, function=python.function, preload=python.preload, workdir=workdir,
        )  # fmt: skip
        return Prepared(work, python.requirements)
    job = job_placeholders(run.context, task.path)
    command, args = (command_line(list(words), given, job) for words in (container.command, container.args))
    if run.context.options.run_on_host:
        host = {"PATH": HOST_PATH, **environment}
        return Prepared(Work(directory, log, given, host, command=[*command, *args]))
    engine = containers.find()
    if engine is None:
        raise HeadraceError(f"the image {container.image} needs docker or podman, and neither is there")
    name = containers.container_name(run.id, task.path, number)
    started = engine.command(
        name, replaced(container.image, given, job), command, args,
        mounts=_mounts(run, task, directory), environment=environment, workdir=directory / "work",
    )  # fmt: skip
    return Prepared(Work(directory, log, given, {}, command=started), container=name)


def task_environment(given: Mapping[str, str], component: Any, container: Any) -> dict[str, str]:
    """`given` and the component's own variables, with `$(NAME)` expanded by what was set before.

    Source: pipeline_spec.proto, EnvVar: an unknown name stays as it is, `$$` stands for one `$`.
    """
    environment = dict(given)
    if not task_config.applies(component, task_config.ENV):
        return environment

    def expanded(found: re.Match[str]) -> str:
        return "$" if found["name"] is None else environment.get(found["name"], found[0])

    for variable in container.env:
        environment[variable.name] = _VARIABLE.sub(expanded, variable.value)
    return environment


def filled_in(value: Any, run: LiveRun, task: ReadyTask) -> Any:
    """A value of the document with the task's parameters and the job's placeholders in it."""
    return filled(about_job(value, run.context, task.path), task.parameters)


def _mounts(run: LiveRun, task: ReadyTask, directory: Path) -> dict[Path, bool]:
    """The attempt's folder, the checkpoints and the workspace to write to, the input artifacts to read."""
    mounts = {Path(item["uri"]): False for items in task.artifacts.values() for item in items}
    mounts = {path: writable for path, writable in mounts.items() if path.is_absolute() and path.exists()}
    workspace = Path(run.context.workspace)
    if workspace.is_dir():
        mounts[workspace] = True
    return {**mounts, directory: True, directory.parent / CHECKPOINTS: True}
