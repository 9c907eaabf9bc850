"""A due run starts once, whoever looks and however often."""

import threading

import pytest
from kfp import dsl

from headrace.project.wiring import open_database
from headrace.runs import recurring
from headrace.runs.pipelines import Source
from headrace.runs.schedules import Schedule
from headrace.runs.submission import RunRequest
from headrace.store import events


@dsl.component(base_image="python:3.11")
def nothing():
    pass


@dsl.pipeline(name="idle")
def idle():
    nothing()


@pytest.fixture
def request_(compiled):
    return RunRequest(display_name="idle", source=Source(compiled(idle), "idle.yaml"))


def _make(database, request_, max_concurrency=10, **schedule):
    return recurring.create(
        database, request_, Schedule(**{"interval_seconds": 60, **schedule}), max_concurrency=max_concurrency,
        enabled=True, actor="user:t", at=1000.0,
    )["recurring_run_id"]  # fmt: skip


def _start(database, now):
    return recurring.start_due(database, environment="dev", actor="trigger:t", now=now)


def test_two_that_look_at_once_start_one_run(home, database, request_):
    """As two servers would that were started by mistake, or one that was taken for dead."""
    _make(database, request_)
    barrier = threading.Barrier(4)
    started = []

    def look():
        own = open_database(home)
        barrier.wait()
        started.extend(_start(own, 1060.0))
        own.close()

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(started) == 1
    assert [row["id"] for row in database.query("SELECT id FROM run")] == started


def test_a_run_and_the_note_that_it_started_are_one_transaction(database, request_, monkeypatch):
    made = _make(database, request_)

    class Killed(BaseException):
        pass

    def dies(*_, **more):
        if more.get("kind") == "run.created":
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(events, "append", dies)
        with pytest.raises(Killed):
            _start(database, 1060.0)
    assert database.query("SELECT id FROM run") == []
    row = database.one("SELECT last_at, next_at, started FROM recurring_run WHERE id = ?", (made,))
    assert dict(row) == {"last_at": None, "next_at": 1060.0, "started": 0}
    assert len(_start(database, 1060.0)) == 1


def test_another_database_connection_goes_on_where_the_last_stopped(home, database, request_):
    _make(database, request_)
    assert len(_start(database, 1130.0)) == 1
    database.close()
    own = open_database(home)
    (run_id,) = _start(own, 1130.0)
    assert own.one("SELECT scheduled_at FROM run WHERE id = ?", (run_id,))["scheduled_at"] == 1120.0
    assert _start(own, 1130.0) == []
    own.close()


def test_one_that_is_over_costs_nothing_more(database, request_):
    made = _make(database, request_, end_at=1070.0)
    assert len(_start(database, 2000.0)) == 1
    assert database.one("SELECT next_at FROM recurring_run WHERE id = ?", (made,))["next_at"] is None
    assert _start(database, 3000.0) == []


def test_one_that_cannot_be_started_keeps_no_other_from_its_time(database, request_, monkeypatch):
    broken, sound = _make(database, request_), _make(database, request_)
    submit = recurring.submission.submit

    def faulty(database, request, occasion, **more):
        if occasion.recurring_run_id == broken:
            raise KeyError("gone")
        return submit(database, request, occasion, **more)

    monkeypatch.setattr(recurring.submission, "submit", faulty)
    (started,) = _start(database, 1060.0)
    assert database.one("SELECT recurring_run_id FROM run WHERE id = ?", (started,))[0] == sound
    row = database.one("SELECT next_at, started, error FROM recurring_run WHERE id = ?", (broken,))
    assert dict(row) == {"next_at": 1120.0, "started": 0, "error": "KeyError: 'gone'"}
