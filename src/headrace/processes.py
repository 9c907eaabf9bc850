"""Find, watch and end processes that other processes may have started."""

from __future__ import annotations

import contextlib
import os
import signal

import psutil

# Process start times are read with the clock's tick as their unit.
_SAME_START_SECONDS = 0.05


def created(pid: int) -> float:
    """When a process started, in unix seconds; 0 when it is gone already."""
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return 0.0


def alive(pid: int | None, process_created: float | None) -> bool:
    """Whether this very process still runs: the same number, started at the same time, not a zombie.

    A process whose first thread has ended and whose others have not looks like a zombie, and still holds its ports.
    """
    if pid is None or not process_created:
        return False
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - process_created) < _SAME_START_SECONDS
        return same and (process.status() != psutil.STATUS_ZOMBIE or process.num_threads() > 1)
    except psutil.NoSuchProcess:
        return False


def kill_session(pid: int | None, process_created: float | None) -> None:
    """Kill a task's process and everything in its session and below it."""
    if pid is None or not alive(pid, process_created):
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        family = psutil.Process(pid).children(recursive=True)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
