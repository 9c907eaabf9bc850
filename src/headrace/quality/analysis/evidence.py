"""What windows of counts say about the ratio of the two rates, summed up so that one more window costs little.

Of the `x` bad events in a window, each is on the canary with probability q(r) = s r / (s r + 1 - s), where s is the
canary's share of those that could have had one and r the ratio of the rates. Against r = 1, all windows together
have the log likelihood ratio

    l(r) = X log r - sum over windows of x log(1 + s (r - 1)),

where X counts the events on the canary. The sum is kept for a fixed grid of ratios. l is concave in log r.

Sums are made window by window in the order given, so that the same windows give the same floats, at once or one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from headrace.quality.analysis.ratio import MAX_RATIO
from headrace.quality.analysis.window import Window

Floats = NDArray[np.float64]

STEPS = 192
# From 1 / MAX_RATIO to MAX_RATIO; the middle one is 1 exactly.
RATIOS: Floats = np.geomspace(1.0, MAX_RATIO, STEPS + 1)
RATIOS = np.concatenate([1 / RATIOS[:0:-1], RATIOS])
LOG_RATIOS: Floats = np.log(RATIOS)
_GROWTH: Floats = RATIOS - 1
_AT_ONCE = 1024


def _nothing() -> Floats:
    return np.zeros_like(RATIOS)


@dataclass(frozen=True, eq=False)
class Evidence:
    """Windows, summed up.

    `canary_n`, `canary_x`, `stable_n`, `stable_x` are totals. The rest is of the windows that say something about r:
    `telling_x` is X, `spread` the sum in l(r) for each of RATIOS, `canary_part` and `stable_part` are the two sums of
    Mantel and Haenszel (1959), whose quotient estimates r with base rates that differ between windows.
    """

    canary_n: int = 0
    canary_x: int = 0
    stable_n: int = 0
    stable_x: int = 0
    telling_x: int = 0
    canary_part: float = 0.0
    stable_part: float = 0.0
    spread: Floats = field(default_factory=_nothing)

    @classmethod
    def of(cls, counted: Counted) -> Evidence:
        """The evidence in windows; evidence stays as it is."""
        return counted if isinstance(counted, Evidence) else cls().plus(*counted)

    def plus(self, *windows: Window) -> Evidence:
        """With more windows. One in which an arm had nobody, or nothing bad happened, says nothing about r."""
        telling_x, canary_part, stable_part = self.telling_x, self.canary_part, self.stable_part
        spread = self.spread
        shares: list[float] = []
        events: list[float] = []
        for window in windows:
            canary, stable = window.at_risk
            if canary > 0 and stable > 0 and window.canary_x + window.stable_x > 0:
                share = canary / (canary + stable)
                shares.append(share)
                events.append(float(window.canary_x + window.stable_x))
                telling_x += window.canary_x
                canary_part += window.canary_x * (1 - share)
                stable_part += window.stable_x * share
        for start in range(0, len(shares), _AT_ONCE):
            share_column = np.array(shares[start : start + _AT_ONCE])[:, None]
            rows = np.log1p(share_column * _GROWTH) * np.array(events[start : start + _AT_ONCE])[:, None]
            rows[0] += spread
            spread = np.add.reduce(rows, axis=0)
        return Evidence(
            self.canary_n + sum(w.canary_n for w in windows),
            self.canary_x + sum(w.canary_x for w in windows),
            self.stable_n + sum(w.stable_n for w in windows),
            self.stable_x + sum(w.stable_x for w in windows),
            telling_x,
            canary_part,
            stable_part,
            spread,
        )

    @property
    def ratio(self) -> float | None:
        """The estimate of r by Mantel and Haenszel; None while nothing bad has happened on the stable arm."""
        return self.canary_part / self.stable_part if self.stable_part else None

    @property
    def log_likelihood(self) -> Floats:
        """l(r) for each of RATIOS."""
        likelihood: Floats = self.telling_x * LOG_RATIOS - self.spread
        return likelihood


Counted: TypeAlias = Sequence[Window] | Evidence
