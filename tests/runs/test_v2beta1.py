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
