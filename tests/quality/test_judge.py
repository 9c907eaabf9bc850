import json
import random

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

ANALYSIS = Analysis(alpha=0.05, metrics=(Metric("errors", min_effect=0.01, budget=0.05),))
COUNTS = st.integers(0, 200)


def _verdict(*windows, next_weight=25, min_requests=0):
    return judge(ANALYSIS, {"errors": windows}, next_weight=next_weight, min_requests=min_requests)


def _traffic(source, seconds, canary_rate, stable_rate, weight=0.05, rps=80):
    windows = []
    for _ in range(seconds):
        canary_n = sum(source.random() < weight for _ in range(rps))
        stable_n = rps - canary_n
        windows.append(
            Window(
                canary_n, sum(source.random() < canary_rate for _ in range(canary_n)),
                stable_n, sum(source.random() < stable_rate for _ in range(stable_n)),
            )
        )  # fmt: skip
    return windows


def test_no_data_is_inconclusive_and_never_failed():
    verdict = _verdict()
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.evidence["metrics"][0]["e_value"] == 1.0


@pytest.mark.parametrize("window", [Window(0, 0, 10_000, 5_000), Window(10_000, 5_000, 0, 0), Window(0, 0, 0, 0)])
def test_a_canary_or_a_stable_revision_without_requests_is_inconclusive(window):
    verdict = _verdict(*[window] * 30, next_weight=1)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.evidence["metrics"][0]["e_value"] == 1.0


def test_errors_on_the_canary_alone_fail_it_and_the_sentence_says_so():
    verdict = _verdict(Window(40, 8, 760, 0))
    assert verdict.outcome is Outcome.FAILED
    assert verdict.summary.startswith("errors: 8 of 40 canary requests failed (20.0%), 0 of 760 stable ones (0.0%)")


def test_an_incident_on_both_arms_fails_nobody():
    verdict = _verdict(*[Window(4, 2, 76, 38)] * 60)
    assert verdict.outcome is not Outcome.FAILED


def test_a_difference_below_the_smallest_that_matters_does_not_fail():
    windows = [Window(50_000, 150, 50_000, 20)]
    assert e_value(windows) > 1000
    assert _verdict(*windows).outcome is not Outcome.FAILED


def test_too_few_requests_do_not_pass():
    windows = [Window(60, 0, 1000, 0)]
    assert _verdict(*windows, next_weight=5).outcome is Outcome.PASSED
    assert _verdict(*windows, next_weight=5, min_requests=100).outcome is Outcome.INCONCLUSIVE


def test_the_next_step_sets_how_much_proof_is_needed():
    windows = [Window(60, 0, 1000, 0)]
    assert _verdict(*windows, next_weight=100).outcome is Outcome.INCONCLUSIVE


def test_healthy_revisions_are_rolled_back_at_most_as_often_as_alpha_says():
    source = random.Random(7)
    runs, failed = 300, 0
    for _ in range(runs):
        windows, rate = [], 0.05
        for _ in range(6):
            windows += _traffic(source, 5, rate, rate, weight=0.2, rps=40)
            if _verdict(*windows).outcome is Outcome.FAILED:
                failed += 1
                break
    # Three standard deviations above alpha, so that the seed does not matter.
    assert failed <= runs * 0.05 + 3 * (runs * 0.05 * 0.95) ** 0.5


def test_a_canary_that_errs_on_a_sixth_of_its_requests_is_found_within_seconds():
    source = random.Random(11)
    needed = []
    for _ in range(30):
        windows = []
        while _verdict(*windows).outcome is not Outcome.FAILED:
            windows += _traffic(source, 1, 0.16, 0.0)
        needed.append(len(windows))
    assert sorted(needed)[15] <= 8
    assert max(needed) <= 40


def test_a_worse_canary_fails_though_an_incident_at_a_small_weight_was_mostly_counted_on_the_stable_arm():
    incident = [Window(50, 25, 950, 475)] * 20
    after = [Window(500, 25, 500, 0)] * 20
    verdict = _verdict(*incident, *after)
    (metric,) = verdict.evidence["metrics"]
    assert metric["canary"]["rate"] < metric["stable"]["rate"]
    assert metric["excess"] > 0.01
    assert verdict.outcome is Outcome.FAILED


def test_an_incident_on_both_arms_does_not_hide_what_the_next_step_may_cost():
    incident = [Window(50, 25, 950, 475)] * 20
    after = [Window(500, 25, 500, 0)] * 2
    (metric,) = _verdict(*incident, *after, next_weight=100).evidence["metrics"]
    assert metric["canary"]["rate"] < metric["stable"]["rate"]
    # 50 of the canary's 2,000 requests failed because of the canary.
    assert metric["worst_case_harm"] > 0.025


def test_a_margin_beyond_the_grid_of_ratios_passes_nothing_by_itself():
    analysis = Analysis(metrics=(Metric("errors", margin=1000.0, budget=0.0),))
    assert judge(analysis, {"errors": [Window(5, 0, 95, 0)]}, next_weight=50).outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize(("canary_rate", "stable_rate"), [(0.16, 0.1), (0.045, 0.03)])
def test_a_harmful_revision_passes_at_most_as_often_as_alpha_says(canary_rate, stable_rate):
    """Its ratio is at the margin and its excess over the budget at least, so each way to pass would be wrong."""
    analysis = Analysis(alpha=0.2, metrics=(Metric("errors", min_effect=1.0, budget=0.01), Metric("labels")))
    source = np.random.default_rng(4)
    runs, passed = 200, 0
    for _ in range(runs):
        evidence = Evidence()
        for _ in range(40):
            evidence = evidence.plus(
                Window(100, int(source.binomial(100, canary_rate)), 300, int(source.binomial(300, stable_rate)))
            )
            verdict = judge(analysis, {"errors": evidence}, next_weight=100)
            if verdict.evidence["metrics"][0]["outcome"] is Outcome.PASSED:
                passed += 1
                break
    assert passed <= runs * 0.2 + 3 * (runs * 0.2 * 0.8) ** 0.5


def test_identical_arms_pass_in_the_end_with_one_canary_request_in_ten():
    verdict = _verdict(*[Window(100, 1, 900, 9)] * 300, next_weight=100)
    assert verdict.outcome is Outcome.PASSED


@given(st.lists(st.tuples(COUNTS, COUNTS, COUNTS, COUNTS), max_size=6), st.integers(0, 100))
@settings(deadline=None)
def test_evidence_summed_up_gives_the_verdict_of_the_windows_as_finite_json(rows, next_weight):
    windows = [Window(a, min(a, b), c, min(c, d)) for a, b, c, d in rows]
    told = _verdict(*windows, next_weight=next_weight).to_dict()
    summed = judge(ANALYSIS, {"errors": Evidence.of(windows)}, next_weight=next_weight).to_dict()
    assert summed == told
    assert json.loads(json.dumps(told, allow_nan=False)) == told


@given(st.lists(st.tuples(COUNTS, COUNTS, COUNTS, COUNTS), max_size=6))
@settings(deadline=None)
def test_any_counts_give_one_of_three_answers_twice_the_same(rows):
    windows = [Window(a, min(a, b), c, min(c, d)) for a, b, c, d in rows]
    first, second = _verdict(*windows), _verdict(*windows)
    assert first == second
    assert first.outcome in (Outcome.PASSED, Outcome.FAILED, Outcome.INCONCLUSIVE)


@given(st.integers(0, 500), st.integers(0, 500))
@settings(deadline=None)
def test_the_interval_of_a_rate_holds_the_rate(n, x):
    x = min(n, x)
    low, high = rate_interval(n, x, 0.05)
    assert 0 <= low <= (x / n if n else 0) <= high <= 1


def test_the_interval_of_the_ratio_narrows_around_the_truth():
    low, high = ratio_interval([Window(10_000, 400, 10_000, 200)], 0.05)
    assert 1.4 < low < 2 < high < 2.9
    assert ratio_interval([], 0.05) == pytest.approx((1 / 64, 64))
