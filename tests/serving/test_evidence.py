import pytest

from headrace.serving import payload_log
from headrace.serving.evidence import Evidence, LabelSums
from headrace.serving.gateway import SHADOW
from headrace.serving.payload_log import LabelCounts, PayloadWriter


@pytest.fixture
def log(home, monkeypatch):
    """Writes predictions of a revision, made at a time: {id: output}; and labels of them: {id: value}."""

    def write(revision, outputs, labels=None, at=100.0):
        monkeypatch.setattr("headrace.serving.payload_log.time.time", lambda: at)
        writer = PayloadWriter(payload_log.path(home, "delay"), revision)
        for name, output in outputs.items():
            writer.add(name, output)
        writer.close()
        payload_log.record_labels(home, "delay", list((labels or {}).items()), at=at)

    return write


def test_labels_that_are_numbers_or_truth_values_are_summed(home, log):
    labels = {"a": True, "b": False, "c": 2, "d": 0.5, "e": "bought", "f": None, "g": [1], "h": -1}
    log("delay-00001", dict.fromkeys([*labels, "without"], 1), labels)
    assert Evidence(home).label_sums("delay", 0.0) == {"delay-00001": LabelSums(5, 3, 2.5, 6.25)}
    assert Evidence(home).label_sums("delay", 101.0) == {}
    assert Evidence(home).label_sums("price", 0.0) == {}


def test_labels_are_counted_of_predictions_made_before_a_moment(home, log):
    log("delay-00001", {"a": 1, "b": 1}, {"a": 1, "b": 0}, at=100.0)
    log("delay-00001", {"c": 1}, {"c": 0}, at=200.0)
    assert Evidence(home).label_counts("delay", 0.0) == {"delay-00001": LabelCounts(3, 2)}
    assert Evidence(home).label_counts("delay", 0.0, 200.0) == {"delay-00001": LabelCounts(2, 1)}
    assert Evidence(home).label_counts("delay", 150.0, 201.0) == {"delay-00001": LabelCounts(1, 1)}


@pytest.mark.parametrize(("tolerance", "differing"), [(0.0, 4), (0.5, 3), (10.0, 2)])
def test_the_answers_of_a_shadow_are_compared_by_request(home, log, tolerance, differing):
    log("delay-00001", {"a": 1, "b": 1.0, "c": 2.5, "d": [1, 2], "e": 7, "f": "x", "alone": 1})
    shadow = {"a": 1, "b": 1.25, "c": 5, "d": [1, 3], "e": "7", "f": "x", "other": 1}
    log("delay-00002", {name + SHADOW: output for name, output in shadow.items()})
    found = Evidence(home).disagreement("delay", "delay-00001", "delay-00002", 0.0, tolerance)
    assert found == (6, differing)
    assert Evidence(home).disagreement("delay", "delay-00001", "delay-00003", 0.0, tolerance) == (0, 0)
    assert Evidence(home).disagreement("delay", "delay-00001", "delay-00002", 101.0, tolerance) == (0, 0)


def test_a_shadows_predictions_wait_for_no_labels(home, log):
    log("delay-00001", {"a": 1}, {"a": 0})
    log("delay-00002", {"a" + SHADOW: 1})
    assert Evidence(home).label_counts("delay", 0.0) == {"delay-00001": LabelCounts(1, 1)}
