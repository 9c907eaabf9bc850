"""Find, watch and end processes that other processes may have started."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable, Collection
from functools import cache

import psutil

_LINUX = os.uname().sysname == "Linux"
# Process start times are read with the clock's tick as their unit.
_SAME_START_SECONDS = 0.05
_PR_SET_CHILD_SUBREAPER = 36
END_SECONDS = 2.0


def created(pid: int) -> float:
    """When a process started, in seconds; 0 when it is gone already.

    On Linux the seconds count from the machine's start: a clock that is set meanwhile would make a living process look
    like another one, and its task would be done a second time. Elsewhere they count from 1970.
    """
    if _LINUX:
        # Every task's process does this: plain calls touch less of the memory that it shares.
        try:
            stat = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
        except FileNotFoundError:
            return 0.0
        try:
            fields = os.read(stat, 4096).rpartition(b")")[2].split()
        except ProcessLookupError:
            return 0.0
        finally:
            os.close(stat)
        return int(fields[19]) / os.sysconf("SC_CLK_TCK")
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return 0.0


def alive(pid: int | None, process_created: float | None) -> bool:
    """Whether this very process still runs: the same number, started at the same time, not a zombie."""
    if pid is None or not process_created:
        return False
    try:
        return abs(created(pid) - process_created) < _SAME_START_SECONDS and _lives(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return False


def _lives(process: psutil.Process) -> bool:
    """Whether it is more than a zombie. Raises psutil.NoSuchProcess.

    A process whose first thread has ended and whose others have not looks like a zombie, and still holds its ports.
    """
    return process.status() != psutil.STATUS_ZOMBIE or process.num_threads() > 1


def adopt_orphans() -> None:
    """Become the parent of what descendants leave behind when they end, also of daemons; Linux only, else nothing."""
    if _LINUX:
        _libc().prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def end_children(keep: Collection[int] = ()) -> None:
    """Kill every child of this process but those to keep, and what is below them, and wait until they are gone.

    Of a process that adopts orphans these are all of its descendants. Costs next to nothing when there is no child.
    """
    deadline = time.monotonic() + END_SECONDS
    while _has_children() and time.monotonic() < deadline:
        children = [child for child in psutil.Process().children() if child.pid not in keep]
        if not children:
            return
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
            # The children of one that has ended come to this process, and are seen in the next turn.
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child.pid, os.WNOHANG)
        time.sleep(0.0005)


def _has_children() -> bool:
    if not _LINUX:
        return True
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def kill_session(pid: int | None, process_created: float | None) -> None:
    """Kill a process, its session and everything below it.

    What adopts its orphans takes all of its descendants along, also those that have left its session and whose parents
    have ended: it is stopped first, so that it starts nothing more, and killed last.
    """
    if pid is None or not alive(pid, process_created):
        return
    deadline = time.monotonic() + END_SECONDS
    with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError, PermissionError):
        process = psutil.Process(pid)
        os.kill(pid, signal.SIGSTOP)
        while (family := _living_below(process)) and time.monotonic() < deadline:
            for one in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
            time.sleep(0.001)
        os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _living_below(process: psutil.Process) -> list[psutil.Process]:
    found = []
    for one in process.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if _lives(one):
                found.append(one)
    return found


def find(wanted: Callable[[psutil.Process], bool]) -> list[psutil.Process]:
    """The living processes that are wanted, among those that may be looked at. `wanted` may raise psutil's errors."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and _lives(process) and wanted(process):
                found.append(process)
    return found


def started_with(*words: str) -> list[psutil.Process]:
    """The living processes on whose command line these words stand one after another."""

    def wanted(process: psutil.Process) -> bool:
        line = process.cmdline()
        return any(tuple(line[start : start + len(words)]) == words for start in range(len(line)))

    return find(wanted)


def end_started_with(*words: str) -> None:
    """Kill the processes on whose command line these words stand, with all below them, and wait until they are gone."""
    deadline = time.monotonic() + END_SECONDS
    while (found := started_with(*words)) and time.monotonic() < deadline:
        for process in found:
            kill_session(process.pid, created(process.pid))
        time.sleep(0.005)


def kill_all(wanted: Callable[[psutil.Process], bool]) -> None:
    """Kill the processes that are wanted, until there are none."""
    deadline = time.monotonic() + END_SECONDS
    while (found := find(wanted)) and time.monotonic() < deadline:
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.kill()
        time.sleep(0.005)
