"""Whether a revision predicts as at first, from a real payload log."""

import pytest

from headrace.clock import rfc3339
from headrace.contracts.verdict import Outcome
from headrace.control.monitoring import drift
from headrace.control.monitoring.drift import Drifts
from headrace.serving import payload_log


class SetClock:
    time = 1000.0

    def now(self):
        return self.time


@pytest.fixture
def log(home):
    """Writes predictions, one a second."""
    connection = payload_log._open(payload_log.path(home, "delay"))
    count = iter(range(100_000))

    def write(*outputs, revision="delay-00001"):
        with connection:
            connection.executemany(
                "INSERT INTO prediction (id, revision, output, at) VALUES (?, ?, ?, ?)",
                [
                    (f"id-{number}", revision, output, float(number))
                    for output, number in zip(outputs, count, strict=False)
                ],
            )

    yield write
    connection.close()


@pytest.fixture
def drifts(home):
    return Drifts(home, SetClock())


def test_the_newest_predictions_are_compared_with_the_first_ones(log, drifts):
    assert drifts.of("delay", "delay-00001").verdict.outcome is Outcome.INCONCLUSIVE
    log(*["0", "0", "0", "1"] * 100)
    log(*["1"] * 500, revision="delay-00002")
    drifts.clock.time += drift.LOOK_SECONDS
    found = drifts.of("delay", "delay-00001")
    assert found.verdict.outcome is Outcome.PASSED
    assert (found.verdict.evidence["reference"], found.verdict.evidence["current"]) == (200, 200)
    assert (found.reference_until, found.current_since) == (rfc3339(199.0), rfc3339(200.0))
    log(*["1", "1", "1", "0"] * 100)
    assert drifts.of("delay", "delay-00001") is found  # it is not looked at again at once
    drifts.clock.time += drift.LOOK_SECONDS
    moved = drifts.of("delay", "delay-00001")
    assert moved.verdict.outcome is Outcome.FAILED
    assert moved.verdict.evidence["reference"] == 400


def test_the_first_ones_stay_the_first_ones(log, drifts, monkeypatch):
    monkeypatch.setattr(drift, "SAMPLE", 300)
    log(*["0", "0", "0", "1"] * 150)
    log(*["0", "0", "0", "1"] * 300)
    first = drifts.of("delay", "delay-00001")
    log(*["0", "1"] * 300)
    drifts.clock.time += drift.LOOK_SECONDS
    later = drifts.of("delay", "delay-00001")
    assert (first.verdict.outcome, later.verdict.outcome) == (Outcome.PASSED, Outcome.FAILED)
    assert later.reference_until == first.reference_until
    assert later.verdict.evidence["bins"] == [
        {"name": "0", "reference": 0.75, "current": 0.5}, {"name": "1", "reference": 0.25, "current": 0.5},
    ]  # fmt: skip


def test_answers_of_several_values_are_left_out(home, log, drifts):
    log("[0, 1]", '{"a": 1}', '"late"', "null", "1.5", "true")
    found = payload_log.predictions(home, "delay", "delay-00001", limit=10)
    assert [one.value for one in found] == ["late", None, 1.5, True]
    assert [one.value for one in payload_log.predictions(home, "delay", "delay-00001", limit=2, newest=True)] == [
        1.5,
        True,
    ]
    assert payload_log.predictions(home, "delay", "delay-00001", limit=10, since=4.0)[0].value == 1.5
    assert payload_log.predictions(home, "nothing", "delay-00001", limit=10) == []
