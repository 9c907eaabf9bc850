"""Starts the runs of recurring runs when they are due, and lets deleted runs go."""

from __future__ import annotations

from collections.abc import Callable

from headrace.clock import Clock
from headrace.runs import recurring, storage
from headrace.store.database import Database
from headrace.store.home import Home

ACTOR = "trigger:recurring-run"
SECONDS = 0.3


class RecurringTrigger:
    """What is due follows from the rows, and starting a run notes it in the same transaction: passes are idempotent."""

    def __init__(self, database: Database, clock: Clock, environment: str) -> None:
        self.database = database
        self.clock = clock
        self.environment = environment

    def one_pass(self) -> float:
        """Start what is due; returns the seconds after which to look again."""
        self.start_due()
        return SECONDS

    def start_due(self) -> list[str]:
        """The ids of the runs that were due and have been started."""
        return recurring.start_due(
            self.database, environment=self.environment, actor=ACTOR, now=self.clock.now()
        )  # fmt: skip


class DeletedRuns:
    """Removes what is left of deleted runs once they have ended. Idempotent."""

    def __init__(self, database: Database, home: Home, forget: Callable[[list[str]], None]) -> None:
        self.database = database
        self.home = home
        self.forget = forget

    def one_pass(self) -> float:
        """Remove what can be removed; returns the seconds after which to look again."""
        if purged := storage.purge(self.database, self.home):
            self.forget(purged)
        return SECONDS
