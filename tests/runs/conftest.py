import subprocess
import sys
import time

import psutil
import pytest


@pytest.fixture
def until():
    """Waits for something that another process does."""

    def wait(condition, seconds=30):
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it did not happen"
            time.sleep(0.01)

    return wait


@pytest.fixture
def gone(until):
    """Waits until none of these processes is left."""

    def left(pid):
        try:
            return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    return lambda pids: until(lambda: not any(left(pid) for pid in pids))


ENGINE = """
import asyncio, sys
from pathlib import Path
from headrace.clock import SystemClock
from headrace.project.wiring import open_database
from headrace.runs.engine import Engine
from headrace.store.home import Home

home = Home(Path(sys.argv[1]))
engine = Engine(home=home, database=open_database(home), clock=SystemClock(), environment={})
asyncio.run(engine.drive(sys.argv[2]))
"""


@pytest.fixture
def engine_process(home):
    """Starts an engine for a run, in a process of its own; what is left of them at the end is killed."""
    started = []

    def start(run_id):
        started.append(subprocess.Popen([sys.executable, "-c", ENGINE, str(home.path), run_id]))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
