"""The server is killed with SIGKILL in training and in the middle of a canary; `headrace up` goes on where it was."""

import time

import pytest

from flights import push_april, serve_january
from headrace.cli.demo.narrator import Narrator
from headrace.cli.demo.replay import Replay
from headrace.cli.demo.stage import Stage
from headrace.store import events
from headrace.store.database import Database
from headrace.store.home import Home

pytestmark = pytest.mark.slow
FINAL = ("task.succeeded", "task.cached")


@pytest.fixture
def stage(tmp_path):
    stage = Stage(tmp_path, Narrator(quiet=True))
    yield stage
    if not stage.is_up():
        stage.up()
    stage.close()


@pytest.fixture
def database(stage):
    database = Database(Home(stage.project / ".headrace").database)
    yield database
    database.close()


@pytest.fixture
def replay(stage):
    replay = Replay(predict_url=stage.predict_url, labels_url=stage.labels_url, rate=30, label_delay=1)
    yield replay
    replay.stop()


def test_run_and_rollout_go_on_after_the_server_was_killed_and_nothing_finished_runs_twice(stage, database, replay):
    serve_january(stage, replay)

    run = when_april_is_pushed(stage)
    wait(lambda: task_state(database, run, "train") == "RUNNING")
    stage.kill()
    done_before = finished(database, run)
    time.sleep(2)
    stage.up()
    then_the_run_waits_at_its_gate(stage, run)
    done = finished(database, run)
    assert done_before
    assert done[: len(done_before)] == done_before
    assert len(set(done)) == len(done), "a finished task ran again"

    approve(stage)
    rollout = stage.wait("the canary takes traffic", lambda: weight_in_force(stage, 25), seconds=120)
    stage.kill()
    weights_before = weights(database, rollout)
    down = time.time()
    time.sleep(3)
    answered_while_down = {one.revision for one in replay.between(down, time.time())}
    stage.up()
    ended = stage.wait("the rollout ends", lambda: finished_rollout(stage, rollout), seconds=200)
    assert ended["state"] == "Healthy"
    assert weights_before == [5, 25]
    assert weights(database, rollout) == [5, 25, 50]
    assert answered_while_down == {"delay-00001", "delay-00002"}, "the weights stay in force"

    replay.stop()
    assert replay.sent
    assert [one for one in replay.sent if one.failed] == [], "no client saw a failure"


def when_april_is_pushed(stage):
    commit = push_april(stage)
    runs = stage.wait(
        "the run", lambda: [r for r in stage.get("/runs") if r["commit"] == commit] or None, seconds=30
    )  # fmt: skip
    return runs[0]["run_id"]


def then_the_run_waits_at_its_gate(stage, run):
    stage.wait("the gate", lambda: stage.get(f"/runs/{run}")["state"] == "PAUSED" or None, seconds=120)


def approve(stage):
    (gate,) = stage.get("/gates", state="waiting")
    stage.post(f"/gates/{gate['id']}:approve", {"actor": "test", "reason": "the story goes on"})


def weight_in_force(stage, weight):
    newest = stage.get("/rollouts", limit=1)[0]
    return newest["id"] if newest["weight"] == weight else None


def finished_rollout(stage, rollout):
    found = stage.get(f"/rollouts/{rollout}")
    return found if found["finished_at"] else None


def weights(database, rollout):
    told = events.read(database, subject=f"rollout/{rollout}", kinds=["rollout.weight"])
    return [event.data["weight"] for event in told]


def finished(database, run):
    """The tasks of a run that ended well, in order, as often as it happened."""
    told = events.read(database, kinds=FINAL)
    return [event.subject for event in told if event.subject.startswith(f"run/{run}/")]


def task_state(database, run, path):
    row = database.one("SELECT state FROM task WHERE run_id = ? AND path = ?", (run, path))
    return row and row["state"]


def wait(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.003)
