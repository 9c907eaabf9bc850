"""A disk that is full fails the task that fills it; the database stays whole, and runs go on when there is space."""

import asyncio
import contextlib
from functools import partial

import pytest
from kfp import dsl

from headrace.clock import SystemClock
from headrace.errors import StorageError
from headrace.project.wiring import open_database
from headrace.runs.engine import Engine
from headrace.store import events
from headrace.store.home import Home

component = partial(dsl.component, base_image="python:3.12")


@pytest.fixture
def home(small_disk, request, tmp_path):
    """On the small disk; with "database only" the artifacts lie on another one."""
    home = Home(small_disk / "home")
    if getattr(request, "param", "") == "database only":
        home.path.mkdir()
        home.artifacts.symlink_to(tmp_path, target_is_directory=True)
    return home.create()


@component
def word(text: str) -> str:
    return text


@component
def fill(data: dsl.Output[dsl.Dataset], after: str = ""):
    """Write for as long as there is space, down to the last byte, and say so in a log that has no space either."""
    import sys
    from pathlib import Path

    with Path(data.path).open("wb", buffering=0) as stream:
        size = 1 << 16
        while size:
            try:
                stream.write(b"\0" * size)
            except OSError:
                size //= 2
        sys.stdout.write("x" * 100_000)
        stream.write(b"\0" * 100_000)


@dsl.pipeline
def filling() -> str:
    first = word(text="first")
    fill(after=first.output).set_retry(2)
    return word(text="beside").output


def whole(database):
    assert database.one("PRAGMA integrity_check")[0] == "ok"
    assert events.first_broken(database) is None


def test_a_full_disk_fails_the_task_and_not_the_database(run, database, runner, compiled):
    result = run(filling)
    assert result.state == "FAILED"
    assert "No space left on device" in result.error
    assert "what the attempt had written was removed" in result.error
    assert result.tasks["fill"]["attempt"] == 3
    assert result.outputs == {"Output": "beside"}
    whole(database)
    # What the task had taken is free again: the next run needs no help.
    assert runner.run(compiled(wordy)).state == "SUCCEEDED"


@component
def long_word(go: str) -> str:
    import time
    from pathlib import Path

    Path(go + ".begun").touch()
    while not Path(go).exists():
        time.sleep(0.01)
    return "went"


@dsl.pipeline
def wordy() -> str:
    return word(text="said").output


@dsl.pipeline
def waiting(go: str) -> str:
    return word(text=long_word(go=go).output).output


@pytest.mark.parametrize("home", ["database only"], indirect=True)
def test_a_run_waits_while_others_fill_the_disk_and_ends_when_there_is_space(
    runner, compiled, home, database, small_disk, tmp_path, caplog
):
    created = runner.create(compiled(waiting), {"go": str(tmp_path / "go")})
    filler = small_disk / "filler"

    async def until(condition):
        async with asyncio.timeout(60):
            while not condition():  # noqa: ASYNC110 - it waits for another process
                await asyncio.sleep(0.01)

    async def scenario():
        engine = Engine(home=home, database=database, clock=SystemClock(), environment={})
        driving = asyncio.create_task(engine.drive(created))
        await until((tmp_path / "go.begun").exists)
        _fill(filler, database)
        (tmp_path / "go").touch()
        await until(lambda: "could not be written" in caplog.text)
        assert not driving.done()
        filler.unlink()
        await driving

    asyncio.run(scenario())
    result = runner.result(created)
    assert (result.state, result.outputs) == ("SUCCEEDED", {"Output": "went"}), result.error
    assert {task["attempt"] for task in result.tasks.values()} == {1}
    assert 1 <= caplog.text.count("could not be written") <= 3, "it is said once, and not every second"
    whole(database)


def _fill(file, database):
    """Take all space of the disk, so that not even what the database has set aside for its log is left."""
    with file.open("ab", buffering=0) as stream:
        size = 1 << 16
        while size:
            try:
                stream.write(b"\0" * size)
            except OSError:
                size //= 2
    other = open_database(Home(database.path.parent))
    full = "could not be written"
    with contextlib.closing(other), pytest.raises(StorageError, match=full):
        while True:
            with other.transaction() as connection:
                events.append(connection, at=1.0, actor="user:ann", kind="x", subject="x", reason="x" * 4000)
