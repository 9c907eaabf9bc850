"""What tasks leave behind: processes, when they and the warm parent were killed; outputs that have filled the disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

import psutil

from headrace.processes import kill_all
from headrace.runs.executor_input import Outputs
from headrace.runs.executors.warm_parent import CLAIM, CODE_FILE, INPUT_FILE, RESULT_FILE

# With less than this the database, which needs room for each change, could not be written much longer.
FULL_BYTES = 8 * 1024 * 1024
_KEPT = (RESULT_FILE, CLAIM, CODE_FILE, INPUT_FILE)
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


def free_when_full(directory: Path) -> str:
    """Remove what a failed attempt has written when the disk is full; what is to be said of it, or "".

    Nothing refers to these outputs, and without space its failure could not be recorded.
    """
    if shutil.disk_usage(directory).free >= FULL_BYTES:
        return ""
    for place in directory.iterdir():
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place, ignore_errors=True)
        elif place.name not in _KEPT:
            place.unlink(missing_ok=True)
    return " (the disk is full: what the attempt had written was removed)"


def remove_checkpoints(folder: Path, outputs: Outputs) -> None:
    """Remove the checkpoints of a task that succeeded, unless an artifact lies among them: nobody goes on there."""
    uris = [item["uri"] for items in outputs.artifacts.values() for item in items]
    if not any(Path(uri).is_relative_to(folder) for uri in uris):
        shutil.rmtree(folder, ignore_errors=True)
