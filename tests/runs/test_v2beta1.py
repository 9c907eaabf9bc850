"""A run's history of states, as its events tell it, and the state of its tasks."""

import pytest
from kfp import dsl

from headrace.runs import transitions, v2beta1


@dsl.component(base_image="python:3.11")
def nothing():
    pass


@dsl.pipeline(name="idle")
def idle():
    nothing()


@dsl.component(base_image="python:3.11")
def give(number: int) -> int:
    return number


@dsl.component(base_image="python:3.11")
def fail(number: int) -> int:
    raise ValueError(number)


@dsl.pipeline(name="branches")
def branches(number: int = 2):
    given = give(number=number)
    with dsl.If(given.output > 5):
        give(number=6)
    with dsl.ParallelFor([1, 7]) as item, dsl.If(item > 5):
        give(number=item)
    give(number=fail(number=1).output)


@dsl.pipeline(name="rows")
def rows():
    with dsl.ParallelFor([1, 7], parallelism=1), dsl.ParallelFor([8, 2], parallelism=1) as item:
        given = give(number=item)
        with dsl.If(given.output > 5):
            give(number=given.output)


@pytest.fixture
def run_id(runner, compiled):
    return runner.create(compiled(idle))


def _history(database, run_id):
    return [status["state"] for status in v2beta1.run_json(database, run_id)["state_history"]]


def test_a_run_whose_engine_died_waits_and_goes_on(database, run_id):
    assert transitions.claim(database, run_id, owner="one", previous=None, at=1.0)
    assert transitions.requeue_run(database, run_id, owner="one", at=2.0)
    assert _history(database, run_id) == ["PENDING", "RUNNING", "PENDING"]
    assert transitions.claim(database, run_id, owner="two", previous="one", at=3.0)
    assert transitions.claim(database, run_id, owner="three", previous="two", at=4.0)
    assert _history(database, run_id) == ["PENDING", "RUNNING", "PENDING", "RUNNING"]


def test_taking_over_a_run_that_waits_for_a_person_does_not_make_it_run(database, run_id):
    assert transitions.claim(database, run_id, owner="one", previous=None, at=1.0)
    assert transitions.pause_run(database, run_id, 2.0)
    assert transitions.claim(database, run_id, owner="two", previous="one", at=3.0)
    assert _history(database, run_id) == ["PENDING", "RUNNING", "PAUSED"]
    assert v2beta1.run_json(database, run_id)["state"] == "PAUSED"


def test_a_task_that_was_cut_off_waits_with_its_run(database, run_id, runner):
    runner.drive(run_id)
    with database.transaction() as connection:
        connection.execute("UPDATE run SET state = 'PENDING', finished_at = NULL WHERE id = ?", (run_id,))
        connection.execute("UPDATE task SET state = 'RUNNING', finished_at = NULL WHERE run_id = ?", (run_id,))
    root, task = v2beta1.run_json(database, run_id)["run_details"]["task_details"]
    assert (root["state"], task["state"], task["state_history"][-1]["state"]) == ("PENDING", "PENDING", "PENDING")


def test_what_a_run_ended_without_is_skipped(database, run, compiled):
    result = run(branches)
    assert result.state == "FAILED"
    details = v2beta1.run_json(database, result.run_id)["run_details"]["task_details"]
    states = {task["task_id"]: task["state"] for task in details}
    assert states == {
        "root": "FAILED", "give": "SUCCEEDED", "condition-1": "SKIPPED", "fail": "FAILED", "give-4": "SKIPPED",
        "for-loop-3": "SUCCEEDED", "for-loop-3/1": "SUCCEEDED", "for-loop-3/1/condition-4": "SUCCEEDED",
        "for-loop-3/1/condition-4/give-3": "SUCCEEDED",
    }  # fmt: skip
    parents = {task["task_id"]: task.get("parent_task_id") for task in details}
    assert (parents["condition-1"], parents["give-4"]) == ("root", "root")


def test_a_loop_in_a_loop_is_a_tree_with_what_was_skipped_in_its_place(database, run):
    details = v2beta1.run_json(database, run(rows, caching=False).run_id)["run_details"]["task_details"]
    row = [
        "", "/for-loop-4", "/for-loop-4/0", "/for-loop-4/0/give", "/for-loop-4/0/condition-5",
        "/for-loop-4/0/condition-5/give-2", "/for-loop-4/1", "/for-loop-4/1/give", "/for-loop-4/1/condition-5",
    ]  # fmt: skip
    iterations = [f"for-loop-2/{number}{below}" for number in (0, 1) for below in row]
    assert [task["task_id"] for task in details] == ["root", "for-loop-2", *iterations]
    assert [task["task_id"] for task in details if task["state"] == "SKIPPED"] == [
        f"for-loop-2/{number}/for-loop-4/1/condition-5" for number in (0, 1)
    ]
    children = [(task["task_id"], child["task_id"]) for task in details for child in task.get("child_tasks", ())]
    parents = [(task["parent_task_id"], task["task_id"]) for task in details[1:]]
    assert sorted(children) == sorted(parents)
