"""Sequential tests that stay valid however often one looks.

The count e-process. Of all bad events in a window, each is on the canary with probability

    q(r) = s r / (s r + 1 - s),

where s is the canary's observed share of the window's requests and r the ratio of the two rates. Base rates drop
out, so an incident that hits both arms, a ramp of traffic and a change of weights leave q alone. A mixture of
likelihood ratios over r > 1 against r = 1 is a supermartingale under the null; by Ville's inequality it exceeds
1 / alpha with probability at most alpha, at any time.

Sources: Lindon and Malek, "Anytime-valid inference for multinomial count data", NeurIPS 2022 (arXiv 2011.03567);
Turner, Ly and Grünwald, "Generic e-variables and exact sequential k-sample tests" (arXiv 2106.02693); for single
rates the beta-binomial mixture of Robbins (1970).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from headrace.quality.analysis.window import Window

MAX_RATIO = 64.0
_GRID = 48
_BISECTIONS = 60


def e_value(windows: Sequence[Window]) -> float:
    """Evidence that the canary's rate is higher than the stable one's; 1 is none, 1 / alpha is enough."""
    ratios = np.geomspace(1.0, MAX_RATIO, _GRID + 1)[1:]
    evidence = _log_likelihood(windows, ratios) - _log_likelihood(windows, np.ones(1))
    return float(np.exp(_log_mean_exp(evidence)))


def ratio_interval(windows: Sequence[Window], alpha: float) -> tuple[float, float]:
    """The ratios of rates that the evidence does not exclude, at every look with probability 1 - alpha.

    A confidence sequence: r stays in while the two-sided mixture against it is below 1 / alpha. Within
    [1 / MAX_RATIO, MAX_RATIO]; the whole range when there is no evidence.
    """
    grid = np.geomspace(1 / MAX_RATIO, MAX_RATIO, 8 * _GRID + 1)
    likelihood = _log_likelihood(windows, grid)
    kept = grid[_log_mean_exp(likelihood) - likelihood < math.log(1 / alpha)]
    return float(kept.min()), float(kept.max())


def rate_interval(n: int, x: int, alpha: float) -> tuple[float, float]:
    """The rates p that `x` events in `n` requests do not exclude, at every look with probability 1 - alpha.

    p stays in while the uniform mixture of binomials against it, B(x + 1, n - x + 1) / (p^x (1 - p)^(n - x)), is
    below 1 / alpha.
    """
    if n == 0:
        return 0.0, 1.0
    mixture = math.lgamma(x + 1) + math.lgamma(n - x + 1) - math.lgamma(n + 2)
    best = x / n

    def excluded(p: float) -> bool:
        likelihood = (x * math.log(p) if x else 0.0) + ((n - x) * math.log1p(-p) if x < n else 0.0)
        return mixture - likelihood >= math.log(1 / alpha)

    low = 0.0 if x == 0 else _edge(excluded, outside=0.0, inside=best)
    high = 1.0 if x == n else _edge(excluded, outside=1.0, inside=best)
    return low, high


def _edge(excluded: Callable[[float], bool], *, outside: float, inside: float) -> float:
    for _ in range(_BISECTIONS):
        middle = (outside + inside) / 2
        if 0.0 < middle < 1.0 and excluded(middle):
            outside = middle
        else:
            inside = middle
    return outside


def _log_likelihood(windows: Sequence[Window], ratios: NDArray[np.float64]) -> NDArray[np.float64]:
    """The log-likelihood of where the events fell, for each ratio; a window without requests on an arm says nothing."""
    telling = [w for w in windows if w.canary_n > 0 and w.stable_n > 0 and w.canary_x + w.stable_x > 0]
    if not telling:
        return np.zeros_like(ratios)
    share = np.array([w.canary_n / (w.canary_n + w.stable_n) for w in telling])[:, None]
    on_canary = np.array([w.canary_x for w in telling], dtype=float)[:, None]
    on_stable = np.array([w.stable_x for w in telling], dtype=float)[:, None]
    odds = share * ratios
    total = odds + 1 - share
    result: NDArray[np.float64] = (on_canary * np.log(odds / total) + on_stable * np.log((1 - share) / total)).sum(
        axis=0
    )
    return result


def _log_mean_exp(values: NDArray[np.float64]) -> float:
    top = float(values.max())
    return top + math.log(float(np.exp(values - top).mean()))
