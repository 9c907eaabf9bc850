import warnings

import pytest

from headrace.catalog.registry import ModelRegistry
from headrace.control.rollouts import actions
from headrace.control.rollouts.announcer import Announcer
from headrace.errors import NotFoundError, UsageError
from headrace.serving import payload_log
from headrace.store import events

BAD = {"canary": (40, 8), "stable": (760, 0)}


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """MLflow's embedded registry, with its tables made."""
    registry = ModelRegistry(f"sqlite:///{tmp_path_factory.mktemp('registry') / 'mlflow.db'}")
    with warnings.catch_warnings():
        # MLflow and its libraries warn of each other while they are imported and make the tables.
        warnings.simplefilter("ignore")
        _ = registry.client
    return registry


@pytest.fixture
def versions(registry, tmp_path, request):
    """Two versions of a model of this test's own, as `models:/NAME/1` and `models:/NAME/2`."""
    (tmp_path / "model.pkl").write_bytes(b"weights")
    name = request.node.name[-60:]
    return [
        registry.register(name, tmp_path, key=key, run_name="r", parameters={}, metrics={}, tags={}).uri
        for key in ("1", "2")
    ]


@pytest.fixture
def announcer(stage, registry):
    return Announcer(stage.database, stage.clock, registry)


def _tags(registry, uri):
    return registry.version(uri).tags


def _told(stage):
    return [(e.kind, e.data["state"]) for e in events.read(stage.database, kinds=["registry.told", "registry.failed"])]


def _champion(registry, uri):
    found = registry.champion(uri.split("/")[1])
    return found.uri if found else None


def test_what_is_healthy_becomes_the_champion_and_is_told_once(stage, announcer, registry, versions):
    rollout = stage.request("", model=versions[0])
    assert announcer.one_pass() > 0
    assert _champion(registry, versions[0]) is None, "not finished yet"
    stage.step()
    announcer.one_pass()
    assert _champion(registry, versions[0]) == versions[0]
    assert stage.row(rollout).registry_told
    announcer.one_pass()
    assert _told(stage) == [("registry.told", "Healthy")]


def test_what_was_rolled_back_is_marked_with_the_reason_and_the_champion_stays(stage, announcer, registry, versions):
    stage.request("", model=versions[0])
    stage.step()
    rollout = stage.request(model=versions[1])
    stage.step()
    stage.step(2)
    stage.window(**BAD)
    announcer.one_pass()
    assert _champion(registry, versions[0]) == versions[0]
    assert _tags(registry, versions[1])["headrace.rollout"] == "failed"
    assert _tags(registry, versions[1])["headrace.reason"] == stage.row(rollout).message
    assert _told(stage) == [("registry.told", "Healthy"), ("registry.told", "Degraded")]


def test_what_a_person_aborted_is_no_verdict_on_the_model(stage, announcer, registry, versions):
    rollout = stage.request(model=versions[1])
    actions.abort(stage.database, rollout, actor="user:ann", reason="", at=1.0)
    announcer.one_pass()
    assert "headrace.rollout" not in _tags(registry, versions[1])
    assert registry.version(f"{versions[1].rsplit('/', 1)[0]}@challenger").uri == versions[1]
    assert _told(stage) == [("registry.told", "Aborted")]


def test_after_a_rollback_the_champion_is_the_version_before(stage, announcer, registry, versions):
    for version in versions:
        stage.request("", model=version)
        stage.step()
        stage.clock.time += 1
    announcer.one_pass()
    assert _champion(registry, versions[1]) == versions[1]
    actions.rollback(stage.database, "delay", actor="user:ann", reason="", at=stage.clock.now())
    stage.step()
    announcer.one_pass()
    assert _champion(registry, versions[0]) == versions[0]


def test_a_model_that_is_only_a_folder_has_no_registry_to_tell(stage, announcer):
    rollout = stage.request("", model="/models/delay")
    stage.step()
    announcer.one_pass()
    assert stage.row(rollout).registry_told


def test_a_registry_that_does_not_answer_is_told_later(stage, announcer, registry, versions):
    rollout = stage.request("", model=versions[0])
    stage.step()
    silent = Announcer(stage.database, stage.clock, ModelRegistry("http://127.0.0.1:9"))
    with pytest.raises(UsageError, match="MLflow does not answer"):
        silent.one_pass()
    assert not stage.row(rollout).registry_told
    announcer.one_pass()
    assert stage.row(rollout).registry_told
    assert _champion(registry, versions[0]) == versions[0]


def test_a_version_that_was_deleted_does_not_hold_up_the_others(stage, announcer, registry, versions):
    stage.request("", model=versions[0])
    stage.request("", service="price", model=versions[1])
    stage.step()
    registry.client.delete_model_version(versions[0].split("/")[1], "1")
    with pytest.raises(NotFoundError):
        registry.version(versions[0])
    announcer.one_pass()
    announcer.one_pass()
    assert _champion(registry, versions[1]) == versions[1]
    assert sorted(_told(stage)) == [("registry.failed", "Healthy"), ("registry.told", "Healthy")]
    (failed,) = events.read(stage.database, kinds=["registry.failed"])
    assert failed.reason == f"the registry has no model {versions[0]}"


WATCHED = """\
apiVersion: headrace.dev/v1alpha1
kind: Rollout
metadata: {name: delay}
spec:
  strategy: {canary: {steps: [{setWeight: 50}, {pause: {duration: 1s}}]}}
  analysis: {warmup: 0s, interval: 1s}
  watch: {duration: 60s}
"""
SHADOW = """\
apiVersion: headrace.dev/v1alpha1
kind: Rollout
metadata: {name: delay}
spec: {strategy: {shadow: {percent: 100}}}
"""


def test_what_a_watch_has_rolled_back_is_marked_and_the_champion_is_the_one_before(
    stage, announcer, registry, versions, home, monkeypatch, both_predict
):
    monkeypatch.setattr("headrace.serving.payload_log.time.time", lambda: stage.clock.time)
    stage.request("", model=versions[0])
    stage.step()
    rollout = stage.ask(WATCHED, model=versions[1])
    stage.step()
    both_predict()
    for _ in range(3):
        stage.step(1)
    announcer.one_pass()
    assert _champion(registry, versions[0]) == versions[1]
    labels = [(f"{n}-{i}", 0 if n == 2 and i < 200 else 1) for n in (1, 2) for i in range(400)]
    payload_log.record_labels(home, "delay", labels, at=stage.clock.now())
    stage.step(1)
    stage.step()
    assert stage.row(rollout).state == "Degraded"
    announcer.one_pass()
    assert _champion(registry, versions[0]) == versions[0]
    assert any("200 of 400 canary requests were wrong" in value for value in _tags(registry, versions[1]).values())


def test_a_shadow_that_is_not_promoted_is_no_champion(stage, announcer, registry, versions):
    stage.request("", model=versions[0])
    stage.step()
    rollout = stage.ask(SHADOW, model=versions[1])
    stage.step()
    actions.promote(stage.database, rollout, actor="user:ann", reason="", at=stage.clock.now())
    stage.step()
    assert (stage.row(rollout).state, stage.row(rollout).weight) == ("Healthy", 0)
    announcer.one_pass()
    assert _champion(registry, versions[0]) == versions[0]
