import http.server
import signal
import socket
import subprocess
import sys
import threading

import pytest

from headrace.catalog.registry import ModelRegistry, ModelVersion, models
from headrace.errors import HeadraceError, NotFoundError, UsageError


@pytest.fixture
def saved(tmp_path):
    """A folder that looks like a saved model; the registry does not look inside."""
    folder = tmp_path / "saved"
    folder.mkdir()
    (folder / "MLmodel").write_text("flavors: {sklearn: {pickled_model: model.pkl}}\n")
    (folder / "model.pkl").write_bytes(b"weights")
    return folder


@pytest.fixture
def register(registry, saved, request):
    """Registers a version under a name of this test's own."""

    def register(key, **more):
        values = {"run_name": "retrain 1", "parameters": {"trees": 60}, "metrics": {"auc": 0.75}, "tags": {}, **more}
        return registry.register(request.node.name[:60], saved, key=key, **values)

    return register


def test_a_model_is_registered_as_the_challenger_with_what_is_known_about_it(registry, register, tmp_path):
    (tmp_path / "notes.txt").write_text("good")
    version = register("run/1", tags={"headrace.run": "1"}, beside=tmp_path)
    assert version == ModelVersion(version.name, 1, version.run_id, {"headrace.run": "1", "headrace.key": "run/1"})
    assert version.uri == f"models:/{version.name}/1"
    assert registry.version(f"models:/{version.name}@challenger") == version
    assert registry.champion(version.name) is None
    run = registry.client.get_run(version.run_id)
    assert (run.info.run_name, run.info.status) == ("retrain 1", "FINISHED")
    assert (run.data.params, run.data.metrics) == ({"trees": "60"}, {"auc": 0.75})
    assert (registry.folder(version.uri) / "notes.txt").read_text() == "good"


def test_the_same_key_is_one_version(registry, register):
    first = register("run/1")
    again = register("run/1", metrics={"auc": 0.1})
    assert again == first
    assert register("run/2").version == 2
    assert len(registry.client.search_runs([registry.client.get_run(first.run_id).info.experiment_id])) == 2


def test_the_same_key_of_another_model_is_another_version(registry, register, saved):
    first = register("run/1")
    other = registry.register(f"{first.name}-b", saved, key="run/1", run_name="b", parameters={}, metrics={}, tags={})
    assert (other.name, other.version) == (f"{first.name}-b", 1)


def test_a_registration_that_died_before_the_alias_is_finished_by_the_next(registry, register):
    version = register("run/1")
    registry.client.delete_registered_model_alias(version.name, "challenger")
    register("run/1")
    assert registry.version(f"models:/{version.name}@challenger") == version


def test_registering_an_old_key_again_moves_no_alias(registry, register):
    old = register("run/1")
    new = register("run/2")
    register("run/1")
    assert registry.version(f"models:/{old.name}@challenger") == new
    registry.promoted(new.uri)
    register("run/2")
    with pytest.raises(NotFoundError):
        registry.version(f"models:/{old.name}@challenger")


def test_a_promoted_version_is_the_champion_and_no_challenger(registry, register):
    version = register("run/1")
    for _ in range(2):
        registry.promoted(version.uri)
        assert registry.champion(version.name).version == 1
        assert registry.champion(version.name).tags["headrace.rollout"] == "passed"
        with pytest.raises(NotFoundError):
            registry.version(f"models:/{version.name}@challenger")


def test_a_rejected_version_is_marked_with_the_reason_and_the_champion_stays(registry, register):
    good, bad = register("run/1"), None
    registry.promoted(good.uri)
    bad = register("run/2")
    for _ in range(2):
        registry.rejected(bad.uri, "errors: 8 of 40 " + "x" * 6000)
        marked = registry.version(bad.uri)
        assert marked.tags["headrace.rollout"] == "failed"
        assert marked.tags["headrace.reason"].startswith("errors: 8 of 40")
        assert registry.champion(good.name).version == 1
        with pytest.raises(NotFoundError):
            registry.version(f"models:/{bad.name}@challenger")


def test_a_newer_challenger_stays_when_an_older_version_is_told_of(registry, register):
    old = register("run/1")
    register("run/2")
    registry.promoted(old.uri)
    assert registry.version(f"models:/{old.name}@challenger").version == 2


def test_what_is_no_registered_model_is_not_told_of(registry, saved):
    registry.promoted(str(saved))
    registry.rejected(str(saved), "bad")
    assert registry.pinned(str(saved)) == str(saved)


def test_an_alias_is_pinned_to_the_version_that_it_names_now(registry, register):
    first = register("run/1")
    registry.promoted(first.uri)
    pinned = registry.pinned(f"models:/{first.name}@champion")
    registry.promoted(register("run/2").uri)
    assert pinned == first.uri
    assert registry.pinned(f"models:/{first.name}@champion") == f"models:/{first.name}/2"


def test_the_files_of_a_version_are_in_a_local_folder(registry, register, saved):
    version = register("run/1")
    for uri in (version.uri, f"models:/{version.name}@challenger", f"runs:/{version.run_id}/model"):
        folder = registry.folder(uri)
        assert (folder / "model.pkl").read_bytes() == b"weights"
        assert (folder / "MLmodel").is_file()


def test_a_folder_of_its_own_needs_no_registry(saved, tmp_path):
    nowhere = ModelRegistry("http://127.0.0.1:9")
    assert nowhere.folder(str(saved)) == saved
    assert nowhere.folder(f"file://{saved}") == saved
    empty = tmp_path / "with space"
    empty.mkdir()
    for missing in (str(empty), "file://" + str(empty).replace(" ", "%20"), str(tmp_path / "nowhere")):
        with pytest.raises(UsageError, match="there is no model here") as caught:
            nowhere.folder(missing)
        assert "[storage.aliases]" in caught.value.remedy
    (empty / "model.joblib").touch()
    assert nowhere.folder(str(empty)) == empty
    assert nowhere.folder(str(empty / "model.joblib")) == empty / "model.joblib"


def test_an_address_that_nobody_here_can_fetch_from_is_refused(tmp_path):
    with pytest.raises(UsageError, match="models cannot be fetched from hf addresses here") as caught:
        ModelRegistry("http://127.0.0.1:9").folder("hf://team/model")
    assert "[storage.aliases]" in caught.value.remedy


@pytest.mark.parametrize("uri", ["models:/nope/1", "models:/nope@champion"])
def test_an_unknown_model_is_not_found(registry, uri):
    with pytest.raises(NotFoundError, match=f"the registry has no model {uri}"):
        registry.version(uri)
    with pytest.raises(NotFoundError):
        registry.folder(uri)


def test_an_unknown_version_or_alias_is_not_found(registry, register):
    name = register("run/1").name
    for uri in (f"models:/{name}/7", f"models:/{name}@nobody"):
        with pytest.raises(NotFoundError):
            registry.version(uri)


@pytest.mark.parametrize("uri", ["models:/", "models:/m", "models:/m/latest", "runs:/1", "m"])
def test_what_names_no_version_is_refused(registry, uri):
    with pytest.raises(UsageError, match="does not name a model version"):
        registry.version(uri)


def test_files_that_are_gone_are_told(registry):
    with pytest.raises(HeadraceError, match="the model's files cannot be had"):
        registry.folder("runs:/0123456789abcdef0123456789abcdef/model")


def test_a_server_that_refuses_connections_is_refused_at_once():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}"
        with pytest.raises(UsageError, match=f"{address}: MLflow does not answer: .*refused"):
            ModelRegistry(address).check()


def test_a_server_that_never_answers_is_given_up(monkeypatch):
    monkeypatch.setattr(models, "CHECK_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        registry = ModelRegistry(f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(UsageError, match="MLflow does not answer: timed out") as caught:
            registry.version("models:/m/1")
    assert caught.value.remedy == "Correct `mlflow` in headrace.toml, or leave it out for the embedded one."


def test_an_address_of_an_unknown_kind_is_refused():
    with pytest.raises(UsageError, match="postgresql://db: must be the URL of an MLflow server"):
        ModelRegistry("postgresql://db").check()


class Failing(http.server.BaseHTTPRequestHandler):
    """An MLflow server whose database is down: healthy to look at, 500 to everything else."""

    def do_GET(self):
        healthy = self.path == "/health"
        self.send_response(200 if healthy else 500)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"OK" if healthy else b"{}")

    def log_message(self, *words):
        pass


def test_a_failing_server_is_not_taken_for_an_empty_registry(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Failing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            registry = ModelRegistry(f"http://127.0.0.1:{server.server_address[1]}")
            for ask in (lambda: registry.version("models:/m/1"), lambda: registry.champion("m")):
                with pytest.raises(HeadraceError, match="MLflow") as caught:
                    ask()
                assert not isinstance(caught.value, NotFoundError)
        finally:
            server.shutdown()


# Dies at the n-th statement to the database.
DYING = """
import os, signal, sys
from sqlalchemy import Engine, event
from headrace.catalog.registry import ModelRegistry

left = int(sys.argv[2])

@event.listens_for(Engine, "before_cursor_execute")
def count(*_):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

ModelRegistry(f"sqlite:///{sys.argv[1]}").client
"""


@pytest.mark.parametrize("statement", [30, 120])
def test_one_that_was_killed_while_it_made_its_tables_is_made_anew(tmp_path, statement):
    place = tmp_path / "mlflow.db"
    died = subprocess.run([sys.executable, "-W", "ignore", "-c", DYING, str(place), str(statement)], check=False)
    assert died.returncode == -signal.SIGKILL
    assert not place.exists()
    again = [sys.executable, "-W", "ignore", "-c", DYING, str(place), "-1"]
    assert subprocess.run(again, check=False).returncode == 0
    assert sorted(file.name for file in tmp_path.glob("mlflow.db*")) == ["mlflow.db", "mlflow.db.lock"]


TOGETHER = """
import sys, threading
from headrace.catalog.registry import ModelRegistry, cards
registry = ModelRegistry(sys.argv[1])
asked = [lambda: registry.client, lambda: cards.models(registry), lambda: registry.version("models:/none/1")]
told = []
def ask(question):
    try:
        question()
    except Exception as error:
        told.append(type(error).__name__)
threads = [threading.Thread(target=ask, args=(question,)) for question in asked * 3]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(sorted(set(told)))
"""


def test_threads_that_come_first_at_the_same_time_all_find_a_whole_mlflow(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TOGETHER, f"sqlite:///{tmp_path}/mlflow.db"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout.strip(), done.returncode) == ("['NotFoundError']", 0), done.stderr[-2000:]
