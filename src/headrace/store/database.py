"""One SQLite file in WAL mode. Writers take turns; readers never wait."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from headrace.errors import StorageError, UsageError

BUSY_TIMEOUT_MS = 15_000
_DISK_ERRORS = ("SQLITE_FULL", "SQLITE_IOERR")
Parameters = Sequence[Any] | Mapping[str, Any]


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
            connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            connection.row_factory = sqlite3.Row
            connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
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
            StorageError: the disk does not take it; nothing of it was written.
        """
        connection = self._connection()
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            _roll_back(connection)
            if not error.sqlite_errorname.startswith(_DISK_ERRORS):
                raise
            raise StorageError(
                f"the state could not be written: {error}",
                where=str(self.path),
                remedy="Free space on its disk, or set HEADRACE_HOME to another folder.",
            ) from error
        except BaseException:
            _roll_back(connection)
            raise

    def query(self, sql: str, parameters: Parameters = ()) -> list[sqlite3.Row]:
        """All rows of a read."""
        return self._connection().execute(sql, parameters).fetchall()

    def one(self, sql: str, parameters: Parameters = ()) -> sqlite3.Row | None:
        """The first row of a read, or None."""
        row: sqlite3.Row | None = self._connection().execute(sql, parameters).fetchone()
        return row

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
