import json
import math
import os
import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.quality.analysis.evidence import RATIOS, Evidence
from headrace.quality.analysis.window import Window

FIELDS = ("canary_n", "canary_x", "stable_n", "stable_x", "telling_x", "canary_part", "stable_part")


@st.composite
def windows(draw, most=10**8):
    canary, stable = draw(st.integers(0, most)), draw(st.integers(0, most))
    return Window(canary, draw(st.integers(0, canary)), stable, draw(st.integers(0, stable)))


def _same(first, second):
    return all(getattr(first, name) == getattr(second, name) for name in FIELDS) and bool(
        (first.spread == second.spread).all()
    )


@given(st.lists(windows(), max_size=30), st.integers(0, 30))
@settings(deadline=None)
def test_windows_one_by_one_give_the_same_floats_as_at_once(found, cut):
    one_by_one = Evidence()
    for window in found:
        one_by_one = one_by_one.plus(window)
    assert _same(one_by_one, Evidence.of(found))
    assert _same(Evidence.of(found[:cut]).plus(*found[cut:]), Evidence.of(found))


def test_a_rollout_of_thousands_of_windows_is_the_same_summed_up_in_any_portions():
    source = random.Random(1)
    found = [Window(n, source.randint(0, n), 900, source.randint(0, 9)) for n in source.choices(range(200), k=3000)]
    whole = Evidence.of(found)
    in_portions = Evidence()
    for start in range(0, 3000, 700):
        in_portions = in_portions.plus(*found[start : start + 700])
    assert _same(whole, in_portions)


@given(st.lists(windows(1000), min_size=1, max_size=5))
@settings(deadline=None)
def test_the_log_likelihood_is_that_of_where_the_events_fell(found):
    likelihood = Evidence.of(found).log_likelihood
    for index in (0, 100, 192, 250, 384):
        r, expected = float(RATIOS[index]), 0.0
        for w in found:
            if w.canary_n and w.stable_n:
                s = w.canary_n / (w.canary_n + w.stable_n)
                q = s * r / (s * r + 1 - s)
                expected += w.canary_x * math.log(q / s) + w.stable_x * math.log((1 - q) / (1 - s))
        assert likelihood[index] == pytest.approx(expected, rel=1e-9, abs=1e-6)
    assert likelihood[192] == 0.0


def test_a_window_with_one_arm_counts_and_says_nothing_about_the_ratio():
    evidence = Evidence.of([Window(0, 0, 100, 50), Window(70, 30, 0, 0)])
    assert (evidence.canary_n, evidence.canary_x, evidence.stable_n, evidence.stable_x) == (70, 30, 100, 50)
    assert not evidence.log_likelihood.any()


@pytest.mark.parametrize(
    "counts", [(-1, 0, 5, 0), (5, 6, 5, 0), (5, 0, 5, -1), (5, 0, 0, 1), (0, 2, 9, 0, 1, 9), (-1, 0, 9, 0, 1, 9)]
)
def test_counts_that_cannot_be_are_refused(counts):
    with pytest.raises(ValueError, match="a window counts"):
        Window(*counts)


PROGRAM = """
import json, random
from headrace.contracts.rollout import Analysis, Metric
from headrace.quality.analysis.judge import judge
from headrace.quality.analysis.window import Window
source = random.Random(42)
windows = []
for _ in range(1500):
    n, m = source.randint(0, 300), source.randint(0, 3000)
    windows.append(Window(n, source.randint(0, n // 10), m, source.randint(0, m // 10)))
metrics = (Metric("errors", weight=2), Metric("labels"))
verdict = judge(Analysis(metrics=metrics), {"errors": windows, "labels": windows[::3]}, next_weight=50)
print(json.dumps(verdict.to_dict()))
"""


def test_another_process_says_the_same_to_the_last_bit():
    told = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": threads},
        ).stdout
        for seed, threads in (("0", "1"), ("12345", "2"))
    ]  # fmt: skip
    assert told[0] == told[1]
    assert [metric["name"] for metric in json.loads(told[0])["evidence"]["metrics"]] == ["errors", "labels"]


def test_the_grid_of_ratios_is_symmetric_around_one():
    assert RATIOS[192] == 1.0
    assert np.allclose(RATIOS * RATIOS[::-1], 1.0)
    assert (np.diff(RATIOS) > 0).all()
