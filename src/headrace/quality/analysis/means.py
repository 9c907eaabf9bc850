"""The difference of two means, with an interval that stays valid however often one looks.

For an A/B test of a business metric (revenue, minutes, clicks a visit), where nobody is rolled back within seconds.

Source: Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, "Time-uniform central limit theory and asymptotic confidence
sequences", 2021 (arXiv 2103.06476): Theorem 2.2 for the width, appendix B.2 for where it is narrowest.
"""

from __future__ import annotations

import math

# Below this many on an arm the normal approximation is not trusted, and nothing is said.
LEAST = 100
# At about so many, both arms together, the interval is narrowest for its alpha.
NARROWEST_AT = 5000


def difference_interval(
    n_a: int, sum_a: float, sumsq_a: float, n_b: int, sum_b: float, sumsq_b: float, alpha: float
) -> tuple[float, float]:
    """The differences mean(a) - mean(b) that the evidence does not exclude, at every look with probability 1 - alpha.

    `n`, `sum` and `sumsq` are the number of values of an arm, their sum and the sum of their squares; subtract the
    same number from all values first when they are large and differ little. The whole range while an arm has fewer
    than LEAST values, or values that are all the same.

    It is asymptotic: the probability holds as LEAST grows, soon for values of a bounded range, later where a few
    large ones make the sum. Values are independent, a user's is one, and the arms' shares stay as they are.

    Raises:
        ValueError: counts or sums that no values can have, or alpha outside 0 to 1.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie between 0 and 1, not {alpha}")
    variance_a, variance_b = _variance(n_a, sum_a, sumsq_a), _variance(n_b, sum_b, sumsq_b)
    if variance_a <= 0 or variance_b <= 0:
        return -math.inf, math.inf
    n = n_a + n_b
    growth = n * _rho_squared(alpha)
    # n times the variance of the difference is the paper's sigma squared for the difference of two randomised arms.
    variance = variance_a / n_a + variance_b / n_b
    width = math.sqrt(variance * (growth + 1) / growth * math.log((growth + 1) / alpha**2))
    difference = sum_a / n_a - sum_b / n_b
    return difference - width, difference + width


def _rho_squared(alpha: float) -> float:
    cost = -2 * math.log(alpha)
    return (cost + math.log(cost + 1)) / NARROWEST_AT


def _variance(n: int, total: float, squares: float) -> float:
    """The sample's variance; 0 where there is too little, or where it drowns in the rounding of the sums."""
    if n < 0 or not (math.isfinite(total) and math.isfinite(squares)) or squares < 0:
        raise ValueError(f"no {n} values have the sum {total} and the sum of squares {squares}")
    if n < LEAST:
        return 0.0
    rest = squares - total * total / n
    if rest < -1e-9 * squares:
        raise ValueError(f"no {n} values have the sum {total} and the sum of squares {squares}")
    return rest / (n - 1) if rest > 1e-12 * squares else 0.0
