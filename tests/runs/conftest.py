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
