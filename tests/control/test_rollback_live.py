"""A rollback over a real Envoy and real model servers, under load: no request fails, and it takes a moment."""

import os
import signal
import threading
import time

import httpx
import pytest

from headrace.clock import SystemClock
from headrace.contracts import rollout as rollout_document
from headrace.contracts.inference_service import InferenceService
from headrace.control.rollouts import actions, rows
from headrace.control.rollouts.controller import RolloutController
from headrace.control.rollouts.request import Model, request
from headrace.ports import free_port
from headrace.serving.evidence import Evidence
from headrace.serving.gateway import Gateway
from headrace.serving.revisions import RevisionServers
from load import models
from load.clients import Load

DOCUMENT = """\
apiVersion: headrace.dev/v1alpha1
kind: Rollout
metadata: {name: delay}
spec: {strategy: {canary: {sticky: {header: x-user-id}, steps: [STEPS]}}}
"""
PATIENCE_SECONDS = 120


class Live:
    """The rollout loop in a thread, as the server runs it."""

    def __init__(self, home, database, folder):
        self.database, self.clock = database, SystemClock()
        self.gateway = Gateway(home, free_port())
        self.servers = RevisionServers(home, database, self.clock)
        self.folders = [models.save(folder / f"model-{answer}", answer) for answer in (0, 1)]
        self.controller = RolloutController(
            database=database, clock=self.clock, traffic=self.gateway, servers=self.servers, evidence=Evidence(home)
        )
        self.problems = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while not self._stop.is_set():
            try:
                self._stop.wait(self.controller.look())
            except Exception as error:  # noqa: BLE001 - a test asserts that there is none
                self.problems.append(error)
                self._stop.wait(0.5)

    def deploy(self, number, steps=""):
        document = rollout_document.parse(DOCUMENT.replace("STEPS", steps), "rollout.yaml")
        manifest = InferenceService("delay", "default", "models:/m@champion", "mlflow", "delay", (), 1, 10.0)
        return request(
            self.database, service=manifest, rollout=document, model=Model(f"m/{number}", str(self.folders[number])),
            key=f"{time.time()}", actor="user:ann", reason="", at=self.clock.now(),
        )  # fmt: skip

    def first(self):
        """A first revision that answers."""
        self.until(self.deploy(0), "Healthy")
        deadline = time.monotonic() + PATIENCE_SECONDS
        while httpx.get(f"http://127.0.0.1:{self.gateway.port}/v1/models/delay").status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def until(self, rollout, state, step=None):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (row := rows.rollout(self.database, rollout)).state != state or (step is not None and row.step != step):
            assert time.monotonic() < deadline, row
            assert row.state in (state, "Progressing", "Paused"), row
            time.sleep(0.01)
        return row

    def close(self):
        self._stop.set()
        self._thread.join()
        self.gateway.stop()
        running = self.servers.running()
        for revision in running:
            self.servers.stop(revision.id)
        self.servers.await_end([revision.id for revision in running], seconds=10)
        self.servers._reap()


@pytest.fixture
def live(home, database, tmp_path):
    live = Live(home, database, tmp_path)
    yield live
    live.close()


@pytest.mark.slow
def test_the_revision_before_comes_back_under_load_without_a_failed_request(live):
    live.first()
    with Load(live.gateway.port, rate=100, users=50, threads=8) as load:
        load.await_more(100)
        canary = live.deploy(1, "{setWeight: 20}, {pause: {}}")
        live.until(canary, "Paused")
        load.await_more(200)
        actions.promote(live.database, canary, actor="user:ann", reason="", at=live.clock.now())
        live.until(canary, "Healthy")
        load.await_more(200)
        before = time.time()
        back = actions.rollback(live.database, "delay", actor="user:ann", reason="", at=live.clock.now())
        live.until(back, "Healthy")
        load.await_more(300)
        assert {one.revision for one in load.sent[-100:]} == {"delay-00001"}
        # And in the middle of a canary.
        third = live.deploy(1, "{setWeight: 50}, {pause: {}}")
        live.until(third, "Paused")
        load.await_more(100)
        assert actions.rollback(live.database, "delay", actor="user:ann", reason="", at=live.clock.now()) == third
        load.await_more(300)
        assert {one.revision for one in load.sent[-100:]} == {"delay-00001"}
    assert [one for one in load.sent if one.failed] == []
    assert live.problems == []
    assert {one.arm for one in load.sent} == {"stable", "canary"}
    # Each user of a sticky canary has one revision while its weight stands.
    of_users = {}
    for one in load.between(0, before):
        if one.arm == "canary":
            of_users.setdefault(one.user, set()).add(one.revision)
    assert of_users
    assert all(len(seen) == 1 for seen in of_users.values())


@pytest.mark.slow
def test_a_canary_whose_server_is_killed_fails_at_once_and_the_stable_revision_fails_nobody(live):
    live.first()
    with Load(live.gateway.port, rate=100, users=50, threads=8) as load:
        canary = live.deploy(1, "{setWeight: 20}, {pause: {}}")
        live.until(canary, "Paused")
        load.await_more(200)
        (revision,) = [r for r in live.servers.running() if r.id == "delay-00002"]
        os.kill(revision.pid, signal.SIGKILL)
        row = live.until(canary, "Degraded")
        load.await_more(200)
    assert row.message == "the server of delay-00002 died while it had traffic"
    failed = [one for one in load.sent if one.failed]
    assert {one.arm for one in failed} <= {"canary"}
    assert all(one.at <= row.finished_at + 1 for one in failed)
    assert {one.revision for one in load.sent[-100:]} == {"delay-00001"}
