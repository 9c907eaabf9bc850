"""Tell the model registry how rollouts ended. Apart from the rollout loop, so that a slow registry holds up nobody."""

from __future__ import annotations

from headrace.clock import Clock
from headrace.control.rollouts import rows
from headrace.control.rollouts.ports import Registry
from headrace.control.rollouts.rows import RolloutRow
from headrace.errors import NotFoundError
from headrace.serving import revisions
from headrace.store.database import Database

SECONDS = 0.5


class Announcer:
    """Sets the champion after a healthy rollout and marks a version that was rolled back."""

    def __init__(self, database: Database, clock: Clock, registry: Registry) -> None:
        self.database = database
        self.clock = clock
        self.registry = registry

    def one_pass(self) -> float:
        """Tell what has not been told, oldest first; returns the seconds after which to look again."""
        untold = "registry_told = 0 AND state IN ('Healthy', 'Degraded', 'Aborted')"
        for row in rows.find(self.database, untold):
            uri = revisions.get(self.database, row.to_revision).model_uri
            kind, reason = "registry.told", ""
            try:
                self._tell(row, uri)
            except NotFoundError as error:
                # Somebody deleted the version: there is nothing to tell any more, and others wait.
                kind, reason = "registry.failed", error.problem
            with self.database.transaction() as connection:
                connection.execute("UPDATE rollout SET registry_told = 1 WHERE id = ?", (row.id,))
                about = {"model": uri, "state": row.state}
                rows.tell(connection, row, kind, self.clock.now(), reason=reason, data=about)
        return SECONDS

    def _tell(self, row: RolloutRow, uri: str) -> None:
        if row.state == "Healthy" and row.weight == 100:  # a shadow may be healthy without serving
            self.registry.promoted(uri)
        elif row.state == "Degraded":
            self.registry.rejected(uri, row.message)
