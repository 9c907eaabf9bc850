"""Evidence from shadow traffic, where both revisions answer the same requests.

Only pairs that disagree about being bad tell the revisions apart (McNemar 1947): of those, a revision that is no
worse has at most half. That is the count test with a share of 1/2: Turner, Ly and Grünwald, "Generic e-variables and
exact sequential k-sample tests" (arXiv 2106.02693). A single rate is tested against the tolerated one by a mixture of
likelihood ratios (Robbins 1970; Howard et al., arXiv 1808.03204).
"""

from __future__ import annotations

import math

import numpy as np

from headrace.quality.analysis import sequential
from headrace.quality.analysis.evidence import Floats
from headrace.quality.analysis.window import Window

# Odds of a bad event over the tolerated odds, with equal steps in their logarithm.
_TIMES: Floats = np.geomspace(1.0, 4096.0, 97)[1:]


def e_value(only_canary: int, only_stable: int) -> float:
    """Evidence that the canary is bad more often than the stable revision on the same requests; 1 / alpha is enough.

    `only_canary` pairs were bad on the canary alone, `only_stable` on the stable revision alone. Exact, whatever
    the requests are like: nothing is assumed of pairs that agree.

    Raises:
        ValueError: a negative count.
    """
    pairs = only_canary + only_stable
    return sequential.e_value([Window(pairs, only_canary, pairs, only_stable)])


def rate_e_value(n: int, x: int, tolerated: float) -> float:
    """Evidence that `x` events in `n` requests come from a rate above `tolerated`; 1 / alpha is enough.

    For shadow answers that differ from the stable ones. The rate may change over time: the null is that its mean
    over the requests so far never lies above `tolerated`. With 0 tolerated, one event is all the evidence there can be.

    Raises:
        ValueError: x outside 0 to n, or `tolerated` outside 0 to 1.
    """
    if not 0 <= x <= n:
        raise ValueError(f"{x} events in {n} requests cannot be")
    if not 0 <= tolerated < 1:
        raise ValueError(f"the tolerated rate must lie from 0 to below 1, not {tolerated}")
    if tolerated == 0.0:
        return sequential.MOST_EVIDENCE if x else 1.0
    ratios = x * np.log(_TIMES) - n * np.log1p(tolerated * (_TIMES - 1))
    return sequential.from_log(sequential.log_sum_exp(ratios) - math.log(_TIMES.size))
