"""The KFP API of the real server: it runs what it is given, on schedule, and goes on after it was killed."""

import json
import signal
import warnings
from itertools import pairwise

import httpx
import kfp
import pytest

BASE = "/apis/v2beta1"


@pytest.fixture
def connect(up):
    clients = []

    def make():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            clients.append(kfp.Client(host=up.api))
        return clients[-1]

    yield make
    for client in clients:
        client._run_api.api_client.rest_client.pool_manager.clear()


def test_runs_and_recurring_runs_survive_a_kill_and_none_starts_twice(up, until, connect, packages, tmp_path):
    up.start()
    client = connect()
    file = tmp_path / "file"
    waiting = client.create_run_from_pipeline_package(str(packages("waits")), {"file": str(file)}, enable_caching=False)
    until((tmp_path / "file.begun").exists)
    recurring = client.create_recurring_run(
        "", "often", interval_second=1, max_concurrency=10, pipeline_package_path=str(packages("total"))
    ).recurring_run_id
    of_it = json.dumps({"predicates": [{"operation": 1, "key": "recurring_run_id", "stringValue": recurring}]})

    def started():
        return client.list_runs(filter=of_it, page_size=200, sort_by="scheduled_at").runs

    until(lambda: len(started()) >= 2)
    assert up.end(signal.SIGKILL) == -signal.SIGKILL
    up.start()
    client = connect()
    before = len(started())
    until(lambda: len(started()) >= before + 2)
    assert client.disable_recurring_run(recurring) == {}
    (tmp_path / "file.go").touch()
    until(lambda: client.get_run(waiting.run_id).state == "SUCCEEDED")
    until(lambda: {run.state for run in started()} == {"SUCCEEDED"})
    moments = [run.scheduled_at.timestamp() for run in started()]
    gaps = {round(later - earlier, 3) for earlier, later in pairwise(moments)}
    assert gaps == {1.0}, "each moment once, and none left out"
    assert up.end() == 0
    assert up.left() == []


def test_a_running_run_is_terminated_and_its_log_can_be_followed(up, until, connect, packages, tmp_path):
    up.start()
    client = connect()
    file = tmp_path / "file"
    run_id = client.create_run_from_pipeline_package(str(packages("waits")), {"file": str(file)}).run_id
    logs = f"{up.api}/apis/headrace/v1/runs/{run_id}/logs"
    with httpx.stream("GET", logs, params={"task": "wait", "follow": "true"}, timeout=90) as answer:
        lines = answer.iter_lines()
        assert next(lines) == "waiting"
        followed = up.command("runs", "logs", "-f", run_id)
        assert [followed.stdout.readline() for _ in range(2)] == ["── wait (attempt 1)\n", "waiting\n"]
        client.terminate_run(run_id)
        assert list(lines) == []
    assert followed.wait(timeout=90) == 0
    assert client.get_run(run_id).state == "CANCELED"
    task = next(task for task in client.get_run(run_id).run_details.task_details if task.task_id == "wait")
    assert task.state == "CANCELED"
    client.delete_run(run_id)
    until(lambda: not (up.home / "logs" / "runs" / run_id).exists())
    assert up.end() == 0
