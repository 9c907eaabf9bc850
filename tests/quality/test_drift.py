"""The stability of predictions: a distance with the properties of one, and a verdict that chance does not make."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.contracts.verdict import Outcome
from headrace.quality.drift import psi
from headrace.quality.drift.psi import judge

VALUES = st.lists(st.sampled_from(["a", "b", "c", None, True, 1.5]), min_size=psi.FEWEST, max_size=400)


@given(VALUES, VALUES)
def test_it_is_never_negative_and_the_same_both_ways_for_samples_of_one_size(one, other):
    size = min(len(one), len(other))
    there, back = judge(one[:size], other[:size]), judge(other[:size], one[:size])
    assert there.evidence["psi"] >= 0
    assert math.isclose(there.evidence["psi"], back.evidence["psi"], abs_tol=1e-9)
    assert judge(one, one).evidence["psi"] == pytest.approx(0)
    assert judge(one, one).outcome is Outcome.PASSED


def test_it_is_the_sum_that_the_field_computes():
    verdict = judge(["late"] * 200 + ["ontime"] * 800, ["late"] * 400 + ["ontime"] * 600)
    p, q = 200.5 / 1001, 400.5 / 1001
    wanted = (q - p) * math.log(q / p) + (p - q) * math.log((1 - q) / (1 - p))
    assert verdict.evidence["psi"] == pytest.approx(wanted)
    assert (verdict.outcome, verdict.summary) == (
        Outcome.FAILED,
        f"somewhat different from the first ones (PSI {wanted:.2f})",
    )
    assert verdict.evidence["bins"] == [
        {"name": "ontime", "reference": 0.8, "current": 0.6}, {"name": "late", "reference": 0.2, "current": 0.4},
    ]  # fmt: skip


def test_few_predictions_say_nothing():
    verdict = judge(["a"] * 500, ["b"] * 199)
    assert (verdict.outcome, verdict.summary) == (Outcome.INCONCLUSIVE, "199 predictions on a side; 200 are needed")
    assert judge([], []).outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("size", [200, 1000])
@pytest.mark.parametrize("classes", [2, 5, 20])
def test_chance_reaches_the_limit_at_most_once_in_hundreds(size, classes):
    random = np.random.default_rng(classes)
    shares = random.dirichlet(np.full(classes, 5.0))
    names = [f"class {number}" for number in range(classes)]
    found = [
        judge(random.choice(names, size, p=shares).tolist(), random.choice(names, size, p=shares).tolist()).outcome
        for _ in range(300)
    ]
    assert found.count(Outcome.FAILED) <= 3


def test_numbers_are_compared_by_the_tenths_of_the_first_ones():
    random = np.random.default_rng(1)
    first = random.normal(10, 2, 2000).tolist()
    assert judge(first, random.normal(10, 2, 2000).tolist()).outcome is Outcome.PASSED
    shifted = judge(first, random.normal(12, 2, 2000).tolist())
    assert shifted.outcome is Outcome.FAILED
    assert shifted.summary.startswith("much different")
    bins = shifted.evidence["bins"]
    assert len(bins) == 10
    assert [one["reference"] for one in bins] == pytest.approx([0.1] * 10, abs=0.001)
    assert bins[0]["name"].startswith("to ")
    assert bins[-1]["current"] > 0.3


def test_of_many_classes_the_seldom_ones_are_one_bin():
    first = [f"c{number % 50}" for number in range(5000)]
    bins = judge(first, first).evidence["bins"]
    assert len(bins) == psi.MOST_BINS
    assert bins[-1] == {"name": psi.OTHERS, "reference": 31 / 50, "current": 31 / 50}


def test_a_class_that_was_never_seen_counts():
    verdict = judge(["a"] * 1000, ["a"] * 900 + ["b"] * 100)
    assert verdict.outcome is Outcome.FAILED
