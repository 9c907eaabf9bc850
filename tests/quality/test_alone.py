"""One revision judged by itself, against what was usual and a budget."""

import numpy as np
import pytest

from headrace.contracts.rollout import Metric
from headrace.contracts.verdict import Outcome
from headrace.quality.analysis.alone import STRETCH, judge_alone
from headrace.quality.analysis.window import Window

ERRORS = Metric("errors", budget=0.05)


def _since(n, x):
    return Window(n, x, 0, 0)


def test_evidence_of_more_than_the_usual_and_the_budget_fails():
    part = judge_alone(ERRORS, [Window(0, 0, 1000, 10), _since(100, 30)], share=0.05)
    assert part["outcome"] is Outcome.FAILED
    assert part["tolerated"] == pytest.approx(0.05 + part["stable"]["rate_interval"][1])
    assert part["e_value"] >= part["limit"] == 80


@pytest.mark.parametrize(
    "windows",
    [
        [],
        [_since(1000, 1000)],  # nothing is known of the revision before
        [Window(0, 0, 1000, 10)],
        [Window(0, 0, 1000, 10), _since(1000, 50)],  # within the budget
        [Window(0, 0, 5, 0), _since(100, 50)],  # five good answers promise little
    ],
)
def test_anything_less_fails_nobody(windows):
    assert judge_alone(ERRORS, windows, share=0.05)["outcome"] is Outcome.INCONCLUSIVE


def test_a_rise_below_the_smallest_that_matters_fails_nobody():
    windows = [Window(0, 0, 10_000, 0), *[_since(400, 60)] * 2]
    assert judge_alone(Metric("errors", budget=0.01), windows, share=0.05)["outcome"] is Outcome.FAILED
    blunt = Metric("errors", budget=0.01, min_effect=0.2)
    assert judge_alone(blunt, windows, share=0.05)["outcome"] is Outcome.INCONCLUSIVE


def test_each_stretch_begins_anew_with_a_higher_limit():
    usual, good = Window(0, 0, 1000, 0), _since(STRETCH, 0)
    part = judge_alone(ERRORS, [usual, good, good, _since(30, 20)], share=0.1)
    assert (part["stretch"], part["limit"], part["canary"]["requests"]) == (3, pytest.approx(240), 30)
    assert part["outcome"] is Outcome.FAILED


def test_a_revision_at_the_budget_is_rolled_back_no_more_often_than_promised():
    random, alpha, failed = np.random.default_rng(20261128), 0.1, 0
    runs = 200
    for _ in range(runs):
        windows = [Window(0, 0, 400, int(random.binomial(400, 0.02)))]
        for _ in range(40):
            windows.append(_since(100, int(random.binomial(100, 0.02 + ERRORS.budget))))
            if judge_alone(ERRORS, windows, share=alpha)["outcome"] is Outcome.FAILED:
                failed += 1
                break
    assert failed / runs <= alpha


def test_one_above_it_is_found():
    random = np.random.default_rng(1)
    windows = [Window(0, 0, 2000, 20)]
    while judge_alone(ERRORS, windows, share=0.05)["outcome"] is not Outcome.FAILED and len(windows) < 40:
        windows.append(_since(50, int(random.binomial(50, 0.15))))
    assert len(windows) < 40
