"""Logs over HTTP, while the task runs."""

import threading

import httpx
import pytest

PREFIX = "/apis/headrace/v1"


@pytest.fixture
def driven(served, client, packages, name):
    """Starts a run with a real engine in a thread of its own; it is waited for at the end."""
    threads = []

    def start(function, **arguments):
        run_id = client.create_run_from_pipeline_package(str(packages(function)), arguments, run_name=name).run_id
        thread = threading.Thread(target=served.drive, args=(run_id,))
        thread.start()
        threads.append(thread)
        return run_id

    yield start
    for thread in threads:
        thread.join()


def _lines(served, run_id, **query):
    """A stream of a log, and an iterator over its lines."""
    return httpx.stream("GET", f"{served.address}{PREFIX}/runs/{run_id}/logs", params=query, timeout=90)


def test_a_log_streams_while_the_task_runs(served, driven, tmp_path):
    file = tmp_path / "file"
    run_id = driven("waits", file=str(file))
    with _lines(served, run_id, task="wait", follow="true") as answer:
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/plain; charset=utf-8")
        lines = answer.iter_lines()
        assert next(lines) == "waiting"
        assert served.send("GET", f"{PREFIX}/runs/{run_id}")[1]["state"] == "RUNNING"
        (tmp_path / "file.go").touch()
        assert list(lines) == ["went"]


def test_a_whole_run_streams_with_titles(served, driven, tmp_path):
    run_id = driven("waits", file=str(tmp_path / "file"))
    with _lines(served, run_id, follow="true") as answer:
        lines = answer.iter_lines()
        assert [next(lines), next(lines)] == ["── wait (attempt 1)", "waiting"]
        (tmp_path / "file.go").touch()
        assert list(lines) == ["went"]


def test_a_log_can_be_read_as_it_stands(served, driven, tmp_path, until):
    run_id = driven("waits", file=str(tmp_path / "file"))
    until((tmp_path / "file.begun").exists)
    with _lines(served, run_id, task="wait") as answer:
        assert answer.read() == b"waiting\n"
    (tmp_path / "file.go").touch()


def test_a_stream_ends_with_the_server(served, driven, tmp_path):
    run_id = driven("waits", file=str(tmp_path / "file"))
    with _lines(served, run_id, task="wait", follow="true") as answer:
        lines = answer.iter_lines()
        assert next(lines) == "waiting"
        served.stopping.set()
        assert list(lines) == []
        served.stopping.clear()
    (tmp_path / "file.go").touch()


def test_a_stream_ends_with_its_run_when_that_is_deleted(served, client, driven, tmp_path):
    run_id = driven("waits", file=str(tmp_path / "file"))
    with _lines(served, run_id, task="wait", follow="true") as answer:
        lines = answer.iter_lines()
        assert next(lines) == "waiting"
        client.delete_run(run_id)
        assert list(lines) == []


def test_the_log_of_a_task_that_has_not_started_yet_is_empty(served, client, packages, name):
    run_id = client.create_run_from_pipeline_package(str(packages("total")), run_name=name).run_id
    answer = served.raw("GET", f"{PREFIX}/runs/{run_id}/logs?task=add")
    assert (answer.status_code, answer.text) == (200, "")


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("nowhere/logs", 404, "no run has the id nowhere"),
        ("RUN/logs?task=nothing", 404, 'no task called "nothing" is part of it'),
        ("RUN/logs?follow=perhaps", 400, "follow: must be true or false"),
    ],
)
def test_what_is_not_there_is_not_found(served, client, packages, name, path, status, message):
    run_id = client.create_run_from_pipeline_package(str(packages("total")), run_name=name).run_id
    answered, told = served.send("GET", f"{PREFIX}/runs/{path.replace('RUN', run_id)}")
    assert (answered, message in told["error"], bool(told["remedy"])) == (status, True, True)
