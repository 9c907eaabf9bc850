import asyncio

import pytest

from headrace.control import loop
from headrace.control.loop import repeat


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    """Failures are tried again at once; how long it would wait is kept."""
    waits = []

    async def wait_for(awaitable, timeout):  # noqa: ASYNC109 - asyncio's own signature
        waits.append(timeout)
        return await real(awaitable, timeout=0.001)

    real = asyncio.wait_for
    monkeypatch.setattr(loop.asyncio, "wait_for", wait_for)
    return waits


def _run(passes, told):
    """Passes that return or raise, one after the other; the loop is told to stop in the last one."""
    stop = asyncio.Event()
    left = list(passes)

    async def run():
        running = asyncio.get_running_loop()

        def one_pass():
            answer = left.pop(0)
            if not left:
                running.call_soon_threadsafe(stop.set)
            if isinstance(answer, Exception):
                raise answer
            return answer

        await repeat("rollouts", one_pass, stop=stop, report=lambda name, error: told.append((name, str(error))))

    asyncio.run(run())
    assert left == []


def test_it_waits_as_long_as_each_pass_says(hurried):
    told = []
    _run([0.2, 0.5, 0.2, 0], told)
    assert hurried[:3] == [0.2, 0.5, 0.2]
    assert told == []


def test_a_pass_that_fails_is_told_once_and_tried_again_later_each_time(hurried):
    told = []
    _run([ValueError("no disk")] * 8 + [0.2, ValueError("no disk"), 0], told)
    assert told == [("rollouts", "no disk"), ("rollouts", "no disk")]
    assert hurried[:10] == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0, 0.2, 1.0]


def test_another_failure_is_told_too(hurried):
    told = []
    _run([ValueError("no disk"), OSError("no net"), OSError("no net"), 0], told)
    assert told == [("rollouts", "no disk"), ("rollouts", "no net")]


def test_a_loop_that_was_stopped_before_it_began_does_nothing():
    async def run():
        stop = asyncio.Event()
        stop.set()
        await repeat("rollouts", pytest.fail, stop=stop, report=pytest.fail)

    asyncio.run(run())


def test_stopping_ends_a_long_wait(monkeypatch):
    monkeypatch.undo()

    async def run():
        stop = asyncio.Event()
        running = asyncio.get_running_loop()

        def one_pass():
            running.call_soon_threadsafe(stop.set)
            return 10_000.0

        await asyncio.wait_for(repeat("rollouts", one_pass, stop=stop, report=pytest.fail), timeout=60)

    asyncio.run(run())
