import pytest

from headrace.serving import latency


def test_quantiles_are_linear_within_a_bucket():
    assert latency.quantile({}, 0.5) is None
    assert latency.quantile({10.0: 0, 20.0: 0}, 0.5) is None
    assert latency.quantile({10.0: 50, 20.0: 100}, 0.25) == 5.0
    assert latency.quantile({10.0: 50, 20.0: 100}, 0.99) == pytest.approx(19.8)
    assert latency.quantile({10.0: 0, 20.0: 100}, 0.5) == 15.0, "the lower edge counts also where nothing was below it"
    assert latency.quantile({10.0: 50, float("inf"): 100}, 0.99) == 10.0


def test_what_came_since_is_the_difference_bucket_by_bucket():
    assert latency.since({10.0: 5, 20.0: 9}, {10.0: 2, 20.0: 3}) == {10.0: 3, 20.0: 6}
    assert latency.since({10.0: 5, 20.0: 9}, {}) == {10.0: 5, 20.0: 9}


def test_a_histogram_that_holds_less_than_before_began_anew():
    assert latency.since({10.0: 1, 20.0: 4}, {10.0: 2, 20.0: 3}) == {10.0: 1, 20.0: 4}
