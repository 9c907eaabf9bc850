"""What the embedded engine cannot do for a pipeline: said before anything runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from headrace.contracts.pipeline_spec import PipelineDocument
from headrace.errors import UnsupportedError
from headrace.runs import components, platform, resources, task_config
from headrace.runs.environments import HOST_PATH
from headrace.runs.executors import container as containers
from headrace.runs.model import RunOptions

_Engine = Callable[[], containers.ContainerEngine | None]
_PYTHON_INSTEAD = "Write it as a lightweight Python component (@dsl.component)."


@dataclass(frozen=True)
class Gap:
    """One thing that a component (or the pipeline itself, then `component` is empty) asks for and does not get.

    `fatal`: the component would do something else without it, so the run is refused. Otherwise it only steers where
    and under which identity a cluster would run the component.
    """

    component: str
    problem: str
    remedy: str
    fatal: bool = True

    def __str__(self) -> str:
        return f"component {self.component} {self.problem}" if self.component else f"the pipeline {self.problem}"


def refuse_unsupported(document: PipelineDocument, options: RunOptions) -> None:
    """Say before anything runs what cannot run here.

    Raises:
        UnsupportedError: a component needs a container, memory or something of a cluster that is not here.
    """
    problems = [gap for gap in gaps(document, run_on_host=options.run_on_host) if gap.fatal]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise UnsupportedError(f"{problems[0]}{more}", where=document.file, remedy=problems[0].remedy)


def gaps(document: PipelineDocument, *, run_on_host: bool = False) -> list[Gap]:
    """All gaps: of the components in the order of their names, then of the pipeline's own configuration."""
    # Asked at most once: a client without its daemon takes its time to say so.
    engine = None if run_on_host else cache(containers.find)
    found: list[Gap] = []
    for name, component in sorted(document.spec.components.items()):
        if component.WhichOneof("implementation") == "executor_label":
            gap = Gap(name.removeprefix("comp-"), "", "")
            found += _of_executor(gap, document, component, engine)
    found += [Gap("", problem, remedy, fatal=False) for problem, remedy in platform.pipeline_gaps(document.platform)]
    return found


def _of_executor(gap: Gap, document: PipelineDocument, component: Any, engine: _Engine | None) -> Iterator[Gap]:
    label = component.executor_label
    executor = document.executors[label]
    kind = executor.WhichOneof("spec")
    if kind == "container" and executor.container.image != components.GATE_IMAGE:
        for problem, remedy in _of_container(executor.container, engine):
            yield replace(gap, problem=problem, remedy=remedy)
        if task_config.applies(component, task_config.RESOURCES):
            never = resources.never_fits(executor.container.resources)
            if never:
                yield replace(gap, problem=never[0], remedy=never[1])
            for problem, remedy in resources.unmet(executor.container.resources):
                yield replace(gap, problem=problem, remedy=remedy, fatal=False)
    elif kind not in ("container", "importer"):
        yield replace(gap, problem="is of a kind that the embedded engine does not run", remedy="Use another engine.")
    for feature in platform.executor_gaps(document.platform, label):
        yield replace(gap, problem=feature.problem, remedy=feature.remedy, fatal=feature.fatal)


def _of_container(container: Any, engine: _Engine | None) -> Iterator[tuple[str, str]]:
    """`engine` finds a container engine; None: commands run on this machine."""
    if components.python_component(container) is not None:
        return
    if of_a_cluster := platform.image_gap(container.image):
        yield of_a_cluster
    elif engine is not None:
        if engine() is None:
            yield (
                f"runs the container image {container.image}, and neither docker nor podman is here",
                f"Install one of them, or: {_PYTHON_INSTEAD} Where its command exists on this machine, too: "
                "--run-on-host.",
            )
    elif missing := _missing_on_host(list(container.command), list(container.args)):
        yield f"needs the container image {container.image}: {missing}", _PYTHON_INSTEAD


def _missing_on_host(command: list[str], arguments: list[str]) -> str:
    """Why a container's command cannot run as a process of this machine, as far as that can be told beforehand."""
    if not command:
        return "its command is the image's own entry point"
    program, *words = [*command, *arguments]
    if any("kfp.dsl.executor_main" in word for word in words):
        return "its Python code is in the image"
    if "{" in program:
        return ""
    if shutil.which(program, path=HOST_PATH) is None:
        return f"its command {program} does not exist on this machine"
    script = words[0] if words and Path(program).name in ("sh", "bash", "ash", "dash") else "-"
    if not script.startswith(("-", "+", "{")) and not Path(script).is_file():
        return f"its script {script} does not exist on this machine"
    return ""
