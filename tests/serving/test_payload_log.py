import sqlite3
import time
from contextlib import closing

import pytest

from headrace.serving import payload_log
from headrace.serving.payload_log import LabelCounts, PayloadWriter, label_counts, label_counts_by_user, record_labels


@pytest.fixture
def predict(home):
    """Writes predictions of one revision of the service `delay` to the disk."""

    def write(revision, **outputs):
        writer = PayloadWriter(payload_log.path(home, "delay"), revision)
        for prediction_id, output in outputs.items():
            writer.add(prediction_id, output)
        writer.close()

    return write


def test_late_labels_join_by_id_and_are_counted_per_revision(home, predict):
    predict("delay-00001", a=1, b=0, c=1)
    predict("delay-00002", d=0, e=0)
    assert record_labels(home, "delay", [("a", 1), ("b", 1), ("d", 0), ("e", 1)], at=10.0) == 4
    assert label_counts(home, "delay") == {"delay-00001": LabelCounts(2, 1), "delay-00002": LabelCounts(2, 1)}


def test_the_first_label_of_an_id_stays(home, predict):
    predict("delay-00001", a=1)
    record_labels(home, "delay", [("a", 1)], at=10.0)
    assert record_labels(home, "delay", [("a", 0), ("a", 0)], at=11.0) == 2
    assert label_counts(home, "delay") == {"delay-00001": LabelCounts(1, 0)}


def test_a_label_of_an_unknown_id_is_kept_until_its_prediction_is_written(home, predict):
    assert record_labels(home, "delay", [("a", 0)], at=10.0) == 0
    assert label_counts(home, "delay") == {}
    predict("delay-00001", a=1)
    assert label_counts(home, "delay") == {"delay-00001": LabelCounts(1, 1)}


def test_the_first_prediction_of_an_id_stays(home, predict):
    predict("delay-00001", a=1)
    predict("delay-00002", a=0)
    record_labels(home, "delay", [("a", 1)], at=10.0)
    assert label_counts(home, "delay") == {"delay-00001": LabelCounts(1, 0)}


def test_only_predictions_since_a_moment_are_counted(home, predict):
    predict("delay-00001", a=1)
    between = time.time()
    predict("delay-00001", b=1)
    record_labels(home, "delay", [("a", 1), ("b", 0)], at=between)
    assert label_counts(home, "delay", since=between) == {"delay-00001": LabelCounts(1, 1)}
    assert label_counts(home, "delay", since=time.time() + 60) == {}
    assert label_counts(home, "delay", newest=1) == {"delay-00001": LabelCounts(1, 1)}


def test_a_user_counts_once_with_the_label_that_came_first(home):
    file = payload_log.path(home, "delay")
    for revision, predictions in (
        ("delay-00001", [("a", 0, "ann"), ("b", 0, "ann"), ("c", 1, "joe"), ("d", 1, ""), ("e", 0, "")]),
        ("delay-00002", [("f", 0, "ann"), ("g", 0, "zoe")]),
    ):
        writer = PayloadWriter(file, revision)
        for prediction_id, output, user in predictions:
            writer.add(prediction_id, output, user=user)
        writer.close()
    record_labels(home, "delay", [("b", 1)], at=10.0)
    assert label_counts_by_user(home, "delay") == {"delay-00001": LabelCounts(1, 1)}
    # Ann was counted, on the arm and with the label that came first, and stays as she was.
    record_labels(home, "delay", [("a", 0), ("f", 0), ("c", 1), ("d", 0), ("e", 0), ("g", 1)], at=11.0)
    assert label_counts_by_user(home, "delay") == {"delay-00001": LabelCounts(4, 2), "delay-00002": LabelCounts(1, 1)}
    assert label_counts(home, "delay") == {"delay-00001": LabelCounts(5, 2), "delay-00002": LabelCounts(2, 1)}
    assert label_counts_by_user(home, "delay", since=time.time() + 60) == {}
    assert label_counts_by_user(home, "unheard-of") == {}


def test_a_user_who_was_counted_stays_though_the_clock_goes_back(home):
    for revision, prediction_id, output in (("delay-00001", "a", 0), ("delay-00002", "b", 1)):
        writer = PayloadWriter(payload_log.path(home, "delay"), revision)
        writer.add(prediction_id, output, user="ann")
        writer.close()
    record_labels(home, "delay", [("a", 1)], at=10.0)
    record_labels(home, "delay", [("b", 1)], at=9.0)
    assert label_counts_by_user(home, "delay") == {"delay-00001": LabelCounts(1, 1)}


def test_a_log_from_before_users_were_kept_is_read_and_written(home):
    file = payload_log.path(home, "delay")
    file.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(
            "CREATE TABLE prediction (id TEXT PRIMARY KEY, revision TEXT NOT NULL, output TEXT NOT NULL,"
            " at REAL NOT NULL) STRICT; INSERT INTO prediction VALUES ('old', 'delay-00001', '1', 5.0);"
        )
    record_labels(home, "delay", [("old", 1)], at=10.0)
    assert label_counts_by_user(home, "delay") == {"delay-00001": LabelCounts(1, 0)}
    writer = PayloadWriter(file, "delay-00001")
    writer.add("new", 1, user="ann")
    writer.close()
    assert [one.value for one in payload_log.predictions(home, "delay", "delay-00001", limit=9)] == [1, 1]
    with closing(sqlite3.connect(file)) as connection:
        kept = [user for (user,) in connection.execute("SELECT user FROM prediction ORDER BY at")]
    assert kept[0] == ""
    assert "ann" not in kept[1]


def test_services_have_logs_of_their_own(home, predict):
    predict("delay-00001", a=1)
    assert record_labels(home, "price", [("a", 1)], at=10.0) == 0
    assert label_counts(home, "delay") == {}
    assert label_counts(home, "unheard-of") == {}


@pytest.mark.parametrize(
    ("output", "label", "wrong"),
    [
        (1, 1.0, 0),
        (1.0, 1, 0),
        (0.5, 0.5, 0),
        (0.5, 0.25, 1),
        ("late", "late", 0),
        ("1", 1, 1),
        ([0, 1], [0.0, 1], 0),
        ([0, 1], [1, 0], 1),
        (True, True, 0),
        (None, None, 0),
    ],
)
def test_a_label_is_right_when_it_is_the_same_value(home, predict, output, label, wrong):
    predict("delay-00001", a=output)
    record_labels(home, "delay", [("a", label)], at=10.0)
    assert label_counts(home, "delay") == {"delay-00001": LabelCounts(1, wrong)}


def test_a_prediction_that_is_no_json_does_not_lose_the_others(home, predict):
    predict("delay-00001", a=1, b={1}, c=1)
    assert record_labels(home, "delay", [("a", 1), ("b", 1), ("c", 0)], at=10.0) == 3
    assert label_counts(home, "delay") == {"delay-00001": LabelCounts(3, 2)}


def test_two_servers_may_write_at_once(home):
    file = payload_log.path(home, "delay")
    writers = [PayloadWriter(file, f"delay-0000{number}") for number in (1, 2)]
    names = [[f"{number}-{i}" for i in range(200)] for number in (1, 2)]
    for pair in zip(*names, strict=True):
        for writer, name in zip(writers, pair, strict=True):
            writer.add(name, 1)
    for writer in writers:
        writer.close()
    assert record_labels(home, "delay", [(name, 1) for name in names[0] + names[1]], at=10.0) == 400
    assert {n.labelled for n in label_counts(home, "delay").values()} == {200}


def test_the_first_predictions_of_a_revision_stay_as_long_as_it_answers(home, monkeypatch):
    monkeypatch.setattr(payload_log, "KEPT_PREDICTIONS", 3)
    monkeypatch.setattr(payload_log, "FIRST_PREDICTIONS", 2)
    monkeypatch.setattr(payload_log, "_TRIM_EVERY", 5)
    clock = iter(range(1000))
    monkeypatch.setattr(payload_log.time, "time", lambda: float(next(clock)))
    for revision in ("delay-00001", "delay-00002"):
        for _ in range(2):
            writer = PayloadWriter(payload_log.path(home, "delay"), revision)
            for number in range(6):
                writer.add(f"{revision}-{number}-{next(clock)}", number)
            writer.close()
    kept = {
        name: [one.value for one in payload_log.predictions(home, "delay", name, limit=99)]
        for name in ("delay-00001", "delay-00002")
    }
    assert kept == {"delay-00001": [], "delay-00002": [0, 1, 3, 4, 5]}


def test_old_predictions_go_with_their_labels_when_there_are_too_many(home, predict, monkeypatch):
    monkeypatch.setattr(payload_log, "KEPT_PREDICTIONS", 3)
    monkeypatch.setattr(payload_log, "FIRST_PREDICTIONS", 0)
    monkeypatch.setattr(payload_log, "_TRIM_EVERY", 5)
    predict("delay-00001", old=1)
    record_labels(home, "delay", [("old", 1)], at=time.time())
    writer = PayloadWriter(payload_log.path(home, "delay"), "delay-00001")
    names = [f"p{number}" for number in range(5)]
    for name in names:
        writer.add(name, 1)
        time.sleep(0.001)  # no two at the same time
    writer.close()
    assert record_labels(home, "delay", [(name, 1) for name in ["old", *names]], at=time.time()) == 3
    assert label_counts(home, "delay") == {"delay-00001": LabelCounts(3, 0)}
