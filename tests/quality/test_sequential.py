import numpy as np
import pytest

from headrace.contracts.rollout import Analysis, Metric
from headrace.contracts.verdict import Outcome
from headrace.quality.analysis.judge import judge
from headrace.quality.analysis.sequential import e_value, rate_interval, ratio_interval
from headrace.quality.analysis.window import Window

ALPHA = 0.05
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
