import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.contracts.rollout import Analysis, Metric
from headrace.contracts.verdict import Outcome
from headrace.quality.analysis.evidence import Evidence
from headrace.quality.analysis.judge import judge
from headrace.quality.analysis.sequential import e_value
from headrace.quality.analysis.users import UserCount, user_windows
from headrace.quality.analysis.window import Window

ALPHA = 0.05


def _sticky(source, *, users=300, windows=60, bad_share=0.03, on_bad=0.5, canary_bad=0.0, weights=(0.1,), arrive=False):
    """Windows of users, and of requests, of one rollout with sticky routing: a user's place decides its arm."""
    place, bad = source.random(users), source.random(users) < bad_share
    first = source.integers(0, windows, users) if arrive else np.zeros(users, int)
    stretches, requests = [], []
    for index in range(windows):
        canary = place < weights[index * len(weights) // windows]
        n = np.where(first <= index, source.poisson(2, users), 0)
        x = source.binomial(n, np.where(bad, on_bad, np.where(canary, canary_bad, 0.0)))
        requests.append(
            Window(int(n[canary].sum()), int(x[canary].sum()), int(n[~canary].sum()), int(x[~canary].sum()))
        )
        stretches.append([UserCount(user, bool(canary[user]), bool(x[user])) for user in np.flatnonzero(n)])
    return list(user_windows(stretches)), requests


def _fails(windows):
    evidence = Evidence()
    for window in windows:
        evidence = evidence.plus(window)
        if e_value(evidence) >= 1 / ALPHA:
            return True
    return False


def _at_most(rate, runs):
    return runs * rate + 3 * (runs * rate * (1 - rate)) ** 0.5


def test_users_who_send_bad_payloads_roll_back_healthy_canaries_when_requests_count_and_not_when_users_do():
    source = np.random.default_rng(2011)
    runs = 120
    both = [_sticky(source) for _ in range(runs)]
    assert sum(_fails(users) for users, _ in both) <= _at_most(ALPHA, runs)
    # What it would be by requests: about 27 %.
    assert sum(_fails(requests) for _, requests in both) > runs * 0.15


@pytest.mark.parametrize(
    "traffic",
    [{"weights": (0.05, 0.25, 0.5)}, {"arrive": True, "on_bad": 0.1}, {"bad_share": 0.4, "on_bad": 0.05}],
    ids=["stepped weights", "users arrive later", "most events come late"],
)
def test_the_error_rate_of_users_holds(traffic):
    source = np.random.default_rng(6931)
    runs = 80
    assert sum(_fails(_sticky(source, **traffic)[0]) for _ in range(runs)) <= _at_most(ALPHA, runs)


def test_a_canary_that_fails_its_users_is_found_and_the_verdict_speaks_of_users():
    source = np.random.default_rng(4)
    analysis = Analysis(metrics=(Metric("errors", min_effect=0.05),))
    for _ in range(10):
        windows, _ = _sticky(source, canary_bad=0.02)
        verdict = judge(analysis, {"errors": windows}, next_weight=50, unit="users")
        assert verdict.outcome is Outcome.FAILED
        assert "canary users saw a failure" in verdict.summary
        assert verdict.evidence["metrics"][0]["excess"] > 0.5


def test_a_user_counts_once_on_an_arm_once_when_bad_and_not_after_that():
    first, second, third = user_windows(
        [
            [UserCount("a", True, False), UserCount("b", False, True), UserCount("c", False, False)],
            [UserCount("a", True, False), UserCount("a", True, True), UserCount("b", False, True)],
            [UserCount("a", True, True), UserCount("b", True, True), UserCount("c", True, False)],
        ]
    )
    assert first == Window(1, 0, 2, 1, canary_at_risk=1, stable_at_risk=2)
    assert second == Window(0, 1, 0, 0, canary_at_risk=1, stable_at_risk=0)
    assert third == Window(1, 0, 0, 0, canary_at_risk=1, stable_at_risk=0)


def test_a_user_on_both_arms_within_a_window_waits_for_the_next():
    found = list(user_windows([[UserCount(1, True, True), UserCount(1, False, False)], [UserCount(1, True, True)], []]))
    assert found[0] == Window(0, 0, 0, 0, 0, 0)
    assert found[1] == Window(1, 1, 0, 0, 1, 0)
    assert found[2] == Window(0, 0, 0, 0, 0, 0)


COUNTS = st.builds(UserCount, user=st.integers(0, 8), on_canary=st.booleans(), bad=st.booleans())


@given(st.lists(st.lists(COUNTS, max_size=12), max_size=8))
@settings(deadline=None)
def test_no_user_is_bad_twice_and_totals_are_users(stretches):
    windows = list(user_windows(stretches))
    users = {count.user for stretch in stretches for count in stretch}
    assert len(windows) == len(stretches)
    assert sum(w.canary_x + w.stable_x for w in windows) <= len(users)
    assert sum(w.canary_n for w in windows) <= len(users)
    assert sum(w.canary_x for w in windows) <= sum(w.canary_n for w in windows)
    assert sum(w.stable_x for w in windows) <= sum(w.stable_n for w in windows)
