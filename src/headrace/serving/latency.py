"""How long requests took: cumulative counts by upper edge, in milliseconds, as Envoy's histograms tell them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

# An upper edge, and how many requests took at most that long.
Histogram: TypeAlias = Mapping[float, int]


def since(now: Histogram, before: Histogram) -> dict[float, int]:
    """What came after `before`. A histogram that holds less than before began anew, from zero."""
    if any(count < before.get(edge, 0) for edge, count in now.items()):
        before = {}
    return {edge: count - before.get(edge, 0) for edge, count in now.items()}


def quantile(cumulative: Histogram, share: float) -> float | None:
    """A quantile, linear within its bucket; None when nothing was counted."""
    total = max(cumulative.values(), default=0)
    if total == 0:
        return None
    wanted, low, below = share * total, 0.0, 0
    for edge in sorted(cumulative):
        count = cumulative[edge]
        if count >= wanted and count > below:
            return low + (edge - low) * (wanted - below) / (count - below) if edge != float("inf") else low
        low, below = edge, count
    return low
