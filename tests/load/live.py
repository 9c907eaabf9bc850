"""The rollout loop over a real Envoy and real model servers, in this process."""

import threading
import time

import httpx

from headrace.clock import SystemClock
from headrace.contracts import rollout_document
from headrace.contracts.inference_service import InferenceService
from headrace.control.rollouts import rows
from headrace.control.rollouts.controller import RolloutController
from headrace.control.rollouts.request import Model, request
from headrace.ports import free_port
from headrace.serving.evidence import Evidence
from headrace.serving.gateway import Gateway
from headrace.serving.revisions import RevisionServers
from load import models

DOCUMENT = """\
apiVersion: headrace.dev/v1alpha1
kind: Rollout
metadata: {name: delay}
spec:
  strategy: STRATEGY
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

    def deploy(self, number, strategy="{canary: {steps: []}}", more=""):
        """Ask for a rollout to one of the models; its id."""
        document = rollout_document.parse(DOCUMENT.replace("STRATEGY", strategy) + more, "rollout.yaml")
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
