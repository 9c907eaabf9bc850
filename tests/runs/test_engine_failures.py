"""What goes wrong in a task is told in words, and takes nothing else with it."""

import asyncio
import contextlib
from functools import partial
from itertools import pairwise

import pytest
from kfp import dsl

from headrace.clock import SystemClock
from headrace.governance import approvals
from headrace.runs import transitions
from headrace.runs.attempts import log_path
from headrace.runs.engine import Engine
from headrace.runs.live import LiveRun
from headrace.runs.model import FINAL, Backoff
from headrace.store.database import connect

component = partial(dsl.component, base_image="python:3.12")


@component
def word(text: str = "word") -> str:
    return text


@component
def end(how: str) -> str:
    import os
    import signal
    import sys

    def deep():
        raise RuntimeError("two\nlines")

    print("before the end")  # noqa: T201
    if how == "raise":
        deep()
    elif how == "exit":
        sys.exit(3)
    elif how == "exit with words":
        sys.exit("no more sugar")
    elif how == "vanish":
        os._exit(0)
    elif how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "interrupt":
        raise KeyboardInterrupt
    elif how == "wrong type":
        return 7
    elif how == "missing module":
        import no_such_module  # noqa: F401
    return "fine"


@dsl.pipeline
def ending(how: str) -> str:
    return end(how=how).output


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("raise", "RuntimeError: two\nlines"),
        ("exit", "the component called sys.exit(3)"),
        ("exit with words", "the component called sys.exit(no more sugar)"),
        ("vanish", "the task's process ended without a result"),
        ("killed", "the task's process was killed by SIGKILL (the machine may be out of memory)"),
        ("interrupt", "KeyboardInterrupt"),
        ("wrong type", "ValueError: Function `end` returned value of type <class 'int'>; want type <class 'str'>"),
        ("missing module", "ModuleNotFoundError: No module named 'no_such_module'"),
    ],
)
def test_a_task_that_ends_badly_fails_with_the_reason(run, home, how, message):
    result = run(ending, how=how)
    assert (result.state, result.outputs) == ("FAILED", {})
    assert result.error == f"task end: {message}"
    assert result.tasks["end"]["message"] == message
    assert log_path(home, result.run_id, "end", 1).read_text().startswith("before the end\n")


def test_the_log_has_the_traceback_from_the_component_on(run, home):
    log = log_path(home, run(ending, how="raise").run_id, "end", 1).read_text()
    assert "Traceback (most recent call last)" in log
    assert "in deep" in log
    assert 'raise RuntimeError("two\\nlines")' in log
    assert "headrace" not in log.replace(str(home.path), "")


def test_leaving_early_with_zero_is_no_failure_where_nothing_is_owed(run):
    result = run(leave)
    assert (result.state, result.error) == ("SUCCEEDED", "")


@component
def leave():
    import sys

    sys.exit(0)


@component
def write_outputs(how: str, text: dsl.OutputPath(str), number: dsl.OutputPath(int)):
    import sys
    from pathlib import Path

    if how != "nothing":
        Path(text).write_text("said")
    Path(number).write_text("7")
    if how == "bytes":
        Path(text).write_bytes(b"\xff\xfe\x00")
    if how == "garbage":
        Path(number).parents[1].joinpath("artifacts", "executor_output.json").write_text("{")
        sys.exit(0)


@dsl.pipeline
def owing(how: str):
    write_outputs(how=how)


def test_outputs_may_be_written_to_files(run):
    result = run(owing, how="well")
    assert result.state == "SUCCEEDED", result.error
    assert result.tasks["write-outputs"]["outputs"] == {"text": "said", "number": 7}


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("nothing", "the component ended without its output parameter text"),
        ("bytes", "output parameter text is not UTF-8 text"),
        ("garbage", "executor_output.json that cannot be read"),
    ],
)
def test_outputs_that_are_missing_or_cannot_be_read_fail_the_task(run, how, message):
    result = run(owing, how=how)
    assert result.state == "FAILED"
    assert message in result.error


@component
def listed(items: dsl.OutputPath(list)):
    from pathlib import Path

    Path(items).write_text("three apples")


@dsl.pipeline
def over_no_list():
    word()
    with dsl.ParallelFor(listed().outputs["items"]) as item:
        word(text=item)


def test_a_loop_over_what_is_no_list_fails_the_run_and_not_the_engine(run):
    result = run(over_no_list)
    assert result.state == "FAILED"
    assert result.error == "the loop for-loop-1 needs a list, and got three apples"
    assert result.tasks["word"]["state"] == "SUCCEEDED"


@dsl.pipeline
def independent() -> str:
    broken = end(how="raise")
    word(text=broken.output)
    first = word(text="first")
    with dsl.ParallelFor(["raise", "well"], parallelism=1) as how:
        end(how=how)
    return word(text=first.output).output


def test_what_does_not_need_the_failed_task_goes_on(run):
    result = run(independent)
    assert result.state == "FAILED"
    assert {path: task["state"] for path, task in result.tasks.items()} == {
        "end": "FAILED", "for-loop-2/0/end-2": "FAILED", "for-loop-2/1/end-2": "SUCCEEDED",
        "word-2": "SUCCEEDED", "word-3": "SUCCEEDED",
    }  # fmt: skip
    assert result.outputs == {"Output": "first"}
    assert sorted(line.partition(":")[0] for line in result.error.splitlines() if line.startswith("task")) == [
        "task end", "task for-loop-2/0/end-2",
    ]  # fmt: skip


@component
def fickle(counter: str, fails: int) -> int:
    from pathlib import Path

    with Path(counter).open("a") as stream:
        stream.write("x")
    times = len(Path(counter).read_text())
    if times <= fails:
        raise OSError(f"try {times}")
    return times


@dsl.pipeline
def trying(counter: str, fails: int) -> int:
    return fickle(counter=counter, fails=fails).set_retry(num_retries=2, backoff_duration="3600s").output


class LeapingClock:
    """Tells a time that is half an hour later whenever it is asked."""

    def __init__(self):
        self.time = 1_000_000.0

    def now(self):
        self.time += 1800
        return self.time


@pytest.fixture
def drive(home, database, runner):
    def drive_with(run_id, clock):
        asyncio.run(Engine(home=home, database=database, clock=clock, environment={}).drive(run_id))
        return runner.result(run_id)

    return drive_with


def _attempts(database, run_id):
    return database.query("SELECT * FROM attempt WHERE run_id = ? ORDER BY number", (run_id,))


def test_a_failed_task_is_tried_again_after_a_growing_backoff(runner, compiled, drive, database, home, tmp_path):
    created = runner.create(compiled(trying), {"counter": str(tmp_path / "counter"), "fails": 2})
    result = drive(created, LeapingClock())
    assert (result.state, result.outputs) == ("SUCCEEDED", {"Output": 3}), result.error
    tries = _attempts(database, created)
    assert [row["state"] for row in tries] == ["FAILED", "FAILED", "SUCCEEDED"]
    assert [row["message"] for row in tries] == ["OSError: try 1", "OSError: try 2", ""]
    assert tries[1]["started_at"] - tries[0]["finished_at"] >= 3600
    assert tries[2]["started_at"] - tries[1]["finished_at"] >= 7200
    assert len({row["directory"] for row in tries}) == 3
    assert "try 1" in log_path(home, created, "fickle", 1).read_text()
    assert "try 2" in log_path(home, created, "fickle", 2).read_text()


def test_a_task_that_has_used_up_its_tries_fails(runner, compiled, drive, database, tmp_path):
    created = runner.create(compiled(trying), {"counter": str(tmp_path / "counter"), "fails": 9})
    result = drive(created, LeapingClock())
    assert (result.state, result.error) == ("FAILED", "task fickle: OSError: try 3")
    assert len(_attempts(database, created)) == 3


@dsl.pipeline
def shaky(counter: str) -> int:
    word()
    return fickle(counter=counter, fails=1).output


@dsl.pipeline
def trying_groups(counter: str) -> int:
    return shaky(counter=counter).set_retry(num_retries=1).output


def test_a_pipeline_inside_is_tried_again_and_the_run_succeeds(run, tmp_path):
    result = run(trying_groups, counter=str(tmp_path / "counter"))
    assert (result.state, result.outputs, result.error) == ("SUCCEEDED", {"Output": 2}, "")
    assert {path: task["state"] for path, task in result.tasks.items()} == {
        "shaky/word": "SUCCEEDED", "shaky/fickle": "FAILED", "shaky~1/word": "SUCCEEDED", "shaky~1/fickle": "SUCCEEDED",
    }  # fmt: skip


@dsl.pipeline
def waiting_groups(counter: str) -> int:
    tried = shaky(counter=counter)
    return tried.set_retry(num_retries=3, backoff_duration="3600s", backoff_max_duration="5400s").output


@dsl.pipeline
def very_shaky(counter: str) -> int:
    return fickle(counter=counter, fails=3).output


@dsl.pipeline
def waiting_longer(counter: str) -> int:
    tried = very_shaky(counter=counter)
    return tried.set_retry(num_retries=3, backoff_duration="3600s", backoff_max_duration="5400s").output


def test_a_pipeline_inside_is_tried_again_after_its_backoff(runner, compiled, drive, database, tmp_path):
    created = runner.create(compiled(waiting_longer), {"counter": str(tmp_path / "counter")})
    result = drive(created, LeapingClock())
    assert (result.state, result.outputs) == ("SUCCEEDED", {"Output": 4}), result.error
    paths = [f"very-shaky{number}/fickle" for number in ("", "~1", "~2", "~3")]
    tries = [database.query("SELECT * FROM attempt WHERE path = ?", (path,))[0] for path in paths]
    waited = [later["started_at"] - before["finished_at"] for before, later in pairwise(tries)]
    assert all(seconds >= least for seconds, least in zip(waited, (3600, 5400, 5400), strict=True))


class StandingClock:
    def __init__(self, time):
        self.time = time

    def now(self):
        return self.time


@pytest.fixture
def clock():
    return StandingClock(1e9)


@pytest.fixture
def serve_until(home, database, clock):
    """Serves all runs with a new engine until something is true."""

    async def serve(condition):
        stop = asyncio.Event()
        serving = asyncio.create_task(Engine(home=home, database=database, clock=clock, environment={}).serve(stop))
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.wait([serving], timeout=0.01)
        stop.set()
        await serving

    return lambda condition: asyncio.run(serve(condition))


@pytest.fixture
def look_at_all(runner, compiled, serve_until):
    """Has an engine look at every run: by the time that another one is done, it has."""

    def look():
        beside = runner.create(compiled(leave))
        serve_until(lambda: runner.result(beside).state == "SUCCEEDED")

    return look


def test_the_backoff_of_a_pipeline_inside_outlives_its_engine(
    runner, compiled, database, tmp_path, clock, serve_until, look_at_all
):
    created = runner.create(compiled(waiting_groups), {"counter": str(tmp_path / "counter")})
    serve_until(lambda: len(_attempts(database, created)) == 2 and _none_runs(database))
    look_at_all()
    assert sorted(runner.result(created).tasks) == ["shaky/fickle", "shaky/word"]
    clock.time += 3601
    serve_until(lambda: runner.result(created).state == "SUCCEEDED")
    assert runner.result(created).outputs == {"Output": 2}


def test_the_backoff_of_a_pipeline_inside_holds_after_a_retry_of_its_run(
    runner, compiled, database, tmp_path, clock, serve_until, look_at_all
):
    created = runner.create(compiled(waiting_longer), {"counter": str(tmp_path / "counter")})
    for tries in (1, 2):
        serve_until(lambda tries=tries: len(_attempts(database, created)) == tries and _none_runs(database))
        clock.time += 3601
    transitions.request_cancel(database, created, actor="user:ann", reason="", at=clock.time)
    serve_until(lambda: runner.result(created).state == "CANCELED")
    transitions.retry_run(database, created, actor="user:ann", reason="", at=clock.time)
    # Whoever wants a retry wants it now: only what comes after that waits.
    serve_until(lambda: len(_attempts(database, created)) == 3 and _none_runs(database))
    look_at_all()
    assert {path: task["attempt"] for path, task in runner.result(created).tasks.items()} == {
        "very-shaky/fickle": 1, "very-shaky~1/fickle": 2,
    }  # fmt: skip
    clock.time += 5401
    serve_until(lambda: runner.result(created).state == "SUCCEEDED")
    assert "very-shaky~2/fickle" in runner.result(created).tasks


@dsl.container_component
def ask():
    return dsl.ContainerSpec(image="kfp://human-input", args=['{"question": "Go on?"}'])


@dsl.pipeline
def vain():
    end(how="raise")


@dsl.pipeline
def many_in_vain():
    with dsl.ParallelFor(list(range(12))):
        vain().set_retry(num_retries=1, backoff_duration="3600s")
    asked = ask()
    with dsl.ParallelFor(["a", "b", "c"]) as text:
        word(text=text).after(asked)


def test_pipelines_inside_that_wait_for_their_backoff_do_not_hide_what_can_start(
    runner, compiled, database, serve_until
):
    created = runner.create(compiled(many_in_vain))
    serve_until(lambda: len(runner.result(created).tasks) == 13 and _none_runs(database))
    (gate,) = approvals.gates(database, "waiting")
    approvals.decide(database, gate.id, at=1e9, actor="user:ann", approve=True, reason="")
    serve_until(lambda: len(_attempts(database, created)) == 15 and _none_runs(database))
    begun = {path: task["state"] for path, task in runner.result(created).tasks.items() if path.endswith("/word")}
    assert list(begun.values()) == ["SUCCEEDED"] * 3


def _none_runs(database):
    return not database.query("SELECT * FROM task WHERE state IN ('PENDING', 'RUNNING')")


@component
def deadly() -> str:
    import xgboost

    return xgboost.__name__


@dsl.pipeline
def with_deadly():
    word()
    deadly()


def test_a_library_that_cannot_be_imported_beforehand_fails_its_task_and_no_other(run, tmp_path, monkeypatch):
    (tmp_path / "xgboost.py").write_text("import os; os._exit(1)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    result = run(with_deadly)
    assert result.error == "task deadly: the warm parent died 3 times when it was to start the task"
    assert result.tasks["word"]["state"] == "SUCCEEDED"


@pytest.mark.parametrize(
    "place", [(LiveRun, "plan"), (Engine, "_settle"), (transitions, "fail")], ids=["plan", "take over", "commit"]
)
def test_a_fault_of_our_own_ends_its_run_and_no_other(runner, compiled, monkeypatch, caplog, place):
    """Whatever nobody has foreseen: the engine goes on, and so do all other runs, at once and at every start."""
    poisoned = runner.create(compiled(ending), {"how": "raise"})
    healthy = runner.create(compiled(ending), {"how": "well"})

    def faulty(*given, **options):
        if any(getattr(one, "id", one) == poisoned for one in given):
            raise KeyError("gone")
        return original(*given, **options)

    owner, name = place
    original = getattr(owner, name)
    monkeypatch.setattr(owner, name, faulty)
    asyncio.run(_serve_until(runner, lambda: all(runner.result(one).state in FINAL for one in (poisoned, healthy))))
    assert runner.result(healthy).state == "SUCCEEDED"
    result = runner.result(poisoned)
    assert (result.state, result.error) == ("FAILED", "a fault of Headrace's own: KeyError: 'gone'")
    assert caplog.text.count("KeyError: 'gone'") == 1, "the log has the traceback once"


async def _serve_until(runner, condition):
    stop = asyncio.Event()
    engine = Engine(home=runner.home, database=runner.database, clock=SystemClock(), environment={})
    serving = asyncio.create_task(engine.serve(stop))
    async with asyncio.timeout(60):
        while not condition() and not serving.done():  # noqa: ASYNC110 - it waits for other processes
            await asyncio.sleep(0.05)
    stop.set()
    await serving


@component
def held(go: str) -> str:
    import time
    from pathlib import Path

    Path(go + ".begun").touch()
    while not Path(go).exists():
        time.sleep(0.01)
    return "went"


@dsl.pipeline
def holding(go: str) -> str:
    return word(text=held(go=go).output).output


def test_a_database_that_others_keep_locked_is_waited_for(runner, compiled, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("headrace.store.database.BUSY_SECONDS", 0.1)
    runner.database.close()
    created = runner.create(compiled(holding), {"go": str(tmp_path / "go")})

    async def scenario():
        engine = Engine(home=runner.home, database=runner.database, clock=SystemClock(), environment={})
        driving = asyncio.create_task(engine.drive(created))
        async with asyncio.timeout(60):
            while not (tmp_path / "go.begun").exists():  # noqa: ASYNC110 - it waits for another process
                await asyncio.sleep(0.01)
            with contextlib.closing(connect(runner.database.path)) as other:
                other.execute("BEGIN IMMEDIATE")
                (tmp_path / "go").touch()
                while "keeps it locked" not in caplog.text:  # noqa: ASYNC110 - the engine says it
                    await asyncio.sleep(0.01)
                other.execute("ROLLBACK")
            await driving

    asyncio.run(scenario())
    result = runner.result(created)
    assert (result.state, result.outputs) == ("SUCCEEDED", {"Output": "went"}), result.error
    assert {task["attempt"] for task in result.tasks.values()} == {1}


@dsl.pipeline
def boundless(counter: str) -> int:
    tried = fickle(counter=counter, fails=3)
    return tried.set_retry(3, backoff_duration="1s", backoff_factor=1e200, backoff_max_duration="3600s").output


def test_a_backoff_that_grows_beyond_all_numbers_is_the_longest(runner, compiled, drive, tmp_path):
    result = drive(runner.create(compiled(boundless), {"counter": str(tmp_path / "counter")}), LeapingClock())
    assert (result.state, result.outputs) == ("SUCCEEDED", {"Output": 4}), result.error


@pytest.mark.parametrize(
    ("backoff", "failures", "seconds"),
    [
        (Backoff(5.0, 3.0, 60.0), 1, 5.0), (Backoff(5.0, 3.0, 60.0), 3, 45.0), (Backoff(5.0, 3.0, 60.0), 4, 60.0),
        (Backoff(1.0, 2.0, 60.0), 2000, 60.0), (Backoff(0.0, 1e300, 60.0), 2000, 0.0),
        (Backoff(1.0, float("nan"), 60.0), 3, 60.0), (Backoff(1.0, float("inf"), 60.0), 3, 60.0),
        (Backoff(1.0, -2.0, 60.0), 2, 0.0),
    ],
)  # fmt: skip
def test_a_backoff_grows_up_to_its_longest(backoff, failures, seconds):
    assert backoff.after(failures) == seconds
