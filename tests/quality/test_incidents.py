"""What hits both arms rolls nothing back: incidents, ramps of traffic, changes of weights, warm-up of a new fleet."""

import numpy as np
import pytest

from headrace.contracts.rollout import Analysis, Metric
from headrace.contracts.verdict import Outcome
from headrace.quality.analysis.evidence import Evidence
from headrace.quality.analysis.judge import judge
from headrace.quality.analysis.window import Window

ALPHA = 0.05
METRICS = tuple(Metric(name, min_effect=0.0, threshold_ms=100) for name in ("errors", "latency", "labels"))
ANALYSIS = Analysis(alpha=ALPHA, metrics=METRICS)
SECONDS = 40


def _steady(second, value):
    return value


def _incident(second, value):
    return 0.6 if 10 <= second < 16 else value


def _ramp(second, value):
    return value * 30 if second >= 20 else value


def _warming(second, value):
    return max(value, 0.5 * 0.8**second)


def _flapping(second, value):
    return 0.9 if second % 7 == 3 else value


def _split(source, requests, weight, rate):
    canary = int(source.binomial(requests, weight))
    return Window(
        canary, int(source.binomial(canary, rate)), requests - canary, int(source.binomial(requests - canary, rate))
    )


def _stepped(second):
    return (0.05, 0.25, 0.5, 1.0)[second // 10]


def _down_and_up(second):
    return (0.5, 0.0, 0.05, 0.9)[second % 4]


def _rolled_back(source, rates, traffic, weight):
    evidence = {metric.name: Evidence() for metric in METRICS}
    for second in range(SECONDS):
        requests = int(source.poisson(traffic(second, 60)))
        for name, rate in (("errors", 0.01), ("latency", 0.05), ("labels", 0.1)):
            evidence[name] = evidence[name].plus(
                _split(source, requests, weight(second), min(1.0, rates(second, rate)))
            )
        if judge(ANALYSIS, evidence, next_weight=100).outcome is Outcome.FAILED:
            return True
    return False


def _at_most(rate, runs):
    return runs * rate + 3 * (runs * rate * (1 - rate)) ** 0.5


@pytest.mark.parametrize("weight", [_stepped, _down_and_up])
@pytest.mark.parametrize(
    ("rates", "traffic"),
    [(_incident, _steady), (_flapping, _steady), (_steady, _ramp), (_incident, _ramp), (_warming, _ramp)],
    ids=["incident", "flapping", "ramp of traffic", "incident and ramp", "both arms warm up"],
)
def test_what_hits_both_arms_rolls_back_at_most_as_often_as_alpha_says(rates, traffic, weight):
    source = np.random.default_rng(40)
    runs = 80
    assert sum(_rolled_back(source, rates, traffic, weight) for _ in range(runs)) <= _at_most(ALPHA, runs)


def test_an_incident_that_starts_in_the_window_of_a_change_of_weight_is_the_exception_that_short_windows_keep_small():
    """Half a window at 5 %, the other half at 50 % and failing: its share is neither. One such second is not enough."""
    source = np.random.default_rng(41)
    runs, rolled_back = 200, 0
    for _ in range(runs):
        before, after = _split(source, 30, 0.05, 0.0), _split(source, 30, 0.5, 0.3)
        both = Window(
            before.canary_n + after.canary_n, before.canary_x + after.canary_x,
            before.stable_n + after.stable_n, before.stable_x + after.stable_x,
        )  # fmt: skip
        windows = [_split(source, 60, 0.05, 0.01) for _ in range(20)] + [both]
        windows += [_split(source, 60, 0.5, 0.3) for _ in range(20)]
        rolled_back += any(
            judge(ANALYSIS, {"errors": windows[:look]}, next_weight=100).outcome is Outcome.FAILED
            for look in (20, 21, 25, 41)
        )
    assert rolled_back <= _at_most(ALPHA, runs)


def test_a_canary_that_is_worse_during_an_incident_is_still_found():
    source = np.random.default_rng(42)
    found = 0
    for _ in range(30):
        evidence = Evidence()
        for second in range(SECONDS):
            base = _incident(second, 0.01)
            canary = int(source.binomial(60, 0.25))
            evidence = evidence.plus(
                Window(
                    canary, int(source.binomial(canary, min(1.0, base + 0.15))),
                    60 - canary, int(source.binomial(60 - canary, base)),
                )
            )  # fmt: skip
        analysis = Analysis(metrics=(Metric("errors"),))
        found += judge(analysis, {"errors": evidence}, next_weight=100).outcome is Outcome.FAILED
    assert found >= 27
