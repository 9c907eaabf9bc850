"""What tasks have left running when both they and the warm parent were killed, so that nobody took it along."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path

import psutil

from headrace.processes import kill_all

_FORKED = "warm_parent"


def end_leftovers(run_id: str, tasks: Mapping[str, tuple[int | None, Path]]) -> None:
    """Kill what is left of these tasks of a run; with each come the process that did it and its attempt's directory.

    A program that a task has started is known by its environment. What was forked without starting a program has none
    of its own: it is known as a child of a warm parent in the task's session or working directory.
    """
    sessions = {pid for pid, _ in tasks.values() if pid is not None}
    folders = [directory for _, directory in tasks.values()]
    if tasks:
        kill_all(lambda process: _started(process, run_id, tasks) or _forked(process, sessions, folders))


def _started(process: psutil.Process, run_id: str, tasks: Collection[str]) -> bool:
    environment = process.environ()
    return environment.get("HEADRACE_RUN_ID") == run_id and environment.get("HEADRACE_TASK") in tasks


def _forked(process: psutil.Process, sessions: Collection[int], folders: Collection[Path]) -> bool:
    if not any(_FORKED in word for word in process.cmdline()):
        return False
    return os.getsid(process.pid) in sessions or any(Path(process.cwd()).is_relative_to(one) for one in folders)
