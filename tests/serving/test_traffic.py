import pytest

from headrace.serving.gateway.model import ArmCounts
from headrace.serving.traffic import Traffic


class Counters:
    def __init__(self):
        self.now, self.process = {}, "1"

    def counts(self):
        return dict(self.now)

    def epoch(self):
        return self.process


class Clock:
    def __init__(self):
        self.time = 0.0

    def now(self):
        return self.time


@pytest.fixture
def counters():
    return Counters()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def traffic(counters, clock):
    return Traffic(counters, clock)


def sample(traffic, counters, clock, at, requests, errors=0, buckets=None):
    clock.time, counters.now = at, {"r": ArmCounts(requests, errors, buckets or {})}
    traffic.one_pass()


def test_rates_are_differences_over_the_last_minute(traffic, counters, clock):
    assert traffic.now(["r"]) is None
    for at, requests, errors in ((0, 0, 0), (60, 60, 0), (120, 180, 6)):
        sample(traffic, counters, clock, at, requests, errors)
    figures = traffic.now(["r"])
    assert (figures.requests, figures.errors) == (2.0, 0.1)
    assert [(p.at, p.requests) for p in traffic.history(["r"])] == [(60, 1.0), (120, 2.0)]
    assert traffic.now(["other"]).requests == 0


def test_an_envoy_that_began_anew_counts_from_zero(traffic, counters, clock):
    sample(traffic, counters, clock, 0, 1000)
    counters.process = "2"
    sample(traffic, counters, clock, 10, 20)
    assert traffic.now(["r"]).requests == 2.0


def test_percentiles_are_those_of_the_last_minute(traffic, counters, clock):
    sample(traffic, counters, clock, 0, 100, buckets={10.0: 100, 20.0: 100})
    sample(traffic, counters, clock, 10, 200, buckets={10.0: 100, 20.0: 200})
    assert traffic.now(["r"]).p50 == 15.0


def test_a_histogram_that_is_filled_after_the_last_request_tells_nothing_of_now(traffic, counters, clock):
    sample(traffic, counters, clock, 0, 5)
    sample(traffic, counters, clock, 10, 5, buckets={10.0: 5})
    assert (traffic.now(["r"]).requests, traffic.now(["r"]).p50) == (0.0, None)
