"""The model server as a process: overload, slow clients, draining, workers."""

import json
import os
import signal
import socket
import threading
import time
from pathlib import Path

import grpc
import httpx
import psutil
import pytest

from headrace.serving.runtime.__main__ import options
from headrace.serving.runtime.grpc_stubs import messages

FLOWERS = [[6.8, 2.8, 4.8, 1.4], [6.0, 3.4, 4.5, 1.6]]
SLOW = {"instances": [[1, 0, 0, 0]]}
PATIENCE_SECONDS = 60


def until(found):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        answer = found()
        if answer:
            return answer
        time.sleep(0.02)
    raise AssertionError("it has not come about")


@pytest.fixture
def asking(models):
    """Sends a request whose prediction takes a second, and waits until the model has it."""
    threads, answers = [], []

    def ask(server):
        models.slow_begins.unlink(missing_ok=True)
        thread = threading.Thread(target=lambda: answers.append(server.post("/v1/models/iris:predict", json=SLOW)))
        thread.start()
        threads.append(thread)
        until(models.slow_begins.exists)
        return thread, answers

    yield ask
    for thread in threads:
        thread.join()


def raw(server, sent):
    """All that the server says to some bytes until it closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(sent)
        told = b""
        while more := connection.recv(65536):
            told += more
        return told


def test_more_requests_than_may_wait_are_told_to_come_again(running, models, asking):
    server = running("--model-path", models.slow, "--max-concurrency", 1)
    thread, answers = asking(server)
    refused = server.post("/v1/models/iris:predict", json=SLOW)
    live = httpx.get(f"{server.base}/v2/health/live", timeout=30)
    assert thread.is_alive()
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert refused.json() == {"error": "Too many requests wait for the model: at most 1 may"}
    assert live.status_code == 200
    thread.join()
    assert answers[0].status_code == 200
    assert server.post("/v1/models/iris:predict", json={"instances": [[1, 0, 0, 0]] * 2}).status_code == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /v1/models/iris:predict HTTP/1.1\r\nhost: x\r\ncontent-le",
        b"POST /v1/models/iris:predict HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{",
        b'POST /v1/models/iris:predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{"ins',
        b"",
    ],
)
def test_a_client_whose_request_does_not_come_is_ended(kept, models, sent):
    server = kept("--model-path", models.iris, "--client-timeout", 1)
    told = raw(server, sent)
    assert told.startswith(b"HTTP/1.1 408 ")
    assert b"did not come within 1 seconds" in told
    assert server.post("/v1/models/iris:predict", json={"instances": FLOWERS}).json() == {"predictions": [1, 1]}


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /\xff HTTP/1.1\r\nhost: x\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: x\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nhost: x\r\na: " + b"b" * 300_000, b"431"),
    ],
)
def test_what_is_no_http_is_refused_in_json(kept, models, sent, code):
    server = kept("--model-path", models.iris)
    told = raw(server, sent)
    assert told.startswith(b"HTTP/1.1 " + code)
    assert json.loads(told.partition(b"\r\n\r\n")[2])["error"]
    assert server.post("/v1/models/iris:predict", json={"instances": FLOWERS}).status_code == 200


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_above_the_limit_is_413_and_the_connection_goes_on(kept, models, chunked):
    server = kept("--model-path", models.iris, "--max-body", 1000)
    body = b'{"instances": [[1, 2, 3, 4]' + b" " * 300_000 + b"]}"
    with httpx.Client(base_url=server.base, timeout=30) as client:
        told = client.post("/v1/models/iris:predict", content=iter([body]) if chunked else body)
        assert told.status_code == 413
        assert told.json()["error"] == "The body is larger than 1000 bytes, which is the most that is taken here"
        assert client.post("/v1/models/iris:predict", json={"instances": FLOWERS}).status_code == 200


def test_on_sigterm_the_running_requests_are_answered(running, models, asking):
    server = running("--model-path", models.slow)
    _, answers = asking(server)
    assert server.end() in (0, -signal.SIGTERM)
    until(lambda: answers)
    assert answers[0].status_code == 200


def workers_of(server):
    return [child for child in psutil.Process(server.process.pid).children() if child.status() != "zombie"]


def test_workers_share_the_port_and_one_that_dies_is_started_again(running, models):
    server = running("--model-path", models.iris, "--workers", 2)
    first = until(lambda: len(found := workers_of(server)) == 2 and found)
    victim = first[0].pid
    os.kill(victim, signal.SIGKILL)
    until(lambda: victim not in [w.pid for w in workers_of(server)] and len(workers_of(server)) == 2)
    for _ in range(20):
        told = server.post("/v1/models/iris:predict", json={"instances": FLOWERS})
        assert told.json() == {"predictions": [1, 1]}
    assert f"a worker (process {victim}) has ended with SIGKILL; another one is started" in server.words()
    left = workers_of(server)
    assert server.end() == 0
    assert not any(psutil.pid_exists(worker.pid) for worker in left)


def test_workers_unload_the_model_together(running, models):
    server = running("--model-path", models.iris, "--workers", 2)
    assert server.post("/v2/repository/models/iris/unload").json() == {"name": "iris", "unload": True}
    codes = {server.post("/v1/models/iris:predict", json={"instances": FLOWERS}).status_code for _ in range(20)}
    assert codes == {503}
    server.post("/v2/repository/models/iris/load")
    codes = {server.post("/v1/models/iris:predict", json={"instances": FLOWERS}).status_code for _ in range(20)}
    assert codes == {200}


def test_workers_end_with_a_parent_that_was_killed(running, models):
    server = running("--model-path", models.iris, "--workers", 2)
    left = until(lambda: len(found := workers_of(server)) == 2 and found)
    server.process.kill()
    server.process.wait()
    assert len(left) == 2
    until(lambda: not any(worker.is_running() and worker.status() != "zombie" for worker in left))


def test_sigterm_to_the_parent_drains_the_workers(running, models, asking):
    server = running("--model-path", models.slow, "--workers", 2)
    _, answers = asking(server)
    assert server.end() == 0
    until(lambda: answers)
    assert answers[0].status_code == 200


def test_a_port_that_is_taken_is_told(running, models):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(AssertionError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
            running("--model-path", models.iris, "--port", port)


def test_a_grpc_port_that_is_taken_is_told(running, models):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(AssertionError, match="Failed to bind to address"):
            running("--model-path", models.iris, "--grpc-port", taken.getsockname()[1])


def test_workers_share_the_grpc_port(running, models):
    server = running("--model-path", models.iris, "--workers", 2, grpc=True)
    for _ in range(10):
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            ready = channel.unary_unary(
                "/inference.GRPCInferenceService/ServerReady",
                request_serializer=messages.ServerReadyRequest.SerializeToString,
                response_deserializer=messages.ServerReadyResponse.FromString,
            )
            assert ready(messages.ServerReadyRequest(), timeout=30, wait_for_ready=True).ready


def test_every_option_is_on_the_page():
    page = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
    names = [name for action in options()._actions for name in action.option_strings if name not in ("-h", "--help")]
    assert len(names) > 15
    assert [name for name in names if f"`{name}" not in page] == []
