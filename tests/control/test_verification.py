"""Every verdict that moved a rollout can be computed again from what is stored."""

import json

import pytest

from headrace.control.rollouts import rows
from headrace.control.rollouts.verification import verify
from headrace.errors import NotFoundError

GOOD = {"canary": (400, 2), "stable": (800, 4)}
BAD = {"canary": (40, 8), "stable": (760, 0)}


@pytest.fixture
def judged(stage):
    """A rollout that was carried to its end by counts that are no round numbers."""
    rollout = stage.canary(metrics="{name: errors, weight: 2}, {name: latency, threshold: 100ms}")
    for i in range(3):
        stage.traffic.serve("delay-00002", 137 + i, bad=1, slow=3)
        stage.traffic.serve("delay-00001", 911 + i, bad=7, slow=11)
        stage.step(1)
    for _ in range(6):
        stage.window(**GOOD)
    assert stage.row(rollout).state == "Healthy"
    return rollout


def test_the_stored_windows_give_every_verdict_again(stage, judged):
    found = verify(stage.database, judged)
    assert [one["outcome"] for one in found] == ["passed", "passed"]
    assert all(one["same"] for one in found)


def test_sums_that_are_kept_and_sums_that_are_made_anew_are_the_same_to_the_last_bit(stage):
    rollout = stage.canary()
    for i in range(40):
        stage.window((137 + i, i % 3), (911 + i, 2 + i % 5))
    kept = stage.controller.summed.of(stage.row(rollout))
    stage.revive()
    anew = stage.controller.summed.of(stage.row(rollout))
    assert kept is not anew
    assert (kept["errors"].canary_part, kept["errors"].stable_part) == (
        anew["errors"].canary_part, anew["errors"].stable_part,
    )  # fmt: skip
    assert kept["errors"].spread.tobytes() == anew["errors"].spread.tobytes()
    assert kept["errors"].canary_n == stage.totals(rollout).canary[0] > 0
    assert all(one["same"] for one in verify(stage.database, rollout))


def test_a_failed_verdict_is_given_again(stage):
    rollout = stage.canary()
    stage.window(**BAD)
    (found,) = verify(stage.database, rollout)
    assert (found["outcome"], found["kind"], found["same"]) == ("failed", "analysis", True)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE rollout_window SET canary_x = canary_x + 1 WHERE number = 1 AND metric = 'errors'",
        "DELETE FROM rollout_window WHERE number = 2",
        "UPDATE rollout_verdict SET outcome = 'failed'",
        "UPDATE rollout_verdict SET summary = summary || '.'",
    ],
)
def test_what_was_changed_afterwards_is_found(stage, judged, change):
    with stage.database.transaction() as connection:
        assert connection.execute(change).rowcount
    assert not all(one["same"] for one in verify(stage.database, judged))


def test_a_number_that_differs_in_its_last_bit_is_found(stage, judged):
    row = stage.database.one("SELECT evidence FROM rollout_verdict WHERE rollout_id = ? AND number = 1", (judged,))
    evidence = json.loads(row["evidence"])
    part = evidence["metrics"][0]
    part["worst_case_harm"] = part["worst_case_harm"] * (1 + 2**-52)
    with stage.database.transaction() as connection:
        connection.execute(
            "UPDATE rollout_verdict SET evidence = ? WHERE rollout_id = ? AND number = 1",
            (json.dumps(evidence), judged),
        )
    assert [one["same"] for one in verify(stage.database, judged)] == [False, True]


def test_a_rollout_without_verdicts_has_none_to_compute(stage):
    rollout = stage.request()
    assert verify(stage.database, rollout) == []
    with pytest.raises(NotFoundError):
        verify(stage.database, "nope")
    assert rows.active(stage.database)
