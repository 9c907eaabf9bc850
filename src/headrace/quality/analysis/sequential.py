"""Sequential tests that stay valid however often one looks.

The count e-process. Of all bad events in a window, each is on the canary with probability

    q(r) = s r / (s r + 1 - s),

where s is the canary's observed share of the window's requests and r the ratio of the two rates. Base rates drop
out, so an incident that hits both arms, a ramp of traffic and a change of weights leave q alone. A mixture of
likelihood ratios over r > 1 against r = 1 is a supermartingale under every r <= 1; by Ville's inequality it ever
exceeds 1 / alpha with probability at most alpha.

Why it is one, without Poisson counts: for independent requests with n_c p_c = a and n_s p_s = b expected events and
any alternative q', E[(q'/q)^x_c ((1-q')/(1-q))^x_s] <= exp(a (q'/q - 1) + b ((1-q')/(1-q) - 1)), which is
exp(0) when a : b is q : 1 - q, and less when a is smaller. For requests that fail together, but whose arm is a coin's
choice and makes no difference, x_c is hypergeometric given x, the likelihood ratio is convex in x_c, and its mean is
at most that under the binomial (Hoeffding 1963), which is 1.

Sources: Lindon and Malek, "Anytime-valid inference for multinomial count data", NeurIPS 2022 (arXiv 2011.03567);
Turner, Ly and Grünwald, "Generic e-variables and exact sequential k-sample tests" (arXiv 2106.02693); for single
rates the line-crossing inequalities of Howard et al. (arXiv 1808.03204), joined over a set of tilts.
"""

from __future__ import annotations

import math

import numpy as np

from headrace.quality.analysis.evidence import LOG_RATIOS, RATIOS, STEPS, Counted, Evidence, Floats

# Beyond this, evidence is told as this: a float, also in JSON.
MOST_EVIDENCE = 1e300
_WORSE = slice(STEPS + 4, None, 4)
# What a ratio is before it is seen: as likely worse as better, near 1 rather than far from it.
_PRIOR: Floats = np.exp(-np.abs(LOG_RATIOS))
_LOG_PRIOR_UP_TO: Floats = np.log(np.cumsum(_PRIOR))
# Tilts for the two ends of a rate, 1 - e^t downward and e^t - 1 upward, and what each costs for its share of alpha.
_TILTS: Floats = np.arange(25, dtype=np.float64)
_LESS: Floats = 2.0 ** (-_TILTS / 2)
_LESS_COST: Floats = np.log((_TILTS + 1) * (_TILTS + 2))
_LESS_LOG: Floats = np.concatenate([[-1e200], np.log1p(-_LESS[1:])])
_MORE: Floats = 2.0 ** (12 - _TILTS)
_MORE_COST = math.log(_TILTS.size)
_MORE_LOG: Floats = np.log1p(_MORE)


def e_value(counted: Counted) -> float:
    """Evidence that the canary's rate is higher than the stable one's; 1 is none, 1 / alpha is enough.

    Equal weights on 48 ratios from 1 to MAX_RATIO with equal steps in their logarithm.
    """
    worse = Evidence.of(counted).log_likelihood[_WORSE]
    return from_log(log_sum_exp(worse) - math.log(worse.size))


def ratio_interval(counted: Counted, alpha: float) -> tuple[float, float]:
    """The ratios of rates that the evidence does not exclude: two confidence sequences.

    The true ratio is ever above the upper end with probability at most alpha / 2, and as much below the lower one.
    The ends 1 / MAX_RATIO and MAX_RATIO mean that nothing beyond is excluded; with no evidence both do.

    r is excluded as too high when the mixture over the grid's ratios up to r has 2 / alpha times its likelihood. The
    ends are those grid points outside what is kept: l is concave, so no ratio between two excluded ones is kept.
    """
    likelihood = Evidence.of(counted).log_likelihood
    limit = math.log(2 / alpha)
    low_kept = np.flatnonzero(_mixture_up_to(likelihood[::-1]) - likelihood[::-1] < limit)
    high_kept = np.flatnonzero(_mixture_up_to(likelihood) - likelihood < limit)
    last = RATIOS.size - 1
    low, high = last - min(int(low_kept[-1]) + 1, last), min(int(high_kept[-1]) + 1, last)
    return float(RATIOS[low]), float(RATIOS[high])


def rate_interval(n: int, x: int, alpha: float) -> tuple[float, float]:
    """The rates that `x` events in `n` requests do not exclude: two confidence sequences.

    The mean of the rates that the requests so far had, which may change as they like, is ever above the upper end
    with probability at most alpha / 2, and as much below the lower one.

    For a tilt t, exp(t x) / prod(1 + p_i (e^t - 1)) is a martingale, and the product is at most (1 + p (e^t - 1))^n
    with p the mean of the p_i. Each tilt bounds p in closed form, at its share of alpha; the best one is taken. The
    downward tilt that bounds best where nothing bad happened, e^t = 0, has half of alpha, the others less and less.
    """
    if n == 0:
        return 0.0, 1.0
    limit = math.log(2 / alpha)
    high = (-np.expm1((x * _LESS_LOG - limit - _LESS_COST) / n) / _LESS).min()
    low = (np.expm1((x * _MORE_LOG - limit - _MORE_COST) / n) / _MORE).max()
    return max(0.0, float(low)), min(1.0, float(high))


def from_log(log_evidence: float) -> float:
    """An e-value from its logarithm, at most MOST_EVIDENCE."""
    return min(MOST_EVIDENCE, math.exp(min(log_evidence, math.log(MOST_EVIDENCE))))


def _mixture_up_to(likelihood: Floats) -> Floats:
    """For each ratio, the logarithm of the mean likelihood of the ratios up to it, weighted by _PRIOR."""
    top = float(likelihood.max())
    # What is too small for a float lies left of the likelihood's top, where nothing is excluded.
    sums = np.maximum(np.cumsum(np.exp(likelihood - top) * _PRIOR), 1e-300)
    mixture: Floats = np.log(sums) + top - _LOG_PRIOR_UP_TO
    return mixture


def log_sum_exp(values: Floats) -> float:
    """log(sum(exp(values))), without overflow."""
    top = float(values.max())
    return top + math.log(float(np.exp(values - top).sum()))
