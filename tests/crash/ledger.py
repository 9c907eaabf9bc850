"""What a task notes about itself, outside Headrace's state: the witness against which the tables are checked."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType


@dataclass(frozen=True)
class Line:
    """One note: `begun`, `ended` or `failed`, by which attempt of which task, in which process, when (unix seconds)."""

    path: str
    attempt: int
    what: str
    pid: int
    at: float


class Working:
    """Notes that a task begins, and how it ends. Used inside tasks; the folder holds one file a task."""

    def __init__(self, ledger: str) -> None:
        self.run, self.task = os.environ["HEADRACE_RUN_ID"], os.environ["HEADRACE_TASK"]
        self.book = Path(ledger, self.run, self.task.replace("/", "."))

    def __enter__(self) -> Working:
        self.book.parent.mkdir(parents=True, exist_ok=True)
        self._note("begun")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self._note("ended" if error is None else "failed")

    def failures(self) -> int:
        """How often the task has failed by its own doing."""
        return self.book.read_text(encoding="utf-8").count('"failed"')

    def _note(self, what: str) -> None:
        # The task works in a folder of its attempt.
        line = [self.task, int(Path.cwd().parent.name), what, os.getpid(), time.time()]
        descriptor = os.open(self.book, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(descriptor, (json.dumps(line) + "\n").encode())
        os.close(descriptor)


def lines(ledger: Path, run_id: str) -> list[Line]:
    """What the tasks of a run have noted."""
    books = sorted((ledger / run_id).glob("*")) if (ledger / run_id).is_dir() else []
    return [Line(*json.loads(text)) for book in books for text in book.read_text(encoding="utf-8").splitlines()]
