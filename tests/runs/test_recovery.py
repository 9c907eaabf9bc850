"""kill -9 of the engine, the warm parent or a task's process: nothing is lost, and nothing finished runs twice."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from functools import partial

import psutil
import pytest
from kfp import dsl

from headrace.clock import SystemClock
from headrace.runs import transitions
from headrace.runs.engine import Engine

component = partial(dsl.component, base_image="python:3.12")

# An engine in a process of its own. With a second word it dies where it is about to make, or has made, that change.
ENGINE = """
import asyncio, os, signal, sys
from pathlib import Path
from headrace.clock import SystemClock
from headrace.project.wiring import open_database
from headrace.runs import transitions
from headrace.runs.engine import Engine
from headrace.store.home import Home

folder, run, when, change = sys.argv[1:]
if change:
    made = getattr(transitions, change)

    def dying(*positional, **named):
        if when == "after":
            made(*positional, **named)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(transitions, change, dying)
home = Home(Path(folder))
engine = Engine(home=home, database=open_database(home), clock=SystemClock(), environment={})
asyncio.run(engine.drive(run))
"""


@component
def step(journal: str, name: str, wait_for: str = "") -> str:
    """Note that it was begun and by which process; once a file is there, note that it is done."""
    import os
    import time
    from pathlib import Path

    def note(what):
        with Path(journal).open("a") as stream:
            stream.write(f"{what} {name} {os.getpid()}\n")

    note("begun")
    while wait_for and not Path(wait_for).exists():
        time.sleep(0.01)
    note("done")
    return name


@component
def total(names: list[str]) -> str:
    return "+".join(names)


@dsl.pipeline
def work(journal: str, go: str) -> str:
    first = step(journal=journal, name="first")
    waits = step(journal=journal, name="waits", wait_for=go).after(first)
    with dsl.ParallelFor(["a", "b", "c"]) as name:
        last = step(journal=journal, name=name).after(waits)
    return total(names=dsl.Collected(last.output)).output


ALL = ["a", "b", "c", "first", "waits"]


class Journal:
    """What the tasks have noted."""

    def __init__(self, path):
        self.path = path
        path.touch()

    def noted(self, wanted):
        return sorted(name for what, name, _ in self._lines() if what == wanted)

    def pid(self, wanted):
        return next(int(pid) for _, name, pid in self._lines() if name == wanted)

    @property
    def pids(self):
        return {int(pid) for _, _, pid in self._lines()}

    def _lines(self):
        return [line.split() for line in self.path.read_text().splitlines()]


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path / "journal")


@pytest.fixture
def go(tmp_path):
    yield tmp_path / "go"
    (tmp_path / "go").touch()


@pytest.fixture
def created(runner, compiled, journal, go):
    return runner.create(compiled(work), {"journal": str(journal.path), "go": str(go)}, caching=False)


@pytest.fixture
def start_engine(home):
    """Starts an engine for a run; what is left of them at the end is killed."""
    started = []

    def start(run_id, when="", change=""):
        process = subprocess.Popen([sys.executable, "-c", ENGINE, str(home.path), run_id, when, change])
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def engine(start_engine, created, journal, until):
    """An engine in the middle of the run: the first step is done, the second has begun and waits."""
    engine = start_engine(created)
    until(lambda: journal.noted("begun") == ["first", "waits"])
    return engine


@pytest.fixture
def warm_parent():
    """Finds the engine's child that forks its tasks; it is killed at the end."""
    found = []

    def of(engine):
        children = psutil.Process(engine.pid).children()
        found.extend(child for child in children if "warm_parent" in " ".join(child.cmdline()))
        return found[-1]

    yield of
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def kill(pid):
    os.kill(pid, signal.SIGKILL)


def assert_whole(result, journal, gone, begun=ALL):
    """The run ended as it would have; each task was done once; no process is left."""
    assert (result.state, result.outputs) == ("SUCCEEDED", {"Output": "a+b+c"}), result.error
    assert journal.noted("done") == ALL
    assert journal.noted("begun") == sorted(begun)
    gone(journal.pids)


def test_a_task_that_outlives_its_engine_is_adopted(runner, created, engine, warm_parent, journal, go, gone):
    parent = warm_parent(engine)
    kill(engine.pid)
    engine.wait()
    gone([parent.pid])
    go.touch()
    result = runner.drive(created)
    assert_whole(result, journal, gone)
    assert {task["attempt"] for task in result.tasks.values()} == {1}


def test_what_was_done_while_there_was_no_engine_counts(runner, created, engine, journal, go, until, gone):
    kill(engine.pid)
    engine.wait()
    go.touch()
    until(lambda: journal.noted("done") == ["first", "waits"])
    gone(journal.pids)
    assert_whole(runner.drive(created), journal, gone)


def test_a_task_that_died_with_its_engine_is_done_anew_and_costs_no_retry(runner, created, engine, journal, go, gone):
    kill(engine.pid)
    engine.wait()
    kill(journal.pid("waits"))
    gone(journal.pids)
    go.touch()
    result = runner.drive(created)
    assert_whole(result, journal, gone, begun=[*ALL, "waits"])
    assert (result.tasks["step-2"]["attempt"], result.tasks["step-2"]["failures"]) == (2, 0)


def test_the_warm_parent_may_die_in_the_middle_of_a_task(runner, created, engine, warm_parent, journal, go, gone):
    parent = warm_parent(engine)
    parent.kill()
    gone([parent.pid])
    go.touch()
    assert engine.wait(30) == 0
    assert_whole(runner.result(created), journal, gone)


def test_a_stopped_warm_parent_that_dies_with_work_in_hand_loses_nothing(
    runner, created, engine, warm_parent, journal, go, until, gone, database
):
    parent = warm_parent(engine)
    parent.suspend()
    go.touch()
    # The loop's steps are written down as started, and asked of a parent that does not answer.
    until(lambda: len(database.query("SELECT * FROM attempt WHERE path LIKE 'for-loop%'")) >= 2)
    parent.kill()
    assert engine.wait(30) == 0
    result = runner.result(created)
    assert_whole(result, journal, gone)
    assert sum(task["failures"] for task in result.tasks.values()) == 0


@dsl.pipeline
def fragile(journal: str, go: str):
    step(journal=journal, name="waits", wait_for=go)


def test_a_task_whose_process_is_killed_fails_and_says_so(
    runner, compiled, start_engine, journal, go, until, gone, database
):
    created = runner.create(compiled(fragile), {"journal": str(journal.path), "go": str(go)})
    engine = start_engine(created)
    until(lambda: journal.noted("begun") == ["waits"])
    until(lambda: database.query("SELECT * FROM attempt WHERE pid IS NOT NULL"))
    kill(journal.pid("waits"))
    assert engine.wait(30) == 0
    result = runner.result(created)
    assert (result.state, journal.noted("done")) == ("FAILED", [])
    assert result.error == "task step: the task's process was killed by SIGKILL (the machine may be out of memory)"


def test_a_task_that_its_engine_had_no_time_to_write_down_is_adopted(
    runner, compiled, start_engine, journal, go, until, gone, home, database
):
    created = runner.create(compiled(fragile), {"journal": str(journal.path), "go": str(go)})
    assert start_engine(created, "before", "record_process").wait(30) == -signal.SIGKILL
    until(lambda: journal.noted("begun") == ["waits"])

    async def go_on():
        engine = Engine(home=home, database=database, clock=SystemClock(), environment={})
        driving = asyncio.create_task(engine.drive(created))
        while not engine.runs:  # noqa: ASYNC110 - it takes the run over in one step
            await asyncio.sleep(0.01)
        go.touch()
        await driving

    asyncio.run(go_on())
    result = runner.result(created)
    assert result.state == "SUCCEEDED", result.error
    assert (journal.noted("begun"), result.tasks["step"]["attempt"]) == (["waits"], 1)
    gone(journal.pids)


def test_work_that_a_dead_engine_has_asked_for_is_not_begun_after_it_was_done(
    runner, created, engine, warm_parent, journal, go, until, gone, database
):
    parent = warm_parent(engine)
    parent.suspend()
    go.touch()
    until(lambda: len(database.query("SELECT * FROM attempt WHERE path LIKE 'for-loop%'")) >= 2)
    kill(engine.pid)
    engine.wait()
    result = runner.drive(created)

    # Now the old parent reads what it was asked.
    late = set()
    parent.resume()
    with contextlib.suppress(psutil.NoSuchProcess):
        while parent.status() != psutil.STATUS_ZOMBIE:
            late |= {child.pid for child in parent.children()}
    gone(late)
    assert_whole(result, journal, gone)


CHANGES = ["claim", "start_attempt", "record_process", "succeed", "finish_run"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("change", CHANGES)
def test_an_engine_that_dies_at_a_change_of_state_loses_and_repeats_nothing(
    runner, start_engine, created, journal, go, gone, when, change
):
    go.touch()
    assert start_engine(created, when, change).wait(30) == -signal.SIGKILL
    assert runner.result(created).state != "FAILED"
    assert_whole(runner.drive(created), journal, gone)


def test_engines_that_die_after_every_task_still_come_to_the_end(
    runner, start_engine, created, journal, go, gone, home
):
    go.touch()
    deaths = 0
    while start_engine(created, "after", "succeed").wait(30) != 0:
        deaths += 1
        assert deaths <= 6
    assert deaths == 6
    assert list(home.locks.glob("engine-*")) == []
    assert_whole(runner.result(created), journal, gone)


@component
def leaves(folder: str, go: str) -> str:
    """Leave a daemon, a child that was only forked and one that was forked into a session of its own; then wait."""
    import os
    import subprocess
    import time
    from pathlib import Path

    def forked(session):
        pid = os.fork()
        if pid == 0:
            if session:
                os.setsid()
            time.sleep(60)
            os._exit(0)
        return pid

    shell = "setsid sleep 60 >/dev/null 2>&1 & echo $!"
    daemon = subprocess.run(["sh", "-c", shell], capture_output=True, check=True).stdout.decode().strip()
    pids = [os.getpid(), int(daemon), forked(False), forked(True)]
    Path(folder, "pids.new").write_text(" ".join(map(str, pids)))
    Path(folder, "pids.new").rename(Path(folder, "pids"))
    while not Path(go).exists():
        time.sleep(0.01)
    return "went"


@dsl.pipeline
def leaving(folder: str, go: str) -> str:
    return leaves(folder=folder, go=go).output


@pytest.fixture
def left(runner, compiled, start_engine, until, database, tmp_path, go):
    """An engine whose task has left processes: the run, the engine, the processes' numbers, the task's own first."""
    run_id = runner.create(compiled(leaving), {"folder": str(tmp_path), "go": str(go)})
    engine = start_engine(run_id)
    until((tmp_path / "pids").exists)
    until(lambda: database.query("SELECT * FROM attempt WHERE pid IS NOT NULL"))
    return run_id, engine, [int(pid) for pid in (tmp_path / "pids").read_text().split()]


def test_what_a_task_left_is_ended_when_it_and_the_warm_parent_were_killed(runner, left, warm_parent, gone):
    run_id, engine, pids = left
    parent = warm_parent(engine)
    kill(parent.pid)
    gone([parent.pid])
    kill(pids[0])
    assert engine.wait(30) == 0
    assert runner.result(run_id).state == "FAILED"
    gone(pids)


def test_what_a_task_left_is_ended_when_everything_was_killed(runner, left, warm_parent, gone, go):
    run_id, engine, pids = left
    for pid in (engine.pid, warm_parent(engine).pid, pids[0]):
        kill(pid)
    engine.wait()
    gone(pids[:1])
    go.touch()
    result = runner.drive(run_id)
    assert (result.state, result.tasks["leaves"]["attempt"]) == ("SUCCEEDED", 2), result.error
    gone(pids)


@pytest.mark.parametrize("parent_lives", [True, False])
def test_cancelling_ends_what_has_left_the_tasks_session(runner, left, warm_parent, gone, database, parent_lives):
    run_id, engine, pids = left
    if not parent_lives:
        kill(warm_parent(engine).pid)
    transitions.request_cancel(database, run_id, actor="user:ann", reason="", at=2e9)
    assert engine.wait(30) == 0
    assert runner.result(run_id).state == "CANCELED"
    gone(pids)
