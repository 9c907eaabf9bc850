import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.contracts.rollout import Analysis, Metric
from headrace.contracts.verdict import Outcome
from headrace.quality.analysis.evidence import Evidence
from headrace.quality.analysis.judge import judge
from headrace.quality.analysis.sequential import e_value, rate_interval, ratio_interval
from headrace.quality.analysis.window import Window

ALPHA = 0.05
COUNTS = st.integers(0, 2000)
PHASES = [0.05] * 15 + [0.25] * 10 + [0.5] * 10


def _second(source, weight, canary_rate, stable_rate, requests=60):
    canary = int(source.binomial(requests, weight))
    stable = requests - canary
    return Window(canary, int(source.binomial(canary, canary_rate)), stable, int(source.binomial(stable, stable_rate)))


def _at_most(rate, runs):
    """The most runs that may show what happens with this rate: three standard deviations above it."""
    return runs * rate + 3 * (runs * rate * (1 - rate)) ** 0.5


@pytest.mark.parametrize("incident", [False, True], ids=["quiet", "incident on both arms"])
def test_looking_every_second_rolls_a_healthy_revision_back_at_most_as_often_as_alpha(incident):
    source = np.random.default_rng(20131101)
    runs, rolled_back = 300, 0
    for _ in range(runs):
        windows = []
        for second, weight in enumerate(PHASES):
            rate = 0.4 if incident and 10 <= second < 20 else 0.03
            windows.append(_second(source, weight, rate, rate))
            if e_value(windows) >= 1 / ALPHA:
                rolled_back += 1
                break
    assert rolled_back <= _at_most(ALPHA, runs)


def test_three_metrics_share_alpha_between_them():
    source = np.random.default_rng(7)
    analysis = Analysis(
        alpha=ALPHA,
        metrics=tuple(Metric(name, min_effect=0.0, threshold_ms=100) for name in ("errors", "latency", "labels")),
    )
    runs, rolled_back = 120, 0
    for _ in range(runs):
        windows = {metric.name: [] for metric in analysis.metrics}
        for weight in PHASES[::4]:
            for metric in analysis.metrics:
                windows[metric.name].append(_second(source, weight, 0.1, 0.1, requests=200))
            if judge(analysis, windows, next_weight=50).outcome is Outcome.FAILED:
                rolled_back += 1
                break
    assert rolled_back <= _at_most(ALPHA, runs)


def test_a_revision_that_fails_three_times_as_often_is_found():
    source = np.random.default_rng(3)
    found = 0
    for _ in range(60):
        windows = [_second(source, weight, 0.15, 0.05) for weight in PHASES]
        found += e_value(windows) >= 1 / ALPHA
    assert found >= 55


def test_the_truth_stays_inside_the_intervals_at_every_look():
    source = np.random.default_rng(5)
    runs, lost = 60, {"rate": 0, "ratio": 0}
    for _ in range(runs):
        windows, outside = [], set()
        for weight in PHASES[::3]:
            windows.append(_second(source, weight, 0.1, 0.05, requests=200))
            n, x = sum(w.canary_n for w in windows), sum(w.canary_x for w in windows)
            low, high = rate_interval(n, x, ALPHA)
            if not low <= 0.1 <= high:
                outside.add("rate")
            low, high = ratio_interval(windows, ALPHA)
            if not low <= 2 <= high:
                outside.add("ratio")
        for name in outside:
            lost[name] += 1
    assert max(lost.values()) <= _at_most(ALPHA, runs)


@pytest.mark.parametrize("true_ratio", [0.5, 1.0, 1.5, 4.0])
def test_each_end_of_an_interval_is_ever_wrong_at_most_half_as_often_as_alpha_says(true_ratio):
    """Also while an incident multiplies the rates of both arms, and with rates so high that counts are not Poisson."""
    source = np.random.default_rng(1810)
    runs, lost = 200, dict.fromkeys(("ratio low", "ratio high", "rate low", "rate high"), 0)
    for _ in range(runs):
        evidence, outside, expected = Evidence(), set(), 0.0
        for second, weight in enumerate(PHASES[::2]):
            base = 0.22 if 5 <= second < 9 else 0.05
            window = _second(source, weight, base * true_ratio, base, requests=300)
            evidence, expected = evidence.plus(window), expected + base * true_ratio * window.canary_n
            low, high = ratio_interval(evidence, ALPHA)
            outside |= {"ratio low"} if low > true_ratio else {"ratio high"} if high < true_ratio else set()
            low, high = rate_interval(evidence.canary_n, evidence.canary_x, ALPHA)
            mean = expected / max(evidence.canary_n, 1)
            outside |= {"rate low"} if low > mean else {"rate high"} if high < mean else set()
        for name in outside:
            lost[name] += 1
    assert max(lost.values()) <= _at_most(ALPHA / 2, runs)


@pytest.mark.parametrize("rate", [0.001, 0.5, 0.97, 1.0])
@pytest.mark.parametrize("better", [1.0, 0.8])
def test_rates_near_zero_and_one_and_better_revisions_are_no_exception(rate, better):
    source = np.random.default_rng(99)
    runs, rolled_back = 200, 0
    for _ in range(runs):
        evidence = Evidence()
        for weight in [0.0, 0.05, 0.05, 0.5, 0.2, 0.9, 1.0, 0.1] * 4:
            evidence = evidence.plus(_second(source, weight, rate * better, rate, requests=400))
            if e_value(evidence) >= 1 / ALPHA:
                rolled_back += 1
                break
    assert rolled_back <= _at_most(ALPHA, runs)


def test_requests_that_fail_together_are_no_exception_when_a_coin_sends_each_to_its_arm():
    """Bursts: all requests of a moment fail, on both arms. Nothing is independent but the coins."""
    source = np.random.default_rng(17)
    runs, rolled_back = 200, 0
    for _ in range(runs):
        evidence = Evidence()
        for _ in range(60):
            burst = int(source.integers(0, 80)) if source.random() < 0.3 else 0
            quiet = int(source.integers(0, 120))
            canary_burst, canary_quiet = int(source.binomial(burst, 0.1)), int(source.binomial(quiet, 0.1))
            canary, stable = canary_burst + canary_quiet, burst + quiet - canary_burst - canary_quiet
            evidence = evidence.plus(Window(canary, canary_burst, stable, burst - canary_burst))
            if e_value(evidence) >= 1 / ALPHA:
                rolled_back += 1
                break
    assert rolled_back <= _at_most(ALPHA, runs)


@pytest.mark.parametrize(
    "window",
    [
        Window(10**8, 10**8, 10**8, 0),
        Window(10**8, 0, 10**8, 10**8),
        Window(10**8, 10**8, 10**8, 10**8),
        Window(1, 1, 10**8, 0),
        Window(10**8, 0, 1, 0),
    ],
)
def test_huge_counts_and_all_bad_give_finite_numbers(window):
    numbers = [
        e_value([window]),
        *ratio_interval([window], ALPHA),
        *rate_interval(window.canary_n, window.canary_x, ALPHA),
    ]
    assert all(math.isfinite(number) and number >= 0 for number in numbers)
    assert json.loads(json.dumps(numbers)) == numbers


def test_a_ratio_between_two_points_of_the_grid_is_not_lost_with_huge_counts():
    # 1.01 lies between 1 and 1.0219.
    low, high = ratio_interval([Window(10**8, 1_010_000, 10**8, 1_000_000)], ALPHA)
    assert low <= 1.01 <= high
    assert high / low < 1.07


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.floats(0.001, 0.5))
@settings(deadline=None)
def test_more_confidence_makes_wider_intervals_and_the_rate_lies_inside(n, x, alpha):
    x = min(n, x)
    low, high = rate_interval(n, x, alpha)
    wider_low, wider_high = rate_interval(n, x, alpha / 10)
    assert 0 <= wider_low <= low <= (x / n if n else 0.0) * (1 + 1e-12)
    assert (x / n if n else 1.0) * (1 - 1e-12) <= high <= wider_high <= 1


@given(st.lists(st.tuples(COUNTS, COUNTS, COUNTS, COUNTS), max_size=5))
@settings(deadline=None)
def test_arms_that_change_places_turn_the_interval_of_the_ratio_over(rows):
    windows = [Window(a, min(a, b), c, min(c, d)) for a, b, c, d in rows]
    low, high = ratio_interval(windows, ALPHA)
    swapped = [Window(w.stable_n, w.stable_x, w.canary_n, w.canary_x) for w in windows]
    other_low, other_high = ratio_interval(swapped, ALPHA)
    assert (1 / other_high, 1 / other_low) == pytest.approx((low, high), rel=0.05)


def test_evidence_does_not_depend_on_the_order_or_on_windows_of_one_arm():
    windows = [Window(10, 1, 190, 3), Window(20, 4, 180, 5), Window(5, 0, 195, 9)]
    assert e_value(windows) == pytest.approx(e_value(windows[::-1]))
    assert e_value([*windows, Window(0, 0, 100, 50), Window(100, 50, 0, 0)]) == e_value(windows)
    assert e_value([]) == 1.0


@pytest.mark.parametrize(("n", "x"), [(0, 0), (10, 0), (10, 10), (1_000_000, 3)])
def test_the_interval_of_a_rate_stays_within_zero_and_one(n, x):
    low, high = rate_interval(n, x, ALPHA)
    assert 0.0 <= low < high <= 1.0
    assert (low == 0.0) == (x == 0)
    assert (high == 1.0) == (x == n)
