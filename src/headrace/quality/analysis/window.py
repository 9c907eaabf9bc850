"""What is judged: counts of one stretch of time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """Counts of one stretch of time: requests `n` and bad events `x` of the canary and of the stable arm."""

    canary_n: int
    canary_x: int
    stable_n: int
    stable_x: int
