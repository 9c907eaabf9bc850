"""What was predicted, by prediction id, and the labels that come later.

One SQLite file a service, apart from the main database: predictions are many and may be dropped when old.
"""

from __future__ import annotations

import json
import queue
import sqlite3
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.store.database import connect
from headrace.store.home import Home

FLUSH_SECONDS = 0.25
KEPT_PREDICTIONS = 1_000_000
_TRIM_EVERY = 10_000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS prediction (
    id TEXT PRIMARY KEY, revision TEXT NOT NULL, output TEXT NOT NULL, at REAL NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS prediction_by_time ON prediction (at);
CREATE TABLE IF NOT EXISTS label (id TEXT PRIMARY KEY, value TEXT NOT NULL, at REAL NOT NULL) STRICT;
"""


@dataclass(frozen=True)
class LabelCounts:
    """Predictions of one revision whose label has come, and how many of them were wrong."""

    labelled: int
    wrong: int


def path(home: Home, service: str) -> Path:
    """The log of a service."""
    return home.payloads / f"{service}.db"


class PayloadWriter:
    """Writes predictions behind the requests' backs: a thread takes them in batches, four times a second."""

    def __init__(self, file: Path, revision: str) -> None:
        self._file = file
        self._revision = revision
        self._queue: queue.SimpleQueue[tuple[str, Any, float] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="payload-log", daemon=True)
        self._thread.start()

    def add(self, prediction_id: str, output: Any) -> None:
        """Note a prediction; returns at once."""
        self._queue.put((prediction_id, output, time.time()))

    def close(self) -> None:
        """Write what is left."""
        self._queue.put(None)
        self._thread.join(timeout=10)

    def _write(self) -> None:
        with closing(_open(self._file)) as connection:
            written, done = 0, False
            while not done:
                time.sleep(FLUSH_SECONDS)
                batch, done = self._drain()
                if batch:
                    _insert(connection, self._revision, batch)
                    written += len(batch)
                if written >= _TRIM_EVERY:
                    _trim(connection)
                    written = 0

    def _drain(self) -> tuple[list[tuple[str, Any, float]], bool]:
        batch: list[tuple[str, Any, float]] = []
        while True:
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return batch, False
            if item is None:
                return batch, True
            batch.append(item)


def record_labels(home: Home, service: str, labels: Sequence[tuple[str, Any]], at: float) -> int:
    """Store labels by prediction id; how many of those predictions are known by now. The first label of an id stays."""
    with closing(_open(path(home, service))) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            "INSERT INTO label (id, value, at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            [(prediction_id, _text(value), at) for prediction_id, value in labels],
        )
        known = sum(
            connection.execute("SELECT 1 FROM prediction WHERE id = ?", (prediction_id,)).fetchone() is not None
            for prediction_id, _ in labels
        )
        connection.execute("COMMIT")
    return known


def label_counts(home: Home, service: str, since: float = 0.0) -> dict[str, LabelCounts]:
    """Labelled and wrong predictions of each revision, of predictions made at or after `since` (unix seconds)."""
    file = path(home, service)
    if not file.exists():
        return {}
    with closing(_open(file)) as connection:
        rows = connection.execute(
            "SELECT p.revision, count(*) AS labelled, sum(p.output != l.value) AS wrong"
            " FROM prediction p JOIN label l ON l.id = p.id WHERE p.at >= ? GROUP BY p.revision",
            (since,),
        ).fetchall()
    return {row["revision"]: LabelCounts(row["labelled"], row["wrong"]) for row in rows}


def _open(file: Path) -> sqlite3.Connection:
    connection = connect(file)
    connection.executescript(_SCHEMA)
    return connection


def _insert(connection: sqlite3.Connection, revision: str, batch: list[tuple[str, Any, float]]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(
        "INSERT INTO prediction (id, revision, output, at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        [(prediction_id, revision, _text(output), at) for prediction_id, output, at in batch],
    )
    connection.execute("COMMIT")


def _trim(connection: sqlite3.Connection) -> None:
    connection.execute(
        "DELETE FROM prediction WHERE at < (SELECT min(at) FROM (SELECT at FROM prediction ORDER BY at DESC LIMIT ?))",
        (KEPT_PREDICTIONS,),
    )
    connection.execute("DELETE FROM label WHERE at < (SELECT min(at) FROM prediction)")


def _text(value: Any) -> str:
    """A value as JSON, for comparing. JSON knows one kind of number, so 1.0 is 1; what is no JSON becomes text."""
    return json.dumps(_plain(value), default=str)


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
