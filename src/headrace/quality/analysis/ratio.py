"""The ratio of two rates, in words."""

from __future__ import annotations

from collections.abc import Sequence

# Ratios from 1 / MAX_RATIO to this are looked at; these ends mean that nothing beyond is excluded.
MAX_RATIO = 64.0


def times(interval: Sequence[float]) -> str:
    """An interval as in "0.8 to 1.4", "at least 2", "at most 3"; "" when nothing is excluded."""
    low, high = interval
    is_open = low <= 1 / MAX_RATIO, high >= MAX_RATIO
    if all(is_open):
        return ""
    if any(is_open):
        return f"at most {high:.3g}" if is_open[0] else f"at least {low:.3g}"
    return f"{low:.3g} to {high:.3g}"
