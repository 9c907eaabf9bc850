import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.quality.analysis.means import LEAST, difference_interval

ALPHA = 0.05
VALUES = {
    "normal": lambda source, size: source.normal(5.0, 2.0, size),
    "clicks": lambda source, size: (source.random(size) < 0.1).astype(float),
    "revenue": lambda source, size: source.exponential(20.0, size) * (source.random(size) < 0.3),
}


def _interval(a, b, alpha=ALPHA):
    return difference_interval(a.size, a.sum(), (a**2).sum(), b.size, b.sum(), (b**2).sum(), alpha)


@pytest.mark.parametrize("share", [0.5, 0.1])
@pytest.mark.parametrize("kind", VALUES)
def test_the_true_difference_is_ever_outside_at_most_as_often_as_alpha_says(kind, share):
    source = np.random.default_rng(2103)
    runs, lost = 300, 0
    for _ in range(runs):
        size = 6000
        canary = source.random(size) < share
        values = VALUES[kind](source, size)
        values[canary] += 1.0
        for look in range(200, size + 1, 50):
            arm, seen = canary[:look], values[:look]
            low, high = _interval(seen[arm], seen[~arm])
            if not low <= 1.0 <= high:
                lost += 1
                break
    assert lost <= runs * ALPHA + 3 * (runs * ALPHA * (1 - ALPHA)) ** 0.5


def test_a_difference_of_a_third_of_a_deviation_is_found():
    source = np.random.default_rng(5)
    found = 0
    for _ in range(50):
        found += _interval(source.normal(0.33, 1, 600), source.normal(0, 1, 600))[0] > 0
    assert found >= 45


def test_the_interval_is_the_one_of_the_paper():
    """Theorem 2.2, written out for two arms of one variance and size: sigma squared is four times that variance."""
    n, alpha = 5000, 0.05
    arm = np.tile([1.0, -1.0], n // 4)
    low, high = _interval(arm, arm, alpha)
    sigma = math.sqrt(4 * arm.var(ddof=1))
    rho = math.sqrt((-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / 5000)
    t = n
    width = sigma * math.sqrt(2 * (t * rho**2 + 1) / (t * t * rho**2) * math.log(math.sqrt(t * rho**2 + 1) / alpha))
    assert (low, high) == pytest.approx((-width, width))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.empty(0), np.empty(0)),
        (np.arange(LEAST - 1.0), np.arange(1000.0)),
        (np.zeros(1000), np.arange(1000.0)),
        (np.full(1000, 1e9 + 0.1), np.arange(1000.0)),
    ],
    ids=["nothing", "too few", "all zero", "all the same and large"],
)
def test_too_little_says_nothing(a, b):
    assert _interval(a, b) == (-math.inf, math.inf)
    assert _interval(b, a) == (-math.inf, math.inf)


@pytest.mark.parametrize("arguments", [(-1, 0.0, 0.0), (200, 100.0, 1.0), (200, math.nan, 1.0), (200, 0.0, -1.0)])
def test_sums_that_no_values_have_are_refused(arguments):
    with pytest.raises(ValueError, match=r"no .* values have the sum"):
        difference_interval(*arguments, 200, 0.0, 1.0, ALPHA)


def test_alpha_is_a_probability():
    with pytest.raises(ValueError, match="between 0 and 1"):
        difference_interval(200, 0.0, 1.0, 200, 0.0, 1.0, 1.0)


@given(st.integers(0, 2**32 - 1), st.integers(0, 400), st.integers(0, 400), st.floats(-1e3, 1e3))
@settings(deadline=None)
def test_the_interval_holds_the_estimate_and_turns_with_the_arms(seed, n_a, n_b, shift):
    source = np.random.default_rng(seed)
    a, b = source.normal(shift, 1, n_a), source.normal(0, 1, n_b)
    low, high = _interval(a, b)
    assert _interval(b, a) == pytest.approx((-high, -low))
    if math.isfinite(low):
        assert low < a.mean() - b.mean() < high
