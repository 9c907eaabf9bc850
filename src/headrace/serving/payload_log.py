"""What was predicted, by prediction id, and the labels that come later.

One SQLite file a service, apart from the main database, joins predictions with labels: predictions are many and may be
dropped when old. Whole requests and answers, where a service's `logger` asks for them, go to Parquet files beside it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import queue
import sqlite3
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from headrace.errors import UsageError
from headrace.serving.payload_files import Payload, PayloadFiles
from headrace.store.database import connect
from headrace.store.home import Home

FLUSH_SECONDS = 0.25
KEPT_PREDICTIONS = 1_000_000
FIRST_PREDICTIONS = 2000
MAX_WAITING = 100_000
_TRIM_EVERY = 10_000
_LOG = logging.getLogger(__name__)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS prediction (
    id TEXT PRIMARY KEY, revision TEXT NOT NULL, output TEXT NOT NULL, at REAL NOT NULL,
    -- A hash of who asked, where users stay on their arm; '' elsewhere.
    user TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX IF NOT EXISTS prediction_by_time ON prediction (at);
CREATE TABLE IF NOT EXISTS label (id TEXT PRIMARY KEY, value TEXT NOT NULL, at REAL NOT NULL) STRICT;
"""


class _Item(NamedTuple):
    """`at` in unix seconds; `request` is the body as it came."""

    id: str
    output: Any
    at: float
    arm: str
    request: bytes
    user: str


@dataclass(frozen=True)
class LabelCounts:
    """Predictions of one revision whose label has come, and how many of them were wrong."""

    labelled: int
    wrong: int


@dataclass(frozen=True)
class Predicted:
    """A prediction of one value, and when it was made (unix seconds)."""

    value: float | str | bool | None
    at: float


def path(home: Home, service: str) -> Path:
    """The log of a service."""
    return home.payloads / f"{service}.db"


class PayloadWriter:
    """Writes predictions behind the requests' backs: a thread takes them in batches, four times a second.

    When it falls behind by `MAX_WAITING`, what comes is dropped and counted in `dropped`: requests never wait for it.
    """

    def __init__(self, file: Path, revision: str, payloads: PayloadFiles | None = None) -> None:
        self._file = file
        self._revision = revision
        self._payloads = payloads
        self.dropped = 0
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="payload-log", daemon=True)
        self._thread.start()

    def add(self, prediction_id: str, output: Any, *, arm: str = "", request: bytes = b"", user: str = "") -> None:
        """Note a prediction; returns at once. `arm`: what the gateway took it for; `request`: the body as it came;
        `user`: who asked, of which a hash is kept."""
        if self._queue.qsize() >= MAX_WAITING:
            self.dropped += 1
            return
        self._queue.put(_Item(prediction_id, output, time.time(), arm, request if self._payloads else b"", user))

    def close(self) -> None:
        """Write what is left."""
        self._queue.put(None)
        self._thread.join(timeout=10)

    def _write(self) -> None:
        connection: sqlite3.Connection | None = None
        written, done, problem = 0, False, ""
        while not done:
            time.sleep(FLUSH_SECONDS)
            batch, done = self._drain()
            written += len(batch)
            try:
                connection = connection or _open(self._file)
                self._store(connection, batch, trim=written >= _TRIM_EVERY, last=done)
                written, problem = written % _TRIM_EVERY, ""
            except (OSError, sqlite3.Error) as error:
                # The next batch begins anew, on a connection of its own: nothing of this one is left half done.
                _close(connection)
                connection = None
                self.dropped += len(batch)
                if str(error) != problem:
                    _LOG.warning("predictions are not logged: %s: %s", self._file, error)
                problem = str(error)
        _close(connection)

    def _store(self, connection: sqlite3.Connection, batch: list[_Item], *, trim: bool, last: bool) -> None:
        if batch:
            _insert(connection, self._revision, batch)
        if trim:
            _trim(connection)
        if self._payloads:
            for one in batch:
                self._payloads.add(Payload(one.id, self._revision, one.arm, one.at, one.request, _text(one.output)))
            self._payloads.flush(last=last)

    def _drain(self) -> tuple[list[_Item], bool]:
        batch: list[_Item] = []
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


def labels_of_parquet(content: bytes) -> list[tuple[str, Any]]:
    """The labels in a Parquet file with the columns `id` (text) and `value`.

    Raises:
        UsageError: it is none, or has other columns.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(pyarrow.BufferReader(content))
        ids, values = table.column("id").to_pylist(), table.column("value").to_pylist()
    except (pyarrow.ArrowException, KeyError, OSError, ValueError) as error:
        raise UsageError(
            f"no Parquet file with the columns id and value: {error}", where="labels",
            remedy="Write one with pandas: DataFrame({'id': ids, 'value': values}).to_parquet(…).",
        ) from error  # fmt: skip
    if not all(isinstance(one, str) for one in ids):
        raise UsageError("the column id must hold text in every row", where="labels")
    return list(zip(ids, values, strict=True))


def label_counts(
    home: Home, service: str, since: float = 0.0, until: float = math.inf, newest: int = -1
) -> dict[str, LabelCounts]:  # fmt: skip
    """Labelled and wrong predictions of each revision, of predictions made in [since, until) (unix seconds); of the
    `newest` of them, which costs the same however many are kept (-1: of all)."""
    sql = (
        "SELECT p.revision, count(*) AS labelled, sum(p.output != l.value) AS wrong FROM"
        " (SELECT id, revision, output FROM prediction WHERE at >= ? AND at < ? ORDER BY at DESC LIMIT ?) p"
        " JOIN label l ON l.id = p.id GROUP BY p.revision"
    )
    return _label_counts(home, service, sql, (since, until, newest))


def label_counts_by_user(
    home: Home, service: str, since: float = 0.0, until: float = math.inf
) -> dict[str, LabelCounts]:  # fmt: skip
    """As label_counts, of users: each with the one of its predictions whose label was stored first, so that a user who
    was counted stays as it was. A prediction of nobody in particular is a user of its own."""
    # Rows are numbered as they are stored; a clock may go back, and a writer wait for its turn.
    sql = (
        "SELECT revision, count(*) AS labelled, sum(wrong) AS wrong FROM (SELECT p.revision AS revision,"
        " p.output != l.value AS wrong, min(l.rowid) FROM prediction p JOIN label l ON l.id = p.id"
        " WHERE p.at >= ? AND p.at < ? GROUP BY CASE p.user WHEN '' THEN p.id ELSE '/' || p.user END)"
        " GROUP BY revision"
    )
    return _label_counts(home, service, sql, (since, until))


def _label_counts(home: Home, service: str, sql: str, parameters: tuple[float, ...]) -> dict[str, LabelCounts]:
    file = path(home, service)
    if not file.exists():
        return {}
    with closing(_open(file)) as connection:
        rows = connection.execute(sql, parameters).fetchall()
    return {row["revision"]: LabelCounts(row["labelled"], row["wrong"]) for row in rows}


def predictions(
    home: Home, service: str, revision: str, *, limit: int, since: float = 0.0, newest: bool = False
) -> list[Predicted]:  # fmt: skip
    """A revision's first `limit` predictions made at or after `since` (unix seconds), or its newest ones, in the order
    of time. Answers that are lists or mappings (several rows, several outputs) are left out."""
    file = path(home, service)
    if not file.exists():
        return []
    with closing(_open(file)) as connection:
        rows = connection.execute(
            "SELECT output, at FROM prediction WHERE revision = ? AND at >= ?"
            " AND substr(output, 1, 1) NOT IN ('[', '{')"
            f" ORDER BY at {'DESC' if newest else 'ASC'} LIMIT ?",
            (revision, since, limit),
        ).fetchall()
    found = [Predicted(json.loads(row["output"]), row["at"]) for row in rows]
    return found[::-1] if newest else found


def _open(file: Path) -> sqlite3.Connection:
    connection = connect(file)
    connection.executescript(_SCHEMA)
    if "user" not in {row["name"] for row in connection.execute("PRAGMA table_info(prediction)")}:
        try:
            connection.execute("ALTER TABLE prediction ADD COLUMN user TEXT NOT NULL DEFAULT ''")
        except sqlite3.OperationalError as error:
            if "duplicate column" not in str(error):  # another process has just done it
                raise
    return connection


def _close(connection: sqlite3.Connection | None) -> None:
    if connection is not None:
        connection.close()


def _insert(connection: sqlite3.Connection, revision: str, batch: list[_Item]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(
        "INSERT INTO prediction (id, revision, output, at, user) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        [(one.id, revision, _text(one.output), one.at, _hashed(one.user)) for one in batch],
    )
    connection.execute("COMMIT")


def _trim(connection: sqlite3.Connection) -> None:
    """Drop what is older than the newest `KEPT_PREDICTIONS`, but for the first ones of each revision that still
    answers: what it predicts now is compared with those."""
    cut = connection.execute(
        "SELECT min(at) AS at FROM (SELECT at FROM prediction ORDER BY at DESC LIMIT ?)", (KEPT_PREDICTIONS,)
    ).fetchone()["at"]
    connection.execute(
        "DELETE FROM prediction WHERE id IN (SELECT id FROM (SELECT id, revision,"
        " row_number() OVER (PARTITION BY revision ORDER BY at) AS place FROM prediction WHERE at < :cut)"
        " WHERE place > :first OR revision NOT IN"
        " (SELECT revision FROM (SELECT revision FROM prediction ORDER BY at DESC LIMIT :recent)))",
        {"cut": cut, "first": FIRST_PREDICTIONS, "recent": _TRIM_EVERY},
    )
    connection.execute("DELETE FROM label WHERE at < ?", (cut,))


def _hashed(user: str) -> str:
    """A user as it is kept: enough to tell two apart."""
    return hashlib.blake2b(user.encode(), digest_size=8).hexdigest() if user else ""


def _text(value: Any) -> str:
    """A value as JSON, for comparing. JSON knows one kind of number, so 1.0 is 1; what is no JSON becomes text."""
    return json.dumps(_plain(value), default=str)


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
