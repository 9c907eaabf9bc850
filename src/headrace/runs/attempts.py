"""The processes of tasks: started, found again after the death of an engine, ended, and read when they have ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from headrace.contracts.pipeline_spec import values
from headrace.errors import HeadraceError
from headrace.processes import alive, created, kill_session
from headrace.runs import components, environments, platform, resources, task_config, work
from headrace.runs.executor_input import Outputs, executor_input, read_outputs
from headrace.runs.executors import container as containers
from headrace.runs.executors.warm import NotStartedError, WarmExecutor
from headrace.runs.executors.warm_parent import RESULT_FILE, claim
from headrace.runs.leftovers import end_leftovers, free_when_full
from headrace.runs.live import Attempt, LiveRun
from headrace.runs.model import ReadyTask
from headrace.runs.prelude import Requirements
from headrace.runs.resources import Claim
from headrace.store.home import Home


class AttemptFailedError(HeadraceError):
    """The process of a task ended, and not with success."""


class Attempts:
    """Starts the attempts of an engine and ends them. Nothing here changes a row.

    `environment` is given to every task, `tracked(run_id, path)` also to a task whose run has `plugins_input`.
    `on_exit(pid, status)` is called for each end; a negative status is a signal.
    """

    def __init__(
        self,
        home: Home,
        *,
        environment: Mapping[str, str],
        tracked: Callable[[str, str], Mapping[str, str]],
        on_exit: Callable[[int, int], None],
    ) -> None:
        self.home = home
        self.environment = dict(environment)
        self.tracked = tracked
        # Whether what takes long is to be left: the engine ends.
        self.closing = False
        self._on_exit = on_exit
        self._executors: dict[Path | None, WarmExecutor] = {}
        self._one_by_one = asyncio.Lock()

    async def start(self, run: LiveRun, task: ReadyTask, number: int, at: float) -> Attempt:
        """Start the process of an attempt.

        Raises:
            NotStartedError, MakingInterruptedError: it has not begun, and may be tried again.
            HeadraceError: it cannot be started.
        """
        directory = run.folder / task.path / str(number)
        directory.mkdir(parents=True, exist_ok=True)
        (directory.parent / work.CHECKPOINTS).mkdir(exist_ok=True)
        log = log_path(self.home, run.id, task.path, number)
        log.parent.mkdir(parents=True, exist_ok=True)
        container = run.document.executor_of(task.component).container
        environment = await self._environment(run, task, container)
        prepare = partial(work.prepare, run, task, number=number, directory=directory, log=log, environment=environment)
        # What takes no time is not worth a thread: to wait for one costs more than a task's own start.
        quick = components.python_component(container) is not None
        prepared = prepare() if quick else await asyncio.to_thread(prepare)
        python = await self._python(run, prepared.requirements, log)
        # A task that the warm parent has died with starts alone from then on: so the one at fault takes no other along.
        alone = self._one_by_one if run.not_started[task.path] else contextlib.nullcontext()
        try:
            async with alone:
                pid = await self._executor(python).start(prepared.work)
            born = created(pid)
        except NotStartedError:
            known, born = _claimed(directory)
            if known is None:
                raise
            pid = known
        return Attempt(
            task, number, directory, pid, born, deadline=_deadline(run, task, at), container=prepared.container
        )

    def found(self, run: LiveRun, row: Mapping[str, Any]) -> tuple[Attempt, bool]:
        """The attempt of a dead engine, and whether it is there: its process lives, or has left a result."""
        directory, pid, born = Path(row["directory"]), row["pid"], row["process_created"]
        if pid is None:
            pid, born = _claimed(directory)
        task = run.planned(row["path"])
        attempt = Attempt(
            task, row["number"], directory, pid or 0, born or 0.0,
            deadline=_deadline(run, task, row["started_at"]), container=_container_of(run, task, row["number"]),
        )  # fmt: skip
        there = alive(pid, born) or (directory / RESULT_FILE).exists()
        if not there:
            _remove(attempt.container)
        return attempt, there

    async def kill(self, attempt: Attempt) -> None:
        """End an attempt with all that it has started."""
        kill_session(attempt.pid, attempt.process_created)
        if attempt.container:
            await asyncio.to_thread(_remove, attempt.container)

    async def outputs(self, run: LiveRun, attempt: Attempt) -> Outputs:
        """What an attempt that has ended gave.

        Raises:
            AttemptFailedError: it failed, or took too long; what is left of it has been ended.
            HeadraceError: an output is not there or cannot be read.
        """
        if not (attempt.directory / RESULT_FILE).exists():
            await asyncio.to_thread(_clear_away, run, attempt)
        result = _result(attempt)
        if attempt.problem:
            raise AttemptFailedError(attempt.problem)
        if result["exit_code"] != 0:
            freed = await asyncio.to_thread(free_when_full, attempt.directory)
            in_container = attempt.container and result["exit_code"] > 0
            problem = containers.told(result["exit_code"]) if in_container else result["error"]
            raise AttemptFailedError(problem + freed)
        component = run.document.spec.components[attempt.task.component]
        given = executor_input(attempt.task, component, attempt.directory)
        read = partial(read_outputs, component, given, attempt.directory)
        # Artifacts are digested, which may take long.
        return await asyncio.to_thread(read) if component.output_definitions.artifacts else read()

    async def close(self) -> None:
        """End the warm parents; the processes of tasks go on."""
        for executor in self._executors.values():
            await executor.close()

    async def _environment(self, run: LiveRun, task: ReadyTask, container: Any) -> dict[str, str]:
        threads = run.claims[task.path].environment if task.path in run.claims else {}
        tracked = await asyncio.to_thread(self.tracked, run.id, task.path) if run.plugins else {}
        checkpoints = str(run.folder / task.path / work.CHECKPOINTS)
        own = {"HEADRACE_TASK": task.path, work.CHECKPOINTS_VARIABLE: checkpoints}
        given = {**self.environment, **run.environment, **threads, **tracked, **own}
        return work.task_environment(given, run.document.spec.components[task.component], container)

    async def _python(self, run: LiveRun, wanted: Requirements, log: Path) -> Path | None:
        """The interpreter of the environment that has these packages; None: this one. Raises as `python_for`."""
        if not wanted.packages:
            return None
        return await asyncio.to_thread(
            environments.python_for, self.home, wanted, tell=partial(_note, log),
            stopped=lambda: run.ending or self.closing,
        )  # fmt: skip

    def _executor(self, python: Path | None) -> WarmExecutor:
        """The warm parent of an environment."""
        if python not in self._executors:
            self._executors[python] = WarmExecutor(self._on_exit, python)
        return self._executors[python]


def claim_of(run: LiveRun, task: ReadyTask) -> Claim:
    """What a task asks of the machine.

    Raises:
        HeadraceError: it asks for something that is no quantity.
    """
    if not task_config.applies(run.document.spec.components[task.component], task_config.RESOURCES):
        return Claim()
    container = run.document.executor_of(task.component).container
    return resources.claim(container.resources, lambda text: values.to_text(work.filled_in(text, run, task)))


def log_path(home: Home, run_id: str, path: str, attempt: int) -> Path:
    """Where an attempt's output goes."""
    return home.logs / "runs" / run_id / f"{path.replace('/', '.')}.{attempt}.log"


def _deadline(run: LiveRun, task: ReadyTask, started: float) -> float | None:
    """When a task that started then has to be finished, in unix seconds."""
    label = run.document.spec.components[task.component].executor_label
    seconds = platform.timeout_seconds(platform.executor_config(run.document.platform, label))
    return started + seconds if seconds is not None else None


def _container_of(run: LiveRun, task: ReadyTask, number: int) -> str:
    """The name of the container that an attempt runs in; "" when it is none."""
    container = run.document.executor_of(task.component).container
    if run.context.options.run_on_host or components.python_component(container) is not None:
        return ""
    return containers.container_name(run.id, task.path, number)


def _clear_away(run: LiveRun, attempt: Attempt) -> None:
    """End what is left of an attempt whose process was killed."""
    _remove(attempt.container)
    if attempt.status is None:
        # No warm parent was there to do it.
        end_leftovers(run.id, {attempt.task.path: (attempt.pid, attempt.directory)})


def _remove(container: str) -> None:
    engine = containers.find() if container else None
    if engine is not None:
        engine.remove(container)


def _note(log: Path, line: str) -> None:
    """A line of the engine's own in a task's log."""
    with log.open("a", encoding="utf-8") as stream:
        stream.write(line + "\n")


def _claimed(directory: Path) -> tuple[int | None, float]:
    """The process that does the attempt in `directory`, though nobody was told of it; (None, 0.0): none, ever."""
    directory.mkdir(parents=True, exist_ok=True)
    return claim(str(directory), None)


def _result(attempt: Attempt) -> dict[str, Any]:
    try:
        result: dict[str, Any] = json.loads((attempt.directory / RESULT_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        status = attempt.status
        if status is not None and status < 0:
            name = signal.Signals(-status).name
            hint = " (the machine may be out of memory)" if name == "SIGKILL" else ""
            return {"exit_code": status, "error": f"the task's process was killed by {name}{hint}"}
        return {"exit_code": 1, "error": "the task's process ended without a result"}
    return result
