"""What is judged: counts of one stretch of time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """Counts of one stretch of time: requests `n` and bad events `x` of the canary and of the stable arm.

    `at_risk` is how many could have had an event in this stretch. For requests these are the requests themselves
    (None). For users they are those who were seen in it and were not bad before, while `n` counts each user once.

    Raises:
        ValueError: a negative count, or more events than could be.
    """

    canary_n: int
    canary_x: int
    stable_n: int
    stable_x: int
    canary_at_risk: int | None = None
    stable_at_risk: int | None = None

    def __post_init__(self) -> None:
        canary, stable = self.at_risk
        if self.canary_n < 0 or self.stable_n < 0:
            raise ValueError(f"a window counts no fewer than 0 requests: {self}")
        if not (0 <= self.canary_x <= canary and 0 <= self.stable_x <= stable):
            raise ValueError(f"a window counts from 0 bad events to as many as could be: {self}")

    @property
    def at_risk(self) -> tuple[int, int]:
        """How many could have had an event, on the canary and on the stable arm."""
        return (
            self.canary_n if self.canary_at_risk is None else self.canary_at_risk,
            self.stable_n if self.stable_at_risk is None else self.stable_at_risk,
        )
