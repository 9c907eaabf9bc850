import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from headrace.errors import HeadraceError, UsageError
from headrace.ports import free_port, listen, require_free
from headrace.processes import alive
from headrace.serving.gateway import Gateway, envoy

PREDICT = "/v1/models/delay:predict"


def _get(port, path=PREDICT):
    return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=10)


def _process(gateway):
    told = json.loads((gateway.folder / "envoy.json").read_text())
    return told["pid"], told["created"]


def _until(found):
    deadline = time.monotonic() + 30
    while not found():
        assert time.monotonic() < deadline, "it has not come about"
        time.sleep(0.02)


def test_starting_twice_finds_the_one_that_runs(gateway, home):
    first = gateway.epoch()
    gateway.start()
    again = Gateway(home, gateway.port)
    again.start()
    assert gateway.epoch() == again.epoch() == first
    assert again.alive()


def test_envoy_outlives_the_process_that_started_it_and_is_found_by_the_next(home, backend, split):
    port = free_port()
    gateway = Gateway(home, port)
    starts = (
        "import os, signal, sys; from pathlib import Path; from headrace.store.home import Home;"
        "from headrace.serving.gateway import Arm, Gateway, Route;"
        "gateway = Gateway(Home(Path(sys.argv[1])), int(sys.argv[2])); gateway.start();"
        "arm = Arm('delay-00001', int(sys.argv[3]), 100);"
        "assert gateway.apply([Route('delay', 'default', 'delay', (arm,), 5.0)]);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    stable = backend("delay-00001")
    try:
        died = subprocess.run([sys.executable, "-c", starts, str(home.path), str(port), str(stable.port)])
        assert died.returncode == -signal.SIGKILL
        assert _get(port).status_code == 200
        gateway.start()
        assert gateway.alive()
        assert gateway.counts()["delay-00001"].requests == 1
        assert gateway.apply([split((stable, 100))])
        assert gateway.apply([])
        assert _get(port).status_code == 404
    finally:
        gateway.stop()
    assert not gateway.alive()


def test_envoy_killed_is_started_again_with_its_routes_and_counts_from_zero(gateway, backend, split):
    gateway.apply([split((backend("delay-00001"), 100))])
    assert _get(gateway.port).status_code == 200
    before, (pid, born) = gateway.epoch(), _process(gateway)
    os.kill(pid, signal.SIGKILL)
    _until(lambda: not alive(pid, born))
    assert not gateway.alive()
    assert gateway.counts() == {}
    gateway.start()
    assert gateway.epoch() != before
    assert gateway.counts()["delay-00001"].requests == 0
    assert _get(gateway.port).status_code == 200
    assert gateway.counts()["delay-00001"].requests == 1


def test_while_envoy_is_gone_nothing_is_confirmed(gateway, backend, split, monkeypatch):
    monkeypatch.setattr(envoy, "ADMIN_SECONDS", 0.2)
    route = split((backend("delay-00001"), 100))
    assert gateway.apply([route])
    pid, born = _process(gateway)
    os.kill(pid, signal.SIGKILL)
    _until(lambda: not alive(pid, born))
    assert not gateway.apply([route])
    assert gateway.counts() == {}


def test_another_port_is_another_envoy_and_the_old_one_ends(gateway, home):
    pid, born = _process(gateway)
    moved = Gateway(home, free_port())
    moved.start()
    try:
        assert not alive(pid, born)
        assert _get(moved.port).status_code == 404
        with pytest.raises(httpx.ConnectError):
            _get(gateway.port)
    finally:
        moved.stop()


def test_a_port_that_is_in_use_is_refused(home, backend):
    taken = backend("somebody").port
    gateway = Gateway(home, taken)
    with pytest.raises(UsageError, match=f"--gateway-port: port {taken} is in use") as caught:
        gateway.start()
    assert caught.value.remedy == "Choose another with --gateway-port, or stop who listens there."
    assert not gateway.alive()


def test_the_port_of_another_envoy_is_refused(gateway, tmp_path):
    from headrace.store.home import Home

    with pytest.raises(UsageError, match="is in use"):
        Gateway(Home(tmp_path / "other").create(), gateway.port).start()


def test_a_port_that_was_just_left_is_free():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        accepted, _ = server.accept()
        accepted.close()
        client.recv(1)
        port = server.getsockname()[1]
    require_free(port, "--port")
    with listen(port, "--port") as again:
        assert again.getsockname() == ("127.0.0.1", port)


def test_stopping_answers_the_running_requests_first(gateway, backend, split):
    slow = backend("delay-00001")
    slow.seconds = 0.7
    gateway.apply([split((slow, 100))])
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(_get, gateway.port)
        slow.begun.wait(10)
        gateway.stop()
        assert answer.result().status_code == 200
    assert not gateway.alive()


def test_stopping_twice_and_before_a_start_is_no_matter(home):
    gateway = Gateway(home, free_port())
    gateway.stop()
    gateway.start()
    pid, born = _process(gateway)
    gateway.stop()
    gateway.stop()
    assert not alive(pid, born)
    assert not (gateway.folder / "envoy.json").exists()


def test_a_record_that_is_half_written_is_no_envoy(home):
    gateway = Gateway(home, free_port())
    (gateway.folder / "envoy.json").write_text('{"pid": 1')
    assert not gateway.alive()
    assert (gateway.epoch(), gateway.counts()) == ("", {})
    gateway.stop()


def test_an_envoy_that_does_not_start_says_why(home, tmp_path, monkeypatch):
    broken = tmp_path / "envoy"
    broken.write_text("#!/bin/sh\necho no such libc\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("HEADRACE_ENVOY", str(broken))
    gateway = Gateway(home, free_port())
    with pytest.raises(HeadraceError, match=r"Envoy does not start; the end of its log:\nno such libc"):
        gateway.start()
    assert not gateway.alive()


def test_an_envoy_that_is_no_program_is_refused(home, monkeypatch):
    monkeypatch.setenv("HEADRACE_ENVOY", str(home.path / "nothing"))
    with pytest.raises(UsageError, match="which is no program"):
        Gateway(home, free_port()).start()


def test_an_envoy_that_a_killed_server_had_no_time_to_write_down_is_ended_before_the_next(gateway, home):
    pid, born = _process(gateway)
    (gateway.folder / "envoy.json").unlink()
    next_one = Gateway(home, gateway.port)
    next_one.start()
    assert not alive(pid, born)
    assert next_one.alive()
    next_one.stop()
