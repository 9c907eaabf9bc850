"""What tasks print, while they print it: one reader behind the command line and the HTTP interface."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from headrace.runs import queries
from headrace.store.database import Database
from headrace.store.home import Home

_ENDED = ("SUCCEEDED", "FAILED", "CANCELED")
_PIECE_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Piece:
    """Something that an attempt of a task has printed."""

    task_id: str
    attempt: int
    text: str


class LogReader:
    """Reads on where it stopped. `task` is a task's path or its last part; without it, every task of the run.

    stdout and stderr come in the order in which they were written, because they are one file.
    """

    def __init__(self, database: Database, home: Home, run_id: str, task: str | None = None) -> None:
        """Raises NotFoundError: no such run, or no such task in it."""
        self.database = database
        self.home = home
        self.run_id = str(queries.find(database, run_id)["id"])
        self.task = task
        if task is not None:
            queries.require_task(database, self.run_id, task)
        self._more = False
        self._current = ("", 0)
        self._at_line_start = True
        self._places: dict[Path, tuple[int, codecs.IncrementalDecoder]] = {}

    def read(self) -> tuple[list[Piece], bool]:
        """What is new since the last call, in the order of the attempts' starts, and whether nothing more will come.

        Nothing comes while a run waits for a person, either, so that is an end, too.
        """
        # First the state, then the logs: what was written before the end is read after it.
        ended = self._ended()
        self._more = False
        attempts = queries.attempts(self.database, self.home, self.run_id, self.task, missing_ok=True)
        read = [(path, number, self._new(log, ended=ended)) for path, number, log in attempts]
        return [Piece(path, number, text) for path, number, text in read if text], ended and not self._more

    def titled(self, pieces: Sequence[Piece]) -> Iterator[tuple[bool, str]]:
        """The pieces' texts, each with whether it is a title: one stands wherever another attempt goes on."""
        for piece in pieces:
            if (piece.task_id, piece.attempt) != self._current:
                start = "" if self._at_line_start else "\n"
                yield True, f"{start}── {piece.task_id} (attempt {piece.attempt})\n"
                self._current = (piece.task_id, piece.attempt)
            yield False, piece.text
            self._at_line_start = piece.text.endswith("\n")

    def _ended(self) -> bool:
        if queries.find(self.database, self.run_id)["state"] in (*_ENDED, "PAUSED"):
            return True
        if self.task is None:
            return False
        states = queries.task_states(self.database, self.run_id, self.task)
        return bool(states) and all(state in _ENDED for state in states)

    def _new(self, log: Path, *, ended: bool) -> str:
        place, decoder = self._places.get(log) or (0, codecs.getincrementaldecoder("utf-8")("replace"))
        try:
            data = b"" if log.stat().st_size == place else _read(log, place)
        except FileNotFoundError:
            return ""
        self._places[log] = (place + len(data), decoder)
        full = len(data) == _PIECE_BYTES
        self._more |= full
        return decoder.decode(data, final=ended and not full)


def _read(log: Path, place: int) -> bytes:
    with log.open("rb") as stream:
        stream.seek(place)
        return stream.read(_PIECE_BYTES)
