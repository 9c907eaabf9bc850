"""Changes of state that land once or not at all; trying a run again."""

import json
from functools import partial

import pytest
from kfp import dsl

from headrace.errors import ConflictError, NotFoundError
from headrace.runs import transitions
from headrace.runs.executor_input import Outputs
from headrace.runs.model import Backoff, ReadyTask
from headrace.store import events

component = partial(dsl.component, base_image="python:3.12")
TASK = ReadyTask("work", "comp-work", "work", {"n": 1}, {}, True, "", 3, Backoff(10.0, 2.0, 25.0))


@component
def note(journal: str, name: str, needs: str = "") -> str:
    from pathlib import Path

    with Path(journal).open("a") as stream:
        stream.write(f"{name}\n")
    if needs and not Path(needs).exists():
        raise FileNotFoundError(needs)
    return name


@dsl.pipeline
def chain(journal: str, needs: str) -> str:
    first = note(journal=journal, name="first")
    second = note(journal=journal, name="second", needs=needs).after(first)
    third = note(journal=journal, name="third").after(second)
    note(journal=journal, name="beside", needs=needs)
    return third.output


@pytest.fixture
def created(runner, compiled, tmp_path):
    return runner.create(
        compiled(chain), {"journal": str(tmp_path / "journal"), "needs": str(tmp_path / "needed")}, caching=False
    )


def _row(database, run_id, path="work"):
    return dict(database.one("SELECT * FROM task WHERE run_id = ? AND path = ?", (run_id, path)))


def _start(database, run_id, tmp_path):
    return transitions.start_attempt(database, run_id, TASK, cache_key="", directory=tmp_path, at=100.0)


def test_a_run_has_one_owner_and_the_next_must_know_the_last(database, created):
    assert transitions.claim(database, created, owner="a", previous=None, at=1.0)
    assert not transitions.claim(database, created, owner="b", previous=None, at=2.0)
    assert transitions.claim(database, created, owner="b", previous="a", at=3.0)
    kinds = [event.kind for event in events.read(database) if event.kind != "run.created"]
    assert kinds == ["run.started", "run.recovered"]
    assert database.one("SELECT * FROM run")["started_at"] == 1.0


def test_the_backoff_grows_to_its_limit_and_the_last_try_fails(database, created, tmp_path):
    delays = []
    for number in range(1, 5):
        assert _start(database, created, tmp_path) == number
        again = transitions.fail(database, created, TASK, f"try {number}", 200.0)
        row = _row(database, created)
        delays.append((again, row["state"], row["not_before"]))
    assert delays == [
        (True, "PENDING", 210.0), (True, "PENDING", 220.0), (True, "PENDING", 225.0), (False, "FAILED", 0.0),
    ]  # fmt: skip
    assert (row["message"], row["finished_at"], row["started_at"]) == ("try 4", 200.0, 100.0)
    kinds = [event.kind for event in events.read(database) if event.subject.endswith("/task/work")]
    assert kinds == ["task.started", "task.retried"] * 3 + ["task.started", "task.failed"]


def test_a_finished_task_is_final(database, created, tmp_path):
    _start(database, created, tmp_path)
    assert transitions.succeed(database, created, TASK, Outputs({"Output": 1}, {}), at=101.0)
    kept, told = _row(database, created), events.read(database)
    assert not transitions.succeed(database, created, TASK, Outputs({"Output": 2}, {}), at=102.0)
    assert not transitions.fail(database, created, TASK, "too late", 103.0)
    transitions.requeue_lost(database, created, "work", 104.0)
    transitions.cancel_tasks(database, created, 105.0)
    assert _row(database, created) == kept
    assert events.read(database) == told
    assert json.loads(kept["outputs"]) == {"parameters": {"Output": 1}, "artifacts": {}}


def test_a_lost_attempt_costs_no_retry(database, created, tmp_path):
    _start(database, created, tmp_path)
    transitions.requeue_lost(database, created, "work", 101.0)
    row = _row(database, created)
    assert (row["state"], row["failures"], row["attempt"]) == ("PENDING", 0, 1)
    assert _start(database, created, tmp_path) == 2


def test_a_finished_run_is_final(database, created):
    outputs = {"parameters": {}, "artifacts": {}}
    assert transitions.finish_run(database, created, "FAILED", outputs=outputs, message="no", at=1.0)
    assert not transitions.finish_run(database, created, "SUCCEEDED", outputs=outputs, message="", at=2.0)
    assert not transitions.claim(database, created, owner="a", previous=None, at=3.0)
    with pytest.raises(ConflictError, match="the run is FAILED already"):
        transitions.request_cancel(database, created, actor="user:ann", reason="", at=4.0)


def test_a_run_that_is_not_there_is_told(database):
    for change in (transitions.request_cancel, transitions.retry_run):
        with pytest.raises(NotFoundError, match="no run has the id nope"):
            change(database, "nope", actor="user:ann", reason="", at=1.0)


def test_a_retry_does_what_failed_and_what_comes_after_it(runner, created, database, tmp_path):
    journal = tmp_path / "journal"
    assert runner.drive(created).state == "FAILED"
    assert sorted(journal.read_text().split()) == ["beside", "first", "second"]

    journal.write_text("")
    (tmp_path / "needed").touch()
    tried = transitions.retry_run(database, created, actor="user:ann", reason="it is there now", at=2e9)
    result = runner.drive(created)
    assert (result.state, result.outputs, result.error) == ("SUCCEEDED", {"Output": "third"}, "")
    assert sorted(tried) == ["note-2", "note-4"]
    assert sorted(journal.read_text().split()) == ["beside", "second", "third"]
    assert {path: task["attempt"] for path, task in result.tasks.items()} == {
        "note": 1, "note-2": 2, "note-3": 1, "note-4": 2,
    }  # fmt: skip
    (told,) = events.read(database, kinds=["run.retried"])
    assert (told.actor, told.reason, sorted(told.data["tasks"])) == ("user:ann", "it is there now", sorted(tried))


def test_a_run_that_succeeded_or_goes_on_cannot_be_tried_again(runner, created, database, tmp_path):
    with pytest.raises(ConflictError, match="the run is PENDING"):
        transitions.retry_run(database, created, actor="user:ann", reason="", at=2e9)
    (tmp_path / "needed").touch()
    assert runner.drive(created).state == "SUCCEEDED"
    with pytest.raises(ConflictError, match="the run is SUCCEEDED"):
        transitions.retry_run(database, created, actor="user:ann", reason="", at=2e9)


def test_a_cancelled_run_can_be_tried_again(runner, created, database, tmp_path):
    (tmp_path / "needed").touch()
    transitions.request_cancel(database, created, actor="user:ann", reason="", at=2e9)
    assert runner.drive(created).state == "CANCELED"
    transitions.retry_run(database, created, actor="user:ann", reason="", at=2e9)
    assert runner.drive(created).state == "SUCCEEDED"


@component
def fickle(counter: str, fails: int):
    from pathlib import Path

    with Path(counter).open("a") as stream:
        stream.write("x")
    if len(Path(counter).read_text()) <= fails:
        raise OSError("not yet")


@dsl.container_component
def ask():
    return dsl.ContainerSpec(image="kfp://human-input", args=['{"question": "Go on?"}'])


@dsl.pipeline
def shaky(journal: str, counter: str):
    first = note(journal=journal, name="first")
    fickle(counter=counter, fails=2).after(first)


@dsl.pipeline
def gated_after_tries(journal: str, counter: str):
    tried = shaky(journal=journal, counter=counter).set_retry(num_retries=1)
    ask().after(tried)


def test_a_retry_goes_on_with_the_last_try_of_a_pipeline_inside(runner, compiled, database, tmp_path):
    given = {"journal": str(tmp_path / "journal"), "counter": str(tmp_path / "counter")}
    failed = runner.run(compiled(gated_after_tries), given, caching=False)
    assert failed.state == "FAILED"
    assert transitions.retry_run(database, failed.run_id, actor="user:ann", reason="", at=2e9) == ["shaky~1/fickle"]
    result = runner.drive(failed.run_id)
    assert result.state == "PAUSED"
    assert {path: (task["state"], task["attempt"]) for path, task in result.tasks.items()} == {
        "shaky/note": ("SUCCEEDED", 1), "shaky/fickle": ("FAILED", 1),
        "shaky~1/note": ("SUCCEEDED", 1), "shaky~1/fickle": ("SUCCEEDED", 2), "ask": ("PAUSED", 0),
    }  # fmt: skip
