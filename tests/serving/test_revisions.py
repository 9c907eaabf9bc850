import os
import signal
import threading
import time

import httpx
import psutil
import pytest

from headrace.clock import SystemClock
from headrace.errors import NotFoundError
from headrace.processes import alive, kill_session
from headrace.serving import payload_log, revisions
from headrace.serving.revisions import (
    DRAIN_SECONDS,
    FAILED_SECONDS,
    RESTART_SECONDS,
    START_SECONDS,
    STEADY_SECONDS,
    RevisionServers,
)
from headrace.store import events
from headrace.store.home import Home

PATIENCE_SECONDS = 60
FLOWERS = [[6.8, 2.8, 4.8, 1.4], [6.0, 3.4, 4.5, 1.6]]


class SetClock:
    """A clock that a test moves on."""

    def __init__(self):
        self.time = 1000.0

    def now(self):
        return self.time


@pytest.fixture
def clock():
    return SetClock()


@pytest.fixture
def servers(home, database, clock):
    servers = RevisionServers(home, database, clock)
    yield servers
    running = servers.running()
    for revision in running:
        kill_session(revision.pid, revision.process_created)
    servers.await_end([revision.id for revision in running], seconds=10)
    _until(lambda: not servers._reap() and not servers._children)


@pytest.fixture
def revision(database):
    """Makes a revision of the service `iris`."""

    def make(folder, **settings):
        with database.transaction() as connection:
            return revisions.create(
                connection, service="iris", namespace="default", model_uri="models:/iris/1", model_path=str(folder),
                settings=settings, at=1.0,
            )  # fmt: skip

    return make


def _until(found):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        answer = found()
        if answer:
            return answer
        time.sleep(0.05)
    raise AssertionError("it has not come about")


def _ensured(servers, name, *states):
    return _until(lambda: (told := servers.ensure(name)).state in states and told)


def _post(revision, path, body, **headers):
    return httpx.post(f"http://127.0.0.1:{revision.port}{path}", json=body, headers=headers, timeout=30)


def _failed(servers, name, clock):
    """The revision once it has failed; the clock goes on, so that no restart has to wait."""

    def told():
        clock.time += 1
        found = servers.ensure(name)
        return found if found.state == "failed" else None

    return _until(told)


@pytest.mark.parametrize("wanted", [True, False])
def test_a_faster_form_is_made_before_the_server_is_ready_unless_it_is_not_wanted(
    home, database, servers, models, revision, wanted
):
    name = revision(models.delay, faster_form=wanted)
    ready = _ensured(servers, name, "ready")
    assert ready.message.startswith("predicts with ONNX made from the scikit-learn model: it agrees on " * wanted)
    assert bool(ready.message) == wanted
    assert len(list(home.faster_forms.iterdir())) == wanted
    told = httpx.get(f"http://127.0.0.1:{ready.port}/v2/models/iris").json()
    assert told["platform"] == ("onnxruntime_onnx" if wanted else "sklearn_mlflow")
    event = next(e for e in events.read(database, subject="service/iris") if e.kind == "revision.ready")
    assert event.reason == ready.message
    assert servers.stop(name).message == ready.message


def test_revisions_of_a_service_are_numbered(database, revision):
    assert [revision("/models/a"), revision("/models/b")] == ["iris-00001", "iris-00002"]
    second = revisions.get(database, "iris-00002")
    assert (second.state, second.number, second.model_path, second.pid) == ("created", 2, "/models/b", None)
    with pytest.raises(NotFoundError, match="no revision is called iris-00003"):
        revisions.get(database, "iris-00003")


def test_a_server_is_started_becomes_ready_answers_and_is_found_again(home, database, servers, models, revision):
    name = revision(models.iris, model_name="flowers", environment={"COLOUR": "blue"}, threads=2)
    first = servers.ensure(name)
    assert (first.state, first.starts) == ("starting", 1)
    ready = _ensured(servers, name, "ready")
    assert (ready.pid, ready.port) == (first.pid, first.port)

    told = _post(ready, "/v1/models/flowers:predict", {"instances": FLOWERS[:1]}, **{"x-request-id": "one"})
    assert (told.status_code, told.json()) == (200, {"predictions": [1]})
    environment = psutil.Process(ready.pid).environ()
    assert environment["COLOUR"] == "blue"
    assert httpx.get(f"http://127.0.0.1:{ready.port}/v2/models/flowers").json()["versions"] == [name]

    other = RevisionServers(home, database, SystemClock())
    assert (other.ensure(name).pid, other.ensure(name).state) == (ready.pid, "ready")
    assert [r.id for r in other.running()] == [name]
    assert [e.kind for e in events.read(database, subject="service/iris")] == ["revision.started", "revision.ready"]

    assert other.stop(name).state == "stopped"
    servers.await_end([name], seconds=PATIENCE_SECONDS)
    assert not alive(ready.pid, ready.process_created)
    assert payload_log.record_labels(home, "iris", [("one", 1)], at=1.0) == 1
    assert servers.running() == []
    assert servers.stop(name).state == "stopped"


def test_a_server_that_was_killed_is_started_again_and_long_health_forgives_the_past(servers, clock, models, revision):
    name = revision(models.iris)
    first = _ensured(servers, name, "ready")
    os.kill(first.pid, signal.SIGKILL)
    _until(lambda: not alive(first.pid, first.process_created))
    assert (servers.ensure(name).state, servers.ensure(name).starts) == ("starting", 2)
    second = _ensured(servers, name, "ready")
    assert second.pid != first.pid
    told = _post(second, "/v1/models/iris:predict", {"instances": FLOWERS})
    assert told.json() == {"predictions": [1, 1]}

    clock.time += STEADY_SECONDS + 1
    os.kill(second.pid, signal.SIGKILL)
    _until(lambda: not alive(second.pid, second.process_created))
    assert servers.ensure(name).starts == 1


def test_a_model_that_cannot_be_loaded_fails_with_the_reason(servers, database, tmp_path, revision, clock):
    name = revision(tmp_path)
    failed = _failed(servers, name, clock)
    assert failed.starts == revisions.MAX_STARTS
    assert failed.message.startswith("its server died: ")
    assert f"{tmp_path / 'MLmodel'}: there is no MLflow model here" in failed.message
    assert servers.ensure(name) == failed
    assert servers.stop(name) == failed
    assert servers.running() == []
    assert [e.reason for e in events.read(database, kinds=["revision.failed"])] == [failed.message]


def test_a_server_that_dies_again_and_again_is_started_after_growing_waits(servers, clock, tmp_path, revision):
    name = revision(tmp_path)

    def died():
        told = revisions.get(servers.database, name)
        _until(lambda: not alive(told.pid, told.process_created))

    servers.ensure(name)
    died()
    assert servers.ensure(name).starts == 2, "the first time at once"
    died()
    assert servers.ensure(name).starts == 2
    clock.time += RESTART_SECONDS
    assert servers.ensure(name).starts == 3
    died()
    assert servers.ensure(name).state == "failed"
    clock.time += FAILED_SECONDS - 1
    assert servers.ensure(name).state == "failed"
    clock.time += 1
    assert servers.ensure(name).state == "starting", "what is still wanted is tried once more after a while"
    died()
    assert servers.ensure(name).state == "failed"


def test_a_server_that_takes_more_memory_than_it_may_is_killed_and_says_so(servers, clock, models, revision):
    name = revision(models.iris, memory_bytes=20e6)
    failed = _failed(servers, name, clock)
    assert "it took more memory than its limit of 20 MB" in failed.message


def test_a_server_that_is_stopped_answers_its_running_request_and_is_not_ready_meanwhile(servers, models, revision):
    name = revision(models.slow)
    ready = _ensured(servers, name, "ready")
    answers = []
    one = {"instances": [[1, 0, 0, 0]]}
    client = threading.Thread(target=lambda: answers.append(_post(ready, "/v1/models/iris:predict", one)))
    models.slow_begins.unlink(missing_ok=True)
    client.start()
    try:
        _until(models.slow_begins.exists)
        assert servers.stop(name).state == "stopped"
        assert alive(ready.pid, ready.process_created)
        again = servers.ensure(name)
        assert (again.state, again.pid) == ("stopped", ready.pid)
    finally:
        client.join()
    assert [answer.status_code for answer in answers] == [200]
    started = _ensured(servers, name, "starting")
    assert (started.starts, started.pid != ready.pid) == (1, True)


def test_a_server_on_its_way_out_is_never_called_ready_again(servers, models, revision):
    name = revision(models.iris)
    leaving = _ensured(servers, name, "ready")
    servers.stop(name)
    assert _ensured(servers, name, "ready").pid != leaving.pid


def test_a_server_that_does_not_end_is_killed(servers, clock, models, revision):
    started = servers.ensure(revision(models.iris))
    os.kill(started.pid, signal.SIGSTOP)
    assert servers.stop(started.id).state == "stopped"
    clock.time += DRAIN_SECONDS - 1
    servers.stop(started.id)
    assert alive(started.pid, started.process_created)
    clock.time += 2
    servers.stop(started.id)
    _until(lambda: not alive(started.pid, started.process_created))


def test_a_server_that_never_gets_ready_fails(servers, clock, models, revision):
    started = servers.ensure(revision(models.iris))
    os.kill(started.pid, signal.SIGSTOP)
    clock.time += START_SECONDS - 1
    assert servers.ensure(started.id).state == "starting"
    clock.time += 2
    failed = servers.ensure(started.id)
    assert (failed.state, failed.message) == ("failed", "not ready after 120 s")
    _until(lambda: not alive(started.pid, started.process_created))


def test_servers_that_take_too_long_to_end_are_killed_at_the_deadline(servers, models, revision):
    started = servers.ensure(revision(models.iris))
    os.kill(started.pid, signal.SIGSTOP)
    servers.await_end([started.id], seconds=0.2)
    assert not alive(started.pid, started.process_created)


def test_a_server_that_a_killed_one_had_no_time_to_write_down_is_ended_and_no_other(
    home, database, servers, models, revision, tmp_path
):
    stray, known = (servers.ensure(revision(models.iris)) for _ in range(2))
    with database.transaction() as connection:
        connection.execute("UPDATE revision SET pid = NULL WHERE id = ?", (stray.id,))
    elsewhere = RevisionServers(Home(tmp_path / "elsewhere"), database, SystemClock())
    elsewhere.sweep()
    assert alive(stray.pid, stray.process_created)
    RevisionServers(home, database, SystemClock()).sweep()
    _until(lambda: not alive(stray.pid, stray.process_created))
    assert alive(known.pid, known.process_created)
