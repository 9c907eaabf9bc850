"""One home with its server, started as often as it is killed; sees every process that comes of it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from headrace.project.wiring import open_database
from headrace.store.home import Home

TESTS = Path(__file__).parents[1]
PATIENCE_SECONDS = 120.0
# They outlive the server and serve the next one. MLflow's has a child.
_SERVICES = ("/envoy -c", "-m mlflow server")
_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Make this process the parent of whatever its descendants leave behind, so that nothing can hide. Linux only."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "this system does not let a process adopt orphans")


class Stage:
    """`headrace up` on one home. Call `adopt_orphans` before the first start."""

    def __init__(self, folder: Path, dice: random.Random) -> None:
        self.folder = folder
        self.home = Home(folder / "home")
        self.database = open_database(self.home)
        self.output = folder / "server.log"
        ports = steady_ports(dice, 3)
        self._command = [
            sys.executable, "-m", "headrace.cli.main", "up",
            "--port", str(ports[0]), "--gateway-port", str(ports[1]), "--mlflow-port", str(ports[2]),
        ]  # fmt: skip
        self._server: subprocess.Popen[bytes] | None = None
        self._said_before = 0

    def launch(self) -> None:
        """Start the server and do not wait for it."""
        assert self._server is None
        # The tasks' ledger is a module of the tests.
        path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "HEADRACE_HOME": str(self.home.path), "PYTHONPATH": path}
        self._said_before = self.output.stat().st_size if self.output.exists() else 0
        with self.output.open("ab") as output:
            self._server = subprocess.Popen(
                self._command, cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    def await_ready(self) -> float:
        """Wait until the server says that it is up; when that was."""
        until(lambda: "Headrace is up" in self._said() or self._ended(), "the server is up", every=0.01)
        if self._ended():
            raise AssertionError(f"the server has ended by itself: {self._said()}")
        return time.time()

    def kill_server(self) -> None:
        """SIGKILL, and wait until it is gone."""
        assert self._server is not None
        self._server.kill()
        self._server.wait()
        self._server = None

    def stop(self) -> int:
        """End the server in the ordinary way; its exit code."""
        assert self._server is not None
        self._server.send_signal(signal.SIGTERM)
        code = self._server.wait(timeout=PATIENCE_SECONDS)
        self._server = None
        return code

    def close(self) -> None:
        """End whatever is left, however it has come about."""
        if self._server is not None:
            self.kill_server()
        while left := self.descendants():
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            self._reap()
        self._reap()
        self.database.close()

    # Who is there

    def descendants(self) -> list[psutil.Process]:
        """Every living process that comes of this stage."""
        self._reap()
        return [one for one in psutil.Process().children(recursive=True) if not _dead(one)]

    def warm_parents(self) -> list[psutil.Process]:
        """The processes that fork tasks for the server that runs now."""
        if self._server is None:
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            return [one for one in psutil.Process(self._server.pid).children() if _is_warm(one)]
        return []

    def workers(self) -> list[psutil.Process]:
        """The processes of tasks, also of those that have outlived their parent."""
        parents = {one.pid for one in self.warm_parents()}
        found = {one.pid: one for one in self.descendants() if one.pid not in parents and _is_warm(one)}
        # What a task has just forked, to start a program, looks like a task until it has.
        return [one for one in found.values() if _parent(one) not in found]

    def strangers(self) -> list[str]:
        """What nothing accounts for when no run is under way, by its command line; and services that run twice."""
        living = self.descendants()
        expected = {one.pid for one in self.warm_parents()}
        if self._server is not None:
            expected.add(self._server.pid)
        found = []
        for name in _SERVICES:
            roots = [one for one in living if name in " ".join(_words(one))]
            found += [f"another {name} {one.pid}" for one in roots[1:]]
            expected |= {one.pid for root in roots for one in (root, *_below(root))}
        return found + [f"{one.pid} {' '.join(_words(one))[:200]}" for one in living if one.pid not in expected]

    def complaints(self) -> list[str]:
        """What servers have said of loops that fail, and of errors that they did not expect."""
        lines = self.output.read_text(encoding="utf-8", errors="replace").splitlines()
        return [line for line in lines if line.startswith(("problem in", "Traceback", "error"))]

    def _said(self) -> str:
        return self.output.read_bytes()[self._said_before :].decode(errors="replace")

    def _ended(self) -> bool:
        return self._server is not None and self._server.poll() is not None

    def _reap(self) -> None:
        """Wait for the dead among the adopted; the server's own end is for `kill_server` and `stop`."""
        for child in psutil.Process().children():
            if (self._server is None or child.pid != self._server.pid) and _dead(child):
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(child.pid, os.WNOHANG)


def until(happened: Callable[[], object], what: str, *, every: float = 0.02, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            raise AssertionError(f"in {seconds:.0f} s it did not come about that {what}")
        time.sleep(every)


def steady_ports(dice: random.Random, count: int) -> list[int]:
    """Free ports that the system gives to nobody while the server is down: below those for outgoing connections."""
    found: list[int] = []
    while len(found) < count:
        port = dice.randrange(12_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
    return found


def _is_warm(process: psutil.Process) -> bool:
    return "headrace.runs.executors.warm_parent" in _words(process)


def _parent(process: psutil.Process) -> int:
    try:
        return process.ppid()
    except psutil.NoSuchProcess:
        return 0


def _below(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return []


def _dead(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
