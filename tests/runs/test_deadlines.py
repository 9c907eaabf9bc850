"""How long a task and a run may take: kfp-kubernetes' set_timeout, and the pipeline's own configuration."""

import asyncio
from functools import partial

import pytest
from kfp import dsl, kubernetes

from headrace.runs import transitions
from headrace.runs.engine import Engine
from headrace.runs.platform import pipeline_config, timeout_seconds

component = partial(dsl.component, base_image="python:3.12")


@component
def wait_for(file: str, journal: str = "") -> str:
    """Note its process, then wait for as long as it takes."""
    import os
    import time
    from pathlib import Path

    if journal:
        with Path(journal).open("a") as stream:
            stream.write(f"{os.getpid()}\n")
    while not Path(file).exists():
        time.sleep(0.01)
    return "there"


@component
def need(file: str) -> str:
    from pathlib import Path

    return Path(file).read_text()


@dsl.pipeline
def impatient_task(file: str, journal: str):
    kubernetes.set_timeout(wait_for(file=file, journal=journal), 1).set_retry(num_retries=1, backoff_duration="0s")
    need(file=journal)


@dsl.pipeline
def patient_task(file: str):
    kubernetes.set_timeout(wait_for(file=file), 3600)


@dsl.pipeline
def task_without_timeout(file: str):
    kubernetes.set_timeout(kubernetes.set_timeout(wait_for(file=file), 5), 0)


@dsl.pipeline(pipeline_config=dsl.PipelineConfig(active_deadline_seconds=1))
def impatient_run(file: str, journal: str):
    wait_for(file=file, journal=journal)


@dsl.pipeline(pipeline_config=dsl.PipelineConfig(active_deadline_seconds=3600))
def patient_run(file: str) -> str:
    return need(file=file).output


def test_a_task_that_takes_longer_than_it_may_is_ended_each_time_and_takes_nothing_else_with_it(
    run, gone, tmp_path, database
):
    journal = tmp_path / "journal"
    journal.touch()
    result = run(impatient_task, file=str(tmp_path / "never"), journal=str(journal))
    assert result.state == "FAILED"
    assert result.error == "task wait-for: it took longer than it may (activeDeadlineSeconds)"
    assert result.tasks["need"]["state"] == "SUCCEEDED"
    # A process that came to note itself in time is gone; a slow machine may have ended it before.
    gone([int(pid) for pid in journal.read_text().split()])
    tries = database.query("SELECT * FROM attempt WHERE path = 'wait-for' ORDER BY number")
    assert [row["state"] for row in tries] == ["FAILED", "FAILED"]
    assert all(row["finished_at"] - row["started_at"] >= 1 for row in tries)


@pytest.mark.parametrize("pipeline", [patient_task, task_without_timeout])
def test_a_task_that_keeps_to_its_time_is_left_alone(run, tmp_path, pipeline):
    (tmp_path / "there").touch()
    result = run(pipeline, file=str(tmp_path / "there"))
    assert result.state == "SUCCEEDED", result.error


def test_a_run_that_takes_longer_than_it_may_fails_with_all_its_processes(run, gone, tmp_path):
    journal = tmp_path / "journal"
    result = run(impatient_run, file=str(tmp_path / "never"), journal=str(journal))
    assert result.state == "FAILED"
    assert result.error == "the run took longer than 1 s (activeDeadlineSeconds)"
    assert {task["state"] for task in result.tasks.values()} <= {"CANCELED"}
    gone([int(pid) for pid in journal.read_text().split()] if journal.exists() else [])


class StandingClock:
    def __init__(self, time):
        self.time = time

    def now(self):
        return self.time


@pytest.fixture
def drive_at(home, database, runner):
    def drive(run_id, time):
        engine = Engine(home=home, database=database, clock=StandingClock(time), environment={})
        asyncio.run(engine.drive(run_id))
        return runner.result(run_id)

    return drive


def test_a_run_has_all_its_time_from_its_start_and_again_from_a_retry(runner, compiled, drive_at, database, tmp_path):
    file = tmp_path / "file"
    created = runner.create(compiled(patient_run), {"file": str(file)})
    failed = drive_at(created, 1e9)
    assert "FileNotFoundError" in failed.error

    file.write_text("found")
    transitions.retry_run(database, created, actor="user:ann", reason="the file is there", at=1e9 + 7200)
    result = drive_at(created, 1e9 + 7200)
    assert (result.state, result.outputs) == ("SUCCEEDED", {"Output": "found"}), result.error


def test_a_run_that_is_taken_over_has_only_the_time_that_is_left(runner, compiled, drive_at, database):
    created = runner.create(compiled(patient_run), {"file": "/nowhere"})
    assert transitions.claim(database, created, owner="engine-that-died", previous=None, at=1e9)
    result = drive_at(created, 1e9 + 3601)
    assert (result.state, result.tasks) == ("FAILED", {})
    assert result.error == "the run took longer than 3600 s (activeDeadlineSeconds)"


def test_the_deadlines_are_read_from_the_document_that_kfp_writes(document):
    assert timeout_seconds(pipeline_config(document(patient_run).platform)) == 3600
    assert timeout_seconds(pipeline_config(document(task_without_timeout).platform)) is None
