"""Several workers behind one process: it loads the model once, and they share its memory and its listening socket.

To a supervisor they are one process: the parent takes its SIGTERM, starts a worker that died again, and ends with them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable

SHORT_LIFE_SECONDS = 5.0
MAX_SHORT_LIVES = 5


class Workers:
    """The workers of one server. `work` is what each does; `closed` is called once none will be started again."""

    def __init__(self, count: int, work: Callable[[], None], closed: Callable[[], None]) -> None:
        self.count = count
        self.work = work
        self.closed = closed
        self._born: dict[int, float] = {}
        self._stopping = False
        self._short_lives = 0

    def run(self) -> int:
        """Start the workers and stay until all have ended; the exit code.

        1 when workers die one after another just after they were started: then something is wrong with all of them.
        """
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, lambda *_: self.stop())
        for _ in range(self.count):
            self._start()
        while self._born:
            try:
                pid, status = os.wait()
            except ChildProcessError:
                break
            self._ended(pid, status)
        return int(self._short_lives >= MAX_SHORT_LIVES)

    def stop(self) -> None:
        """Ask all workers to finish their requests and end."""
        if not self._stopping:
            self._stopping = True
            self.closed()
        for pid in list(self._born):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def _ended(self, pid: int, status: int) -> None:
        born = self._born.pop(pid, None)
        if born is None or self._stopping:
            return
        short = time.monotonic() - born < SHORT_LIFE_SECONDS
        self._short_lives = self._short_lives + 1 if short else 0
        sys.stderr.write(f"a worker (process {pid}) has ended with {_words(status)}")
        if self._short_lives >= MAX_SHORT_LIVES:
            sys.stderr.write(", as those before it: the server ends\n")
            self.stop()
        else:
            sys.stderr.write("; another one is started\n")
            self._start()

    def _start(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        # A SIGTERM between the fork and the child's own handlers must end it, not run the parent's handler in it.
        signals = {signal.SIGTERM, signal.SIGINT}
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                for name in signals:
                    signal.signal(name, signal.SIG_DFL)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
                self.work()
                code = 0
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 1
            except BaseException as error:  # noqa: BLE001 - it is told, and the process ends
                sys.stderr.write(f"{type(error).__name__}: {error}\n")
            finally:
                sys.stderr.flush()
                os._exit(code)
        self._born[pid] = time.monotonic()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)


def _words(status: int) -> str:
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return f"exit code {os.waitstatus_to_exitcode(status)}"
