"""One SQLite file in WAL mode. Writers take turns; readers never wait."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from headrace.errors import StorageError, UsageError

BUSY_SECONDS = 15.0
_REMEDIES = {
    "SQLITE_FULL": "Free space on its disk, or set HEADRACE_HOME to another folder.",
    "SQLITE_IOERR": "Free space on its disk, or set HEADRACE_HOME to another folder.",
    "SQLITE_BUSY": "Another program keeps it locked: end what holds it, for example an open sqlite3 shell or a backup.",
}
Parameters = Sequence[Any] | Mapping[str, Any]


def connect(path: Path) -> sqlite3.Connection:
    """A connection in WAL mode, which every thread may use, and which waits for its turn to write.

    Raises:
        sqlite3.Error: the file cannot be opened, or others have kept it locked for 15 seconds.
    """
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS)
    connection.row_factory = sqlite3.Row
    try:
        _use_wal(connection)
        connection.execute("PRAGMA synchronous=NORMAL")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _use_wal(connection: sqlite3.Connection) -> None:
    """SQLite itself does not wait here: of two that open a new file at the same time, one is told that it is locked."""
    give_up = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if not error.sqlite_errorname.startswith("SQLITE_BUSY") or time.monotonic() > give_up:
                raise
            time.sleep(0.01)
        else:
            return


class Database:
    """A SQLite file that any thread and process may use at once; each thread gets a connection of its own.

    Commits survive the death of any process. `synchronous=NORMAL` leaves the file whole on power loss, too; only
    the very last commits may be missing then.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._guard = threading.Lock()

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._connect()
            self._local.connection = connection
            with self._guard:
                self._connections.append(connection)
        return connection

    def _connect(self) -> sqlite3.Connection:
        try:
            connection = connect(self.path)
            connection.execute("PRAGMA foreign_keys=ON")
        except sqlite3.Error as error:
            raise UsageError(
                f"the database cannot be opened: {error}",
                where=str(self.path),
                remedy="Check that its folder exists, can be written and has free space.",
            ) from error
        return connection

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A write transaction (BEGIN IMMEDIATE): commits, or rolls back when the block raises. Not reentrant.

        Raises:
            StorageError: the disk does not take it, or another keeps it locked; nothing of it was written.
        """
        connection = self._connection()
        with self._refusals("written"):
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                _roll_back(connection)
                raise

    def query(self, sql: str, parameters: Parameters = ()) -> list[sqlite3.Row]:
        """All rows of a read. Raises StorageError when the disk does not give them."""
        with self._refusals("read"):
            return self._connection().execute(sql, parameters).fetchall()

    def one(self, sql: str, parameters: Parameters = ()) -> sqlite3.Row | None:
        """The first row of a read, or None. Raises StorageError when the disk does not give it."""
        with self._refusals("read"):
            row: sqlite3.Row | None = self._connection().execute(sql, parameters).fetchone()
        return row

    @contextmanager
    def _refusals(self, done: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            # An extended name begins with the plain one: SQLITE_IOERR_WRITE, SQLITE_BUSY_SNAPSHOT.
            remedy = next((text for name, text in _REMEDIES.items() if error.sqlite_errorname.startswith(name)), None)
            if remedy is None:
                raise
            raise StorageError(
                f"the state could not be {done}: {error}", where=str(self.path), remedy=remedy
            ) from error

    def close(self) -> None:
        """Close the connections of all threads; the next use opens them anew."""
        with self._guard:
            for connection in self._connections:
                connection.close()
            self._connections.clear()
        self._local = threading.local()


def _roll_back(connection: sqlite3.Connection) -> None:
    """Leave no transaction behind: it would keep all others from writing. A full disk may have ended it already."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")
