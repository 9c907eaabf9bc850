"""Run a command and tell its wall time and the CPU of its whole process tree: `measure.py LIMIT LOG COMMAND…`.

Standard library only. Whatever the command leaves behind becomes this process's own child, is counted and ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
GRACE_SECONDS = 3.0


def main(limit: float, log: str, command: list[str]) -> None:
    """Print {"wall", "cpu", "code", "rss_mb"}: seconds, seconds, the exit code, the peak of the largest process.

    A command that takes longer than the limit has the code None.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with Path(log).open("ab") as stream:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True
        )
        code: int | None = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(limit)
        wall = time.perf_counter() - start
    end_what_is_left(now=code is None)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    rss_mb = usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    print(json.dumps({"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "code": code, "rss_mb": rss_mb}))


def end_what_is_left(*, now: bool) -> None:
    """Wait a moment for what the command has left, then kill it."""
    kill_at = time.monotonic() + (0 if now else GRACE_SECONDS)
    while True:
        try:
            done, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if done == 0:
            if time.monotonic() > kill_at:
                for child in children():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(child, signal.SIGKILL)
            time.sleep(0.01)


def children() -> list[int]:
    """The process ids of this process's children."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.append(int(stat.parent.name))
    return found


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2], sys.argv[3:])
