"""Locks that a dead process cannot keep: the system frees them, however the holder ends."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Who looks whether a lock is held (`holder`) has it for an instant, and so has a child that was just forked by a
# process that was killed. Whoever really holds it goes on doing so.
PATIENCE_SECONDS = 1.0


class FileLock:
    """An exclusive flock on a file that also says who holds it, as JSON."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def acquire(self, about: Mapping[str, Any] | None = None) -> bool:
        """Take the lock and write `about` into the file; False when another process holds it."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not _try(descriptor):
            if time.monotonic() > deadline:
                os.close(descriptor)
                return False
            time.sleep(0.01)
        self._descriptor = descriptor
        self.describe(about or {})
        return True

    def describe(self, about: Mapping[str, Any]) -> None:
        """Replace what the held file says about its holder."""
        assert self._descriptor is not None, "only the holder describes itself"
        text = json.dumps({"pid": os.getpid(), **about}).encode()
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text, 0)

    @property
    def descriptor(self) -> int:
        """For the `pass_fds` of a process that keeps the lock for as long as it lives, should this one die."""
        assert self._descriptor is not None, "only the holder shares the lock"
        return self._descriptor

    def release(self) -> None:
        """Give the lock back. Idempotent."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def holder(path: Path) -> dict[str, Any] | None:
    """What the holder of the lock at `path` says about itself; None when nobody holds it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = path.read_text(encoding="utf-8")
        about: dict[str, Any] = json.loads(text) if text else {}
        return about
    else:
        return None
    finally:
        os.close(descriptor)
