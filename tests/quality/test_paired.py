import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.quality.analysis.paired import e_value, rate_e_value

ALPHA = 0.05


def _at_most(rate, runs):
    return runs * rate + 3 * (runs * rate * (1 - rate)) ** 0.5


def _ever(found):
    return any(value >= 1 / ALPHA for value in found)


@pytest.mark.parametrize("share", [0.5, 0.4])
def test_a_revision_that_is_no_worse_on_the_same_requests_is_found_guilty_at_most_as_often_as_alpha_says(share):
    source = np.random.default_rng(1947)
    runs = 300
    worse = np.cumsum(source.random((runs, 150)) < share, axis=1)
    guilty = sum(_ever(e_value(int(x), n + 1 - int(x)) for n, x in enumerate(row)) for row in worse)
    assert guilty <= _at_most(ALPHA, runs)


def test_one_that_has_four_of_five_disagreements_is_found():
    source = np.random.default_rng(3)
    worse = np.cumsum(source.random((60, 60)) < 0.8, axis=1)
    assert sum(_ever(e_value(int(x), n + 1 - int(x)) for n, x in enumerate(row)) for row in worse) >= 55


@pytest.mark.parametrize("tolerated", [0.001, 0.02, 0.5])
def test_a_tolerated_rate_is_refused_at_most_as_often_as_alpha_says_also_when_it_swings(tolerated):
    source = np.random.default_rng(1970)
    runs, guilty = 300, 0
    for _ in range(runs):
        # Never above the tolerated mean so far: a quiet time comes before each busy one.
        rates = np.tile([0.5 * tolerated, 1.5 * tolerated], 40)
        events = np.cumsum(source.binomial(50, rates))
        guilty += _ever(rate_e_value(50 * (look + 1), int(x), tolerated) for look, x in enumerate(events))
    assert guilty <= _at_most(ALPHA, runs)


def test_a_rate_of_three_times_the_tolerated_is_found():
    source = np.random.default_rng(8)
    events = np.cumsum(source.binomial(50, 0.06, (60, 40)), axis=1)
    found = sum(_ever(rate_e_value(50 * (look + 1), int(x), 0.02) for look, x in enumerate(row)) for row in events)
    assert found >= 57


def test_nothing_is_no_evidence_and_a_tolerated_rate_of_zero_tolerates_nothing():
    assert e_value(0, 0) == pytest.approx(1.0)
    assert rate_e_value(0, 0, 0.02) == pytest.approx(1.0)
    assert rate_e_value(1000, 0, 0.0) == 1.0
    assert rate_e_value(1000, 1, 0.0) > 1e100


@given(st.integers(0, 10**8), st.integers(0, 10**8))
@settings(deadline=None)
def test_one_more_bad_answer_of_the_canary_is_more_evidence_and_one_of_the_stable_less(only_canary, only_stable):
    here = e_value(only_canary, only_stable)
    assert e_value(only_canary + 1, only_stable) >= here * (1 - 1e-6)
    assert e_value(only_canary, only_stable + 1) <= here * (1 + 1e-6)


@given(st.integers(0, 10**8), st.floats(1e-6, 0.999))
@settings(deadline=None)
def test_the_evidence_of_a_rate_is_finite_and_grows_with_the_events(n, tolerated):
    values = [rate_e_value(n, x, tolerated) for x in (0, n // 100, n // 2, n)]
    assert all(0 <= value <= 1e300 for value in values)
    assert values == sorted(values)


@pytest.mark.parametrize("arguments", [(10, 11, 0.1), (10, -1, 0.1), (10, 1, 1.0), (10, 1, -0.1)])
def test_what_cannot_be_is_refused(arguments):
    with pytest.raises(ValueError, match=r"cannot be|must lie"):
        rate_e_value(*arguments)
    with pytest.raises(ValueError, match="a window counts"):
        e_value(-1, 3)
