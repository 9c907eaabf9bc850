"""The engine's loop: read, plan, claim, start, wait, commit outputs and state together, repeat.

An engine owns the runs that it drives. It holds a file lock for as long as it lives, so that another engine can
tell that it died and take over its runs: a finished attempt is committed, a living one is adopted, a lost one is
queued again. No finished task runs twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import os
import secrets
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from headrace.clock import Clock
from headrace.errors import HeadraceError, StorageError
from headrace.governance import approvals
from headrace.processes import alive
from headrace.runs import cache, components, gates, resources, transitions, work
from headrace.runs.attempts import Attempts, claim_of
from headrace.runs.environments import MakingInterruptedError
from headrace.runs.executor_input import Outputs, executor_input
from headrace.runs.executors.warm import NotStartedError
from headrace.runs.executors.warm_parent import RESULT_FILE
from headrace.runs.importer import imported
from headrace.runs.inputs import job_placeholders
from headrace.runs.leftovers import end_leftovers, remove_checkpoints
from headrace.runs.live import Attempt, LiveRun
from headrace.runs.model import Plan, ReadyTask, State, TaskFact
from headrace.runs.placeholders import command_line
from headrace.store.database import Database
from headrace.store.home import Home
from headrace.store.locks import FileLock, holder

POLL_SECONDS = 0.1
# Between the end of a process and the word of the warm parent, which first ends what is left of a killed task.
SAID_SECONDS = 0.5
MAX_NOT_STARTED = 3
REREAD_SECONDS = 1.0
_LOG = logging.getLogger(__name__)


class Engine:
    """Drives runs in this process; `environment` and `tracked` are those of `Attempts`."""

    def __init__(
        self,
        *,
        home: Home,
        database: Database,
        clock: Clock,
        environment: Mapping[str, str],
        tracked: Callable[[str, str], Mapping[str, str]] = lambda run_id, path: {},
        parallel: int | None = None,
    ) -> None:
        self.home = home
        self.database = database
        self.clock = clock
        self.memory = resources.machine_memory()
        self.parallel = parallel or max(2, os.cpu_count() or 2)
        self.id = f"engine-{secrets.token_hex(6)}"
        self.runs: dict[str, LiveRun] = {}
        self._lock = FileLock(home.locks / f"{self.id}.lock")
        self._wake = asyncio.Event()
        self._attempts = Attempts(home, environment=environment, tracked=tracked, on_exit=self._on_exit)
        self._background: set[asyncio.Task[None]] = set()
        self._disk_problem = ""

    async def serve(self, stop: asyncio.Event) -> None:
        """Drive every unfinished run that no living engine owns, until `stop` is set."""
        await self._loop(None, stop)

    async def drive(self, run_id: str) -> None:
        """Drive one run until it is finished, or waits at a gate."""
        await self._loop(run_id, asyncio.Event())

    async def _loop(self, only: str | None, stop: asyncio.Event) -> None:
        self._lock.acquire()
        self._attempts.closing = False
        try:
            while not stop.is_set():
                with self._contained(None):
                    self._claim(only)
                for run in list(self.runs.values()):
                    with self._contained(run):
                        await self._advance(run)
                if only is not None and self._rests(only):
                    break
                await self._rest(stop)
        finally:
            await self._close()

    def _rests(self, run_id: str) -> bool:
        """Whether nothing is left to do for a run here: it is finished, or waits for a person."""
        run = self.runs.get(run_id)
        if run is None:
            return True
        row = self.database.one("SELECT state FROM run WHERE id = ?", (run_id,))
        return row is not None and row["state"] == "PAUSED" and not run.busy

    async def _rest(self, stop: asyncio.Event) -> None:
        waiters = [asyncio.create_task(self._wake.wait()), asyncio.create_task(stop.wait())]
        await asyncio.wait(waiters, timeout=POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        for waiter in waiters:
            waiter.cancel()
        self._wake.clear()

    async def _close(self) -> None:
        """End what this engine has started. Tasks that were cut off are queued again by the next engine."""
        self._attempts.closing = True
        if self._background:
            await asyncio.gather(*self._background, return_exceptions=True)
        for run in self.runs.values():
            await self._kill(run, *run.attempts.values())
            with self._contained(run):
                transitions.requeue_run(self.database, run.id, owner=self.id, at=self.clock.now())
        await self._attempts.close()
        self._lock.release()
        self._lock.path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _contained(self, run: LiveRun | None) -> Iterator[None]:
        """Let nothing that goes wrong with one run end the engine, and with it all others.

        A change that the disk does not take follows from what is there, and is tried again from there. What nobody has
        foreseen ends the run.
        """
        try:
            yield
        except StorageError as error:
            if run is not None:
                run.reread_at = self.clock.now() + REREAD_SECONDS
            if str(error) != self._disk_problem:
                _LOG.warning("runs wait: %s", error)
            self._disk_problem = str(error)
        except Exception as error:
            if run is None:
                raise
            if not run.problem:
                _LOG.exception("run %s ends, for a fault of Headrace's own", run.id)
            run.problem = f"a fault of Headrace's own: {type(error).__name__}: {error}"

    # Taking over

    def _claim(self, only: str | None) -> None:
        rows = self.database.query(
            "SELECT * FROM run WHERE state IN ('PENDING', 'RUNNING', 'PAUSED', 'CANCELING')"
            " AND owner IS NOT ? AND (? IS NULL OR id = ?) ORDER BY created_at",
            (self.id, only, only),
        )
        for row in rows:
            previous = row["owner"]
            if previous is not None and holder(self.home.locks / f"{previous}.lock") is not None:
                continue
            now = self.clock.now()
            if transitions.claim(self.database, row["id"], owner=self.id, previous=previous, at=now):
                self._take({**dict(row), "started_at": row["started_at"] or now})
                self._bury(previous)

    def _bury(self, engine: str | None) -> None:
        """Remove the lock file of a dead engine that owns nothing any more; no other will ever have its name."""
        if engine is not None and self.database.one("SELECT 1 FROM run WHERE owner = ?", (engine,)) is None:
            self.home.locks.joinpath(f"{engine}.lock").unlink(missing_ok=True)

    def _take(self, row: Mapping[str, Any]) -> None:
        try:
            run = LiveRun(row, self.home)
        except Exception as error:  # noqa: BLE001 - no run's document may end the engine
            if not isinstance(error, HeadraceError):
                _LOG.exception("run %s cannot be read", row["id"])
            transitions.finish_run(
                self.database, row["id"], "FAILED", outputs={}, message=str(error), at=self.clock.now()
            )
            return
        self.runs[run.id] = run
        with self._contained(run):
            self._settle(run)

    def _settle(self, run: LiveRun) -> None:
        """Learn how a run stands, and what has become of its attempts."""
        for task in self.database.query("SELECT * FROM task WHERE run_id = ?", (run.id,)):
            state = State(task["state"])
            outputs = json.loads(task["outputs"])
            run.facts[task["path"]] = TaskFact(
                state, outputs.get("parameters", {}), outputs.get("artifacts", {}), task["message"]
            )
            run.not_before[task["path"]] = task["not_before"]
        lost: dict[str, tuple[int | None, Path]] = {}
        for row in self.database.query("SELECT * FROM attempt WHERE run_id = ? AND state = 'RUNNING'", (run.id,)):
            attempt, there = self._attempts.found(run, dict(row))
            if there:
                run.claims[row["path"]] = claim_of(run, attempt.task)
                run.attempts[row["path"]] = attempt
            else:
                lost[row["path"]] = (attempt.pid or None, attempt.directory)
        end_leftovers(run.id, lost)
        for path in lost:
            self._lost(run, path)

    def _lost(self, run: LiveRun, path: str) -> None:
        transitions.requeue_lost(self.database, run.id, path, self.clock.now())
        run.facts[path] = TaskFact(State.PENDING)

    # One step

    async def _advance(self, run: LiveRun) -> None:
        if run.reread_at is not None:
            if not run.starting and self.clock.now() >= run.reread_at:
                anew = self.database.one("SELECT * FROM run WHERE id = ?", (run.id,))
                self.runs.pop(run.id, None)
                if anew is not None:
                    self._take(dict(anew))
            return
        known = self.database.one("SELECT state FROM run WHERE id = ?", (run.id,))
        if known is None or known["state"] not in ("RUNNING", "PAUSED", "CANCELING"):
            self.runs.pop(run.id, None)
            return
        if known["state"] == "CANCELING":
            await self._break_off(run, State.CANCELED, "")
            return
        if run.problem:
            await self._break_off(run, State.FAILED, run.problem)
            return
        if run.timeout is not None and self.clock.now() - run.started_at > run.timeout:
            problem = f"the run took longer than {run.timeout:g} s (activeDeadlineSeconds)"
            await self._break_off(run, State.FAILED, problem)
            return
        self._watch(run)
        self._read_gates(run)
        if not run.changed and self.clock.now() < run.wakes_at:
            return
        free = self._free()
        if run.busy and not free:
            # Whatever ends first wakes the loop.
            return
        run.changed = False
        # One more than fits tells that something waits; those that wait for memory hide none that need not.
        planned = run.plan(limit=free + 1 + len(run.starting) + len(run.pending) + run.held)
        if planned.root.final and not run.busy:
            self._finish(run, planned)
            return
        self._start_ready(run, planned)
        if not run.busy and not run.changed:
            self._rest_at_gates(run, planned)

    def _start_ready(self, run: LiveRun, planned: Plan) -> None:
        now = self.clock.now()
        run.wakes_at, run.held = math.inf, 0
        for task in planned.ready:
            if task.path in run.starting:
                continue
            due = self._due(run, task)
            if due > now:
                run.wakes_at = min(run.wakes_at, due)
                continue
            if not self._free():
                run.changed = True
                return
            if self._admitted(run, task):
                self._work_on(run, task, self._dispatch(run, task))
                # The next place that is free is for the others first, or a run with many tasks would take every one.
                self.runs[run.id] = self.runs.pop(run.id)
            else:
                run.changed = True

    def _due(self, run: LiveRun, task: ReadyTask) -> float:
        """When a task may start, in unix seconds: its own backoff and those of the groups around it are over."""
        for group, seconds in task.waits if task.path not in run.not_before else ():
            row = self.database.one(
                "SELECT max(finished_at) AS ended FROM task WHERE run_id = ? AND substr(path, 1, ?) = ?",
                (run.id, len(group) + 1, f"{group}/"),
            )
            ended = row["ended"] if row is not None else None
            run.not_before[task.path] = max(run.not_before.get(task.path, 0.0), (ended or 0.0) + seconds)
            # The plan ended where it had found enough tasks. Now that this one is known to wait, it looks beyond it.
            run.changed = True
        return run.not_before.get(task.path, 0.0)

    def _free(self) -> int:
        """How many more tasks may run at a time."""
        return max(0, self.parallel - sum(len(run.attempts) + len(run.starting) for run in self.runs.values()))

    def _admitted(self, run: LiveRun, task: ReadyTask) -> bool:
        """Whether the memory that a task asks for is free; it is its own from now on, until it has ended."""
        try:
            asked = claim_of(run, task)
        except HeadraceError as error:
            self._failed(run, task, str(error))
            return False
        never = resources.too_large(asked, self.memory)
        if never:
            self._failed(run, task, f"it {never[0]}")
            return False
        if asked.memory_bytes and sum(r.memory for r in self.runs.values()) + asked.memory_bytes > self.memory:
            run.held += 1
            return False
        run.claims[task.path] = asked
        return True

    def _work_on(self, run: LiveRun, task: ReadyTask, work: Coroutine[Any, Any, None]) -> None:
        """Do some work for a task beside the loop."""
        run.starting.add(task.path)
        self._beside(self._guarded(run, task, work))

    def _beside(self, work: Coroutine[Any, Any, None]) -> None:
        job = asyncio.create_task(work)
        self._background.add(job)
        job.add_done_callback(self._background.discard)

    async def _kill(self, run: LiveRun, *attempts: Attempt) -> None:
        """End attempts, all at once: the end of a container takes its time."""
        with self._contained(run):
            await asyncio.gather(*(self._attempts.kill(attempt) for attempt in attempts))

    async def _guarded(self, run: LiveRun, task: ReadyTask, work: Coroutine[Any, Any, None]) -> None:
        try:
            with self._contained(run):
                await self._or_failed(run, task, work)
        finally:
            run.starting.discard(task.path)
            if task.path not in run.attempts:
                run.claims.pop(task.path, None)
                run.changed = True
            self._wake.set()

    async def _or_failed(self, run: LiveRun, task: ReadyTask, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except StorageError:
            raise
        except (HeadraceError, OSError) as error:
            self._failed(run, task, str(error))
        except Exception as error:  # noqa: BLE001 - else the run would wait for ever for a task that nobody does
            self._failed(run, task, f"{type(error).__name__}: {error}")

    async def _dispatch(self, run: LiveRun, task: ReadyTask) -> None:
        """Do what the task's executor asks: import, ask, reuse, or start a process."""
        component = run.document.spec.components[task.component]
        executor = run.document.executor_of(task.component)
        if executor.WhichOneof("spec") == "importer":
            outputs = await asyncio.to_thread(imported, executor.importer, component, task, run.context)
            self._succeeded(run, task, outputs)
            return
        if executor.container.image == components.GATE_IMAGE:
            self._ask(run, task, executor.container)
            return
        cached = task.caching and run.caching
        key = cache.key(run.document.name, task, component, executor) if cached else ""
        reused = cache.find(self.database, key)
        if reused is not None:
            outputs = Outputs(**json.loads(reused))
            self._succeeded(run, task, outputs, cache_key=key, cached=True)
            return
        await self._start(run, task, key)

    def _ask(self, run: LiveRun, task: ReadyTask, container: Any) -> None:
        component = run.document.spec.components[task.component]
        question, evidence = list(container.args[:1]), list(container.args[1:])
        given = executor_input(task, component, run.folder / task.path)
        told = command_line(evidence, given, job_placeholders(run.context, task.path))
        request = gates.gate_request([*question, *told], component, partial(work.filled_in, run=run, task=task))
        transitions.open_gate(self.database, run.id, task, request, self.clock.now())
        run.facts[task.path] = TaskFact(State.PAUSED)

    async def _start(self, run: LiveRun, task: ReadyTask, key: str) -> None:
        now, folder = self.clock.now(), run.folder / task.path
        number = transitions.start_attempt(self.database, run.id, task, cache_key=key, directory=folder, at=now)
        run.facts[task.path] = TaskFact(State.RUNNING)
        try:
            attempt = await self._attempts.start(run, task, number, now)
        except (NotStartedError, MakingInterruptedError) as error:
            self._not_started(run, task, error.problem)
            return
        transitions.record_process(
            self.database, run.id, task.path, number, pid=attempt.pid, process_created=attempt.process_created
        )
        run.attempts[task.path] = attempt

    def _not_started(self, run: LiveRun, task: ReadyTask, why: str) -> None:
        """Queue a task again that did not come to its start; one of which that is true each time is at fault itself."""
        run.not_started[task.path] += 1
        if run.not_started[task.path] >= MAX_NOT_STARTED:
            raise HeadraceError(f"{why} {MAX_NOT_STARTED} times when it was to start the task")
        self._lost(run, task.path)

    # Ends

    def _on_exit(self, pid: int, status: int) -> None:
        for run in self.runs.values():
            for attempt in run.attempts.values():
                if attempt.pid == pid:
                    attempt.status = status
                    self._wake.set()

    def _watch(self, run: LiveRun) -> None:
        """Commit attempts that ended: those that the warm parent told of, and those that are found dead."""
        for attempt in list(run.attempts.values()):
            if attempt.status is not None or self._found_dead(attempt):
                del run.attempts[attempt.task.path]
                self._work_on(run, attempt.task, self._commit(run, attempt))
            elif attempt.deadline is not None and self.clock.now() > attempt.deadline and not attempt.problem:
                attempt.problem = "it took longer than it may (activeDeadlineSeconds)"
                self._beside(self._kill(run, attempt))

    def _found_dead(self, attempt: Attempt) -> bool:
        """Whether its process is gone and nobody says how it ended: its warm parent may be about to."""
        if alive(attempt.pid, attempt.process_created):
            return False
        if (attempt.directory / RESULT_FILE).exists():
            return True
        attempt.dead_since = attempt.dead_since or time.monotonic()
        return time.monotonic() - attempt.dead_since >= SAID_SECONDS

    async def _commit(self, run: LiveRun, attempt: Attempt) -> None:
        outputs = await self._attempts.outputs(run, attempt)
        self._succeeded(run, attempt.task, outputs)
        checkpoints = attempt.directory.parent / work.CHECKPOINTS
        with contextlib.suppress(OSError):
            # Mostly there are none, and then what comes next need not wait for a thread.
            checkpoints.rmdir()
            return
        await asyncio.to_thread(remove_checkpoints, checkpoints, outputs)

    def _succeeded(
        self, run: LiveRun, task: ReadyTask, outputs: Outputs, *, cache_key: str = "", cached: bool = False
    ) -> None:
        transitions.succeed(
            self.database, run.id, task, outputs, at=self.clock.now(), cache_key=cache_key, cached=cached
        )
        run.facts[task.path] = TaskFact(State.SUCCEEDED, outputs.parameters, outputs.artifacts)
        run.changed = True

    def _failed(self, run: LiveRun, task: ReadyTask, message: str) -> None:
        again = transitions.fail(self.database, run.id, task, message, self.clock.now())
        if again:
            row = self.database.one("SELECT not_before FROM task WHERE run_id = ? AND path = ?", (run.id, task.path))
            run.not_before[task.path] = row["not_before"] if row else 0.0
        run.facts[task.path] = TaskFact(State.PENDING if again else State.FAILED, message=message)
        run.changed = True

    def _finish(self, run: LiveRun, planned: Plan) -> None:
        root = planned.root
        message = ""
        if root.state is State.FAILED:
            message = run.failure() or root.message
        outputs = {"parameters": root.parameters, "artifacts": root.artifacts}
        transitions.finish_run(
            self.database, run.id, root.state.value, outputs=outputs, message=message, at=self.clock.now()
        )
        self.runs.pop(run.id, None)

    # Gates, backoff, cancelling

    def _read_gates(self, run: LiveRun) -> None:
        for path, fact in list(run.facts.items()):
            if fact.state is not State.PAUSED:
                continue
            gate = self._gate_of(run, path)
            if gate is None or gate.state == "waiting":
                continue
            transitions.unpause_run(self.database, run.id, self.clock.now())
            task = run.planned(path)
            if gate.state == "approved":
                component = run.document.spec.components[task.component]
                self._succeeded(run, task, Outputs(gates.outputs(gate, component), {}))
            else:
                last = gate.decisions[-1] if gate.decisions else None
                who = f"{gate.state} by {last.actor}: {last.reason}" if last else "expired: nobody has decided in time"
                self._failed(run, task, who)

    def _gate_of(self, run: LiveRun, path: str) -> approvals.Gate | None:
        """A task's gate; one whose time is over is closed first."""
        subject, now = f"run/{run.id}/task/{path}", self.clock.now()
        gate = approvals.gate_of(self.database, subject)
        if gate is not None and gate.state == "waiting" and gate.expires_at is not None and gate.expires_at <= now:
            approvals.expire(self.database, gate.id, at=now)
            gate = approvals.gate_of(self.database, subject)
        return gate

    def _rest_at_gates(self, run: LiveRun, planned: Plan) -> None:
        """Pause a run of which nothing can start, now or after a backoff: all that is left comes after a gate."""
        waits = any(fact.state is State.PAUSED for fact in run.facts.values())
        if waits and not planned.ready:
            transitions.pause_run(self.database, run.id, self.clock.now())

    async def _break_off(self, run: LiveRun, state: State, message: str) -> None:
        """End what a run has started, and then the run."""
        run.ending = True
        await self._kill(run, *run.attempts.values())
        if run.starting:
            return
        end_leftovers(run.id, {path: (attempt.pid, attempt.directory) for path, attempt in run.attempts.items()})
        run.attempts.clear()
        now = self.clock.now()
        transitions.cancel_tasks(self.database, run.id, now)
        transitions.finish_run(self.database, run.id, state.value, outputs={}, message=message, at=now)
        self.runs.pop(run.id, None)
