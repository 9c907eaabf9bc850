"""What becomes of the processes of a run that is cancelled, stopped or ends; several runs in one engine."""

import asyncio
from functools import partial
from pathlib import Path

import pytest
from kfp import dsl

from headrace.clock import SystemClock
from headrace.processes import created
from headrace.runs import transitions
from headrace.runs.engine import Engine
from headrace.store.artifacts import content

component = partial(dsl.component, base_image="python:3.12")


@component
def family(folder: str, how: str = "wait") -> str:
    """Start a child, one in a session of its own that has a child again, and a daemon; then do as told."""
    import os
    import signal
    import subprocess
    import sys
    import time
    from pathlib import Path

    child = "import subprocess, sys; subprocess.run(['sleep', '60'])"
    near = subprocess.Popen(["sleep", "60"])
    far = subprocess.Popen([sys.executable, "-S", "-c", child], start_new_session=True)
    # What started it has ended already, so nothing leads from it to the task.
    shell = "setsid sleep 60 >/dev/null 2>&1 & echo $!"
    daemon = subprocess.run(["sh", "-c", shell], capture_output=True, check=True).stdout.decode().strip()
    pids = f"{os.getpid()} {near.pid} {far.pid} {daemon}"
    Path(folder, "pids.new").write_text(pids)
    Path(folder, "pids.new").rename(Path(folder, "pids"))
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    while how == "wait" and not Path(folder, "go").exists():
        time.sleep(0.01)
    for process in (near, far) if how == "wait" else ():
        process.kill()
    return how


@component
def word(text: str) -> str:
    return text


@dsl.pipeline
def one_family(folder: str, how: str = "wait") -> str:
    done = family(folder=folder, how=how)
    word(text="beside")
    return word(text=done.output).output


@pytest.fixture
def engine(home, database):
    return lambda **more: Engine(home=home, database=database, clock=SystemClock(), environment={}, **more)


async def _until(condition):
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - it waits for another process
            await asyncio.sleep(0.01)


def _pids(folder):
    return [int(pid) for pid in (folder / "pids").read_text().split()]


def test_cancelling_a_run_ends_every_process_of_it(runner, compiled, database, engine, gone, tmp_path):
    created = runner.create(compiled(one_family), {"folder": str(tmp_path)})

    async def scenario():
        driving = asyncio.create_task(engine().drive(created))
        await _until((tmp_path / "pids").exists)
        transitions.request_cancel(database, created, actor="user:ann", reason="wrong data", at=2e9)
        await driving

    asyncio.run(scenario())
    gone(_pids(tmp_path))
    result = runner.result(created)
    assert (result.state, result.tasks["family"]["state"]) == ("CANCELED", "CANCELED")
    assert "word-2" not in result.tasks
    (attempt,) = database.query("SELECT state FROM attempt WHERE path = 'family'")
    assert attempt["state"] == "CANCELED"


def test_a_run_that_nobody_drives_is_cancelled_by_the_next_engine(runner, compiled, database):
    created = runner.create(compiled(one_family), {"folder": "/nowhere"})
    transitions.request_cancel(database, created, actor="user:ann", reason="", at=2e9)
    result = runner.drive(created)
    assert (result.state, result.tasks) == ("CANCELED", {})


@pytest.mark.parametrize(("how", "state"), [("leave", "SUCCEEDED"), ("killed", "FAILED")])
def test_what_a_task_leaves_behind_ends_with_it(run, gone, tmp_path, how, state):
    result = run(one_family, folder=str(tmp_path), how=how)
    assert result.state == state, result.error
    gone(_pids(tmp_path))


def test_an_engine_that_is_stopped_leaves_no_process_and_the_next_one_goes_on(
    runner, compiled, database, engine, gone, tmp_path
):
    created = runner.create(compiled(one_family), {"folder": str(tmp_path)})

    async def scenario():
        stop = asyncio.Event()
        serving = asyncio.create_task(engine().serve(stop))
        await _until((tmp_path / "pids").exists)
        stop.set()
        await serving

    asyncio.run(scenario())
    gone(_pids(tmp_path))
    assert runner.result(created).state == "PENDING"

    (tmp_path / "go").touch()
    result = runner.drive(created)
    assert (result.state, result.outputs) == ("SUCCEEDED", {"Output": "wait"}), result.error
    tries = database.query("SELECT state FROM attempt WHERE path = 'family' ORDER BY number")
    assert [row["state"] for row in tries] == ["LOST", "SUCCEEDED"]
    assert result.tasks["word"]["attempt"] == 1


@component
def step(journal: str, name: str) -> str:
    from pathlib import Path

    with Path(journal).open("a") as stream:
        stream.write(f"{name}\n")
    return name


@dsl.pipeline
def steps(journal: str, name: str):
    first = step(journal=journal, name=name)
    step(journal=journal, name=first.output)


def test_one_engine_drives_many_runs_and_each_step_once(runner, compiled, engine, tmp_path):
    journal = tmp_path / "journal"
    text = compiled(steps)
    created = [runner.create(text, {"journal": str(journal), "name": f"run {n}"}) for n in range(6)]

    async def scenario():
        stop = asyncio.Event()
        serving = asyncio.create_task(engine(parallel=3).serve(stop))
        await _until(lambda: all(runner.result(one).state == "SUCCEEDED" for one in created))
        stop.set()
        await serving

    asyncio.run(scenario())
    assert sorted(journal.read_text().splitlines()) == sorted(f"run {n}" for n in range(6) for _ in range(2))


@dsl.pipeline
def looping(journal: str):
    with dsl.ParallelFor(["x", "x"]) as name:
        step(journal=journal, name=name)


def test_a_run_that_begins_with_a_loop_and_finds_every_place_taken_has_its_turn(runner, compiled, engine, tmp_path):
    parameters = {"journal": str(tmp_path / "journal")}
    created = [runner.create(compiled(looping), parameters, caching=False) for _ in range(3)]

    async def scenario():
        stop = asyncio.Event()
        serving = asyncio.create_task(engine(parallel=1).serve(stop))
        try:
            await _until(lambda: all(runner.result(one).state == "SUCCEEDED" for one in created))
        finally:
            stop.set()
            await serving

    asyncio.run(scenario())
    assert (tmp_path / "journal").read_text() == "x\n" * 6


@dsl.pipeline
def long_loop(journal: str):
    with dsl.ParallelFor(list(range(12))):
        step(journal=journal, name="long")


def test_a_small_run_has_its_turns_beside_one_with_many_tasks(runner, compiled, engine, tmp_path):
    journal = str(tmp_path / "journal")
    long = runner.create(compiled(long_loop), {"journal": journal}, caching=False)
    small = runner.create(compiled(steps), {"journal": journal, "name": "small"}, caching=False)

    async def scenario():
        stop = asyncio.Event()
        serving = asyncio.create_task(engine(parallel=1).serve(stop))
        await _until(lambda: all(runner.result(one).state == "SUCCEEDED" for one in (long, small)))
        stop.set()
        await serving

    asyncio.run(scenario())
    names = (tmp_path / "journal").read_text().splitlines()
    assert names == ["long", "small", "long", "small", *["long"] * 10]


def test_two_engines_share_the_runs_and_do_none_twice(runner, compiled, engine, database, tmp_path):
    journal = tmp_path / "journal"
    created = [
        runner.create(compiled(steps), {"journal": str(journal), "name": f"run {n}"}, caching=False) for n in range(4)
    ]

    async def scenario():
        stop = asyncio.Event()
        serving = [asyncio.create_task(engine().serve(stop)) for _ in range(2)]
        await _until(lambda: all(runner.result(one).state == "SUCCEEDED" for one in created))
        stop.set()
        await asyncio.gather(*serving)

    asyncio.run(scenario())
    assert len(journal.read_text().splitlines()) == 8
    assert not database.query("SELECT * FROM attempt WHERE number > 1 OR state != 'SUCCEEDED'")


def test_a_run_whose_document_cannot_be_read_fails_and_the_engine_goes_on(runner, compiled, database, tmp_path):
    broken, whole = (
        runner.create(compiled(steps), {"journal": str(tmp_path / "journal"), "name": name}) for name in "ab"
    )
    with database.transaction() as connection:
        connection.execute("UPDATE run SET document = 'not: a pipeline' WHERE id = ?", (broken,))
    assert "not a PipelineSpec" in runner.drive(broken).error
    assert runner.drive(whole).state == "SUCCEEDED"
    assert Path(tmp_path / "journal").read_text() == "b\nb\n"


@dsl.pipeline
def one_word() -> str:
    return word(text="said").output


def test_a_file_of_the_users_with_the_name_of_a_standard_module_does_no_harm(run, tmp_path, monkeypatch):
    for name in ("random", "types", "tempfile"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not this one')\n")
    monkeypatch.chdir(tmp_path)
    result = run(one_word)
    assert (result.state, result.outputs) == ("SUCCEEDED", {"Output": "said"})


@component
def busy(data: dsl.Output[dsl.Dataset]):
    """Leave a thread that goes on writing."""
    import threading
    import time
    from pathlib import Path

    def write():
        while True:
            sum(range(500_000))
            stream.write("more ")
            stream.flush()

    stream = Path(data.path).open("w")  # noqa: SIM115
    threading.Thread(target=write, daemon=True).start()
    time.sleep(0.05)


@dsl.pipeline
def much_is_busy():
    with dsl.ParallelFor(list(range(10))):
        busy()


def test_nobody_writes_into_an_output_that_has_been_digested(run, database):
    result = run(much_is_busy)
    assert result.state == "SUCCEEDED", result.error
    made = database.query("SELECT uri, digest FROM artifact WHERE run_id = ?", (result.run_id,))
    assert len(made) == 10
    assert [row["digest"] for row in made] == [content.digest(Path(row["uri"])) for row in made]


@component
def hold(lock: str) -> str:
    """Keep a lock, and memory that takes the system a while to free."""
    import builtins
    import fcntl
    from pathlib import Path

    builtins.kept = [Path(lock).open("w"), *(bytearray(600) for _ in range(600_000))]  # noqa: SIM115
    fcntl.flock(builtins.kept[0], fcntl.LOCK_EX)
    return lock


@component
def lock_again(lock: str) -> str:
    import fcntl
    from pathlib import Path

    with Path(lock).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return "locked"


@dsl.pipeline
def one_after_the_other(lock: str) -> str:
    return lock_again(lock=hold(lock=lock).output).output


def test_what_a_task_has_locked_is_free_for_the_next(run, tmp_path):
    result = run(one_after_the_other, lock=str(tmp_path / "lock"))
    assert (result.state, result.outputs) == ("SUCCEEDED", {"Output": "locked"}), result.error


@component
def large() -> int:
    import builtins
    import os

    builtins.kept = [bytearray(600) for _ in range(600_000)]
    return os.getpid()


@dsl.pipeline
def ends_large() -> int:
    return large().output


def test_when_a_run_has_ended_its_tasks_have_too(run):
    assert created(run(ends_large).outputs["Output"]) == 0.0


@component
def closing(data: dsl.Output[dsl.Dataset]):
    """Close every file, as daemons do, and open others."""
    import builtins
    import os
    from pathlib import Path

    os.closerange(3, 64)
    builtins.kept = [Path(data.path).open("a") for _ in range(32)]  # noqa: SIM115


@component
def read(data: dsl.Input[dsl.Dataset]) -> str:
    from pathlib import Path

    return Path(data.path).read_text()


@dsl.pipeline
def closed() -> str:
    return read(data=closing().outputs["data"]).output


def test_a_task_that_closes_all_files_finds_nothing_in_those_that_it_opens(run):
    result = run(closed)
    assert (result.state, result.outputs) == ("SUCCEEDED", {"Output": ""}), result.error
