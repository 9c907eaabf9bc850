import pytest

from headrace.contracts.rollout import Metric
from headrace.quality.analysis.judge import compared
from headrace.quality.analysis.ratio import times


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        ((0.8, 1.4), "0.8 to 1.4"),
        ((0.394, 12.345), "0.394 to 12.3"),
        ((1.042, 64.0), "at least 1.04"),
        ((1 / 64, 2.33), "at most 2.33"),
        ((1 / 64, 64.0), ""),
    ],
)
def test_an_interval_in_words(interval, words):
    assert times(interval) == words


@pytest.mark.parametrize(
    ("metric", "unit", "interval", "words"),
    [
        (Metric("errors"), "requests", (0.8, 1.4), "the new revision's error rate is 0.8 to 1.4 times the old one's"),
        (
            Metric("errors"), "users", (2.0, 64.0),
            "the new revision's share of users who saw a failure is at least 2 times the old one's",
        ),
        (
            Metric("latency", threshold_ms=100), "requests", (1 / 64, 1.5),
            "the new revision's share of requests over 100 ms is at most 1.5 times the old one's",
        ),
        (
            Metric("latency", threshold_ms=100), "users", (0.5, 1.5),
            "the new revision's share of users who waited over 100 ms is 0.5 to 1.5 times the old one's",
        ),
        (
            Metric("labels"), "requests", (1 / 64, 64.0),
            "the counts do not tell how the new revision's share of wrong predictions compares with the old one's",
        ),
        (
            Metric("labels"), "users", (2.0, 64.0),
            "the new revision's share of users who were told wrong is at least 2 times the old one's",
        ),
    ],
)  # fmt: skip
def test_the_two_rates_in_a_sentence(metric, unit, interval, words):
    assert compared(metric, interval, unit) == words
