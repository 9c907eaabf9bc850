"""What the windows of each rollout add up to, kept from look to look: one more window costs the same at any age.

The stored windows are the truth: sums that belong to another count than the row's are made anew from them, to the same
bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from headrace.control.rollouts import rows
from headrace.control.rollouts.rows import RolloutRow
from headrace.quality.analysis.evidence import Evidence
from headrace.store.database import Database


class Summed:
    """Evidence by rollout and metric."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._kept: dict[str, tuple[float, Mapping[str, Evidence]]] = {}

    def of(self, row: RolloutRow) -> Mapping[str, Evidence]:
        """The evidence in all windows of a rollout that are stored, by metric."""
        kept = self._kept.get(row.id)
        if kept is None or kept[0] != row.counted_at:
            found = rows.windows(self.database, row.id)
            kept = row.counted_at, {name: Evidence.of(windows) for name, windows in found.items()}
            self._kept[row.id] = kept
        return kept[1]

    def keep(self, row: RolloutRow, counted_at: float, evidence: Mapping[str, Evidence]) -> None:
        """Remember what they add up to with the windows that were stored at `counted_at`."""
        self._kept[row.id] = counted_at, evidence

    def forget(self, active: Sequence[RolloutRow]) -> None:
        """Forget all others."""
        self._kept = {row.id: self._kept[row.id] for row in active if row.id in self._kept}
