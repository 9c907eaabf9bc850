"""Each package owns its tables: SQL files `migrations/NNNN_name.sql` beside its code, applied once, in order."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from headrace.errors import UsageError
from headrace.store.database import Database

_LEDGER = """
CREATE TABLE IF NOT EXISTS migration (
    package TEXT NOT NULL,
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    applied_at REAL NOT NULL,
    PRIMARY KEY (package, name)
) STRICT
"""


@dataclass(frozen=True)
class Migration:
    """One SQL file of one package."""

    package: str
    name: str
    sql: str

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def find(package: str) -> list[Migration]:
    """The migrations of a package, by name; none when it has no `migrations` folder."""
    folder = resources.files(package) / "migrations"
    if not folder.is_dir():
        return []
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    return [Migration(package, f.name, f.read_text(encoding="utf-8")) for f in files]


def migrate(database: Database, packages: Sequence[str]) -> list[Migration]:
    """Apply what is missing, all or nothing, and return it. Safe when several processes start at once.

    Raises:
        UsageError: the database was written by a newer Headrace, or an applied migration has changed since.
    """
    wanted = [migration for package in packages for migration in find(package)]
    with database.transaction() as connection:
        connection.execute(_LEDGER)
        applied = {
            (row["package"], row["name"]): row["digest"]
            for row in connection.execute("SELECT package, name, digest FROM migration")
        }
        _refuse_foreign(applied, wanted, packages, str(database.path))
        missing = [m for m in wanted if (m.package, m.name) not in applied]
        for migration in missing:
            _apply(connection, migration)
    return missing


def _refuse_foreign(
    applied: dict[tuple[str, str], str], wanted: list[Migration], packages: Sequence[str], path: str
) -> None:
    known = {(m.package, m.name): m.digest for m in wanted}
    for key, digest in applied.items():
        if key[0] in packages and known.get(key) != digest:
            raise UsageError(
                f"the database holds migration {key[0]}/{key[1]}, which this Headrace does not know in that form",
                where=path,
                remedy="Use the Headrace version that wrote it, or set HEADRACE_HOME to a new folder.",
            )


def _apply(connection: sqlite3.Connection, migration: Migration) -> None:
    # executescript() would commit the surrounding transaction, so statements run one by one.
    for statement in _statements(migration.sql):
        connection.execute(statement)
    connection.execute(
        "INSERT INTO migration (package, name, digest, applied_at) VALUES (?, ?, ?, ?)",
        (migration.package, migration.name, migration.digest, time.time()),
    )


def _statements(sql: str) -> list[str]:
    statements, current = [], ""
    for line in sql.splitlines(keepends=True):
        current += line
        if sqlite3.complete_statement(current):
            statements.append(current)
            current = ""
    if current.strip():
        statements.append(current)
    return statements
