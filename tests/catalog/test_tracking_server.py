import json
import signal
import time
from pathlib import Path

import httpx
import psutil
import pytest

from headrace.catalog.tracking import TrackingServer
from headrace.ports import free_port
from headrace.store.home import Home


@pytest.fixture
def server(registry):
    """MLflow's server over the embedded registry, not yet started."""
    home = Home(Path(registry.tracking_uri.removeprefix("sqlite:///")).parent).create()
    server = TrackingServer(home, free_port())
    yield server
    server.stop()


def _until(found, process=None):
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        if answer := found():
            return answer
        assert process is None or process.is_running(), "it has ended"
        time.sleep(0.1)
    raise AssertionError("it has not come about")


def _answers(server):
    try:
        return httpx.get(f"http://127.0.0.1:{server.port}/health", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def _family(server):
    process = psutil.Process(json.loads((server.home.path / "mlflow.json").read_text())["pid"])
    return [process, *process.children(recursive=True)]


def _kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)


def _ended(processes):
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == []


def test_it_answers_over_the_embedded_store_is_found_again_and_leaves_nothing(server, registry):
    registry.client.create_registered_model("delay")
    server.start()
    family = _family(server)
    _until(lambda: _answers(server), family[0])
    address = f"http://127.0.0.1:{server.port}/api/2.0/mlflow/registered-models/get"
    assert httpx.get(address, params={"name": "delay"}).json()["registered_model"]["name"] == "delay"

    server.start()
    again = TrackingServer(server.home, server.port)
    again.start()
    family = _family(server)
    assert len(family) <= 2, "one server, without the processes that judge traces"

    again.stop()
    _until(lambda: _ended(family))
    assert not _answers(server)
    assert not (server.home.path / "mlflow.json").exists()
    again.stop()


def test_what_a_killed_server_left_behind_is_ended_before_the_next(server):
    server.start()
    parent, child = _until(lambda: len(_family(server)) == 2 and _family(server))
    _kill(parent)
    assert child.is_running()
    server.start()
    _until(lambda: _ended([child]))
    family = _family(server)
    assert family[0].pid != parent.pid
    _kill(family[0])
    server.stop()
    _until(lambda: _ended(family))


def test_another_port_is_another_server(server):
    server.start()
    (first, *_) = _family(server)
    moved = TrackingServer(server.home, free_port())
    try:
        moved.start()
        _until(lambda: _ended([first]))
        assert _family(moved)[0].pid != first.pid
    finally:
        moved.stop()


@pytest.mark.parametrize("text", ["", "{", json.dumps({"pid": 1, "created": 1.0, "port": 1})])
def test_a_record_that_names_no_server_is_not_believed(server, text):
    (server.home.path / "mlflow.json").write_text(text)
    server.stop()
    assert not (server.home.path / "mlflow.json").exists()


@pytest.mark.parametrize("record", ["", '{"pid": '])
def test_one_that_a_killed_server_had_no_time_to_write_down_is_ended_before_the_next(server, record):
    server.start()
    family = _until(lambda: len(_family(server)) == 2 and _family(server))
    (server.home.path / "mlflow.json").write_text(record)
    next_one = TrackingServer(server.home, server.port)
    _until(lambda: _answers(server), family[0])
    next_one.require_port("--mlflow-port")
    _until(lambda: _ended(family))
    next_one.start()
    assert _family(next_one)[0].pid != family[0].pid
    next_one.stop()
