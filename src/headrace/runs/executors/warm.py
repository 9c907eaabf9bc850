"""The engine's end of the warm parent: starts it, asks it for processes, hears of their ends."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.errors import HeadraceError
from headrace.runs.executors import warm_parent
from headrace.runs.resources import THREAD_VARIABLES

# One thread a task unless its resources say more: two libraries that each start a thread a core make both slow.
THREADS = dict.fromkeys(THREAD_VARIABLES, "1")
QUIET = {
    "DO_NOT_TRACK": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MPLBACKEND": "Agg",
    "OBJC_DISABLE_INITIALIZE_FORK_SAFETY": "YES",
    "PYTHONUNBUFFERED": "1",
    "_KFP_RUNTIME": "true",
}
_LINE_LIMIT = 64 * 1024 * 1024
_LOG = logging.getLogger(__name__)


class NotStartedError(HeadraceError):
    """The warm parent died before it told that the work has started."""


@dataclass(frozen=True)
class Work:
    """One attempt: where it works and writes its log, its input, and what it does.

    That is a function of a component's code, or else a command. `workdir`: where it does it and imports from, "" for a
    folder of its own.
    """

    directory: Path
    log: Path
    executor_input: Mapping[str, Any]
    environment: Mapping[str, str]
    code: str = ""
    function: str = ""
    preload: Sequence[str] = ()
    command: Sequence[str] = ()
    workdir: str = ""


class WarmExecutor:
    """Forks a process for each piece of work. `on_exit(pid, status)` is called when one has left its result, and when
    it has ended; negative is a signal.

    `python` is the interpreter of another environment that holds kfp and psutil; None: this one.
    """

    def __init__(self, on_exit: Callable[[int, int], None], python: Path | None = None) -> None:
        self._on_exit = on_exit
        self._python = python
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[int]] = {}
        self._starting = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """The warm parent's process id, while it lives."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self, work: Work) -> int:
        """Start the work and return its process id.

        Raises:
            NotStartedError: the warm parent died first; the work may have started nevertheless.
        """
        async with self._starting:
            process = await self._parent()
        number = next(self._numbers)
        forked: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting[number] = forked
        assert process.stdin is not None
        with contextlib.suppress(ConnectionError):
            process.stdin.write(json.dumps(_request(number, work)).encode() + b"\n")
            await process.stdin.drain()
        return await forked

    async def close(self) -> None:
        """End the warm parent; children go on."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            await self._process.wait()
        if self._reader is not None:
            await self._reader

    async def _parent(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            if self._reader is not None:
                await self._reader
            self._process = await asyncio.create_subprocess_exec(
                *self._program(),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env={**os.environ, **THREADS, **QUIET},
                limit=_LINE_LIMIT,
                start_new_session=True,
            )
            self._reader = asyncio.create_task(self._read(self._process))
        return self._process

    def _program(self) -> list[str]:
        # Without -P a random.py in the user's folder would be imported for the one that libraries want.
        if self._python is None:
            return [sys.executable, "-P", "-W", "ignore", "-m", warm_parent.__name__]
        # Another environment does not hold Headrace.
        return [str(self._python), "-P", "-W", "ignore", str(Path(warm_parent.__file__))]

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        """Hear the parent until its end. Whatever ends the hearing ends it, too: nobody waits for a parent unheard."""
        assert process.stdout is not None
        try:
            while line := await process.stdout.readline():
                self._hear(json.loads(line))
        except Exception:  # noqa: BLE001 - whatever it was, it is told
            _LOG.exception("the warm parent cannot be understood; it is ended, and the next task starts another one")
        finally:
            if process.returncode is None:
                # Its own kill() would reap one that has just ended, and asyncio not learn how it ended.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
            await process.wait()
            for forked in self._waiting.values():
                if not forked.done():
                    forked.set_exception(NotStartedError("the warm parent died"))
            self._waiting.clear()

    def _hear(self, message: Mapping[str, Any]) -> None:
        if "forked" in message:
            self._waiting.pop(message["forked"]).set_result(message["pid"])
        elif "exited" in message:
            self._on_exit(message["exited"], message["status"])


def _request(number: int, work: Work) -> dict[str, Any]:
    return {
        "fork": number,
        "directory": str(work.directory),
        "log": str(work.log),
        "code": work.code,
        "function": work.function,
        "input": work.executor_input,
        "environment": dict(work.environment),
        "preload": list(work.preload),
        "command": list(work.command),
        "workdir": work.workdir,
    }
