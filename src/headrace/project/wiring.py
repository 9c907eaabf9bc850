"""Build the platform that an environment names: the only place that knows which parts fit together."""

from __future__ import annotations

from headrace.store.database import Database
from headrace.store.home import Home
from headrace.store.migrations import migrate

# Each package owns its tables; the order is that of the floors.
PACKAGES = ("headrace.store", "headrace.governance", "headrace.runs", "headrace.serving", "headrace.control")


def open_database(home: Home) -> Database:
    """The database of a home, made or brought up to date when it has to be.

    Raises:
        UsageError: the home cannot be written, or belongs to another version.
    """
    home.create()
    database = Database(home.database)
    migrate(database, PACKAGES)
    return database
