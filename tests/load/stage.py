"""A project with one service and `headrace up` on ports of its own, driven by what a person has: commands and HTTP."""

import json
import os
import signal
import subprocess
import sys
import time

import httpx

from headrace.ports import free_port
from load import models

API = "/apis/headrace/v1"
PATIENCE_SECONDS = 180
PROJECT = """\
[project]
name = "load"

[services.delay]
manifest = "delay.yaml"
rollout = "rollout.yaml"
"""
SERVICE = """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: delay}
spec: {predictor: {timeout: 10, model: {modelFormat: {name: mlflow}, storageUri: models:/delay@champion}}}
"""
CANARY = """\
apiVersion: headrace.dev/v1alpha1
kind: Rollout
metadata: {name: delay}
spec:
  strategy:
    canary:
      sticky: {header: x-user-id}
      steps: [{setWeight: 10}, {pause: {}}, {setWeight: 50}, {pause: {}}]
"""
BLUE_GREEN = """\
apiVersion: headrace.dev/v1alpha1
kind: Rollout
metadata: {name: delay}
spec: {strategy: {blueGreen: {autoPromotionEnabled: false}}}
"""


FILES = {"headrace.toml": PROJECT, "delay.yaml": SERVICE, "rollout.yaml": CANARY}


class Stage:
    """What the story is played on: a project of these files, and models for it."""

    def __init__(self, folder, files=FILES, make_models=models.save_two):
        self.folder = folder
        self.ports = {"--port": free_port(), "--gateway-port": free_port(), "--mlflow-port": free_port()}
        self.gateway = self.ports["--gateway-port"]
        self.log = folder / "up.log"
        self._up = None
        for name, text in files.items():
            (folder / name).write_text(text)
        self.models = make_models(folder)
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{self.ports['--port']}{API}", timeout=30)

    def up(self):
        """Start `headrace up` and wait until it answers."""
        words = [str(word) for pair in self.ports.items() for word in pair]
        with self.log.open("ab") as log:
            self._up = subprocess.Popen(
                self._command("up", *words), cwd=self.folder, env=self._environment(), stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self.wait(self._answers)

    def kill(self):
        """SIGKILL to the controller: nothing is tidied up."""
        self._up.kill()
        self._up.wait()

    def close(self):
        """End what was started."""
        if self._up is not None and self._up.poll() is None:
            self._up.send_signal(signal.SIGTERM)
            self._up.wait(timeout=PATIENCE_SECONDS)
        self._http.close()

    def command(self, *arguments):
        """What a command prints with --json."""
        done = subprocess.run(
            self._command(*arguments, "--json"), cwd=self.folder, env=self._environment(), capture_output=True,
            text=True, check=False, timeout=PATIENCE_SECONDS,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"headrace {' '.join(arguments)}: {done.returncode}: {done.stderr}")
        return json.loads(done.stdout)

    def deploy(self, model, document=CANARY):
        """Ask for a rollout to one of the models; its id."""
        (self.folder / "rollout.yaml").write_text(document)
        return self.command("deploy", "delay", "--model", str(self.models[model]))["id"]

    def rollout(self, rollout):
        """A rollout as the API tells it; None while it does not answer."""
        try:
            answer = self._http.get(f"/rollouts/{rollout}")
        except httpx.HTTPError:
            return None
        return answer.json() if answer.status_code == 200 else None

    def until(self, rollout, state, weight=None):
        """Wait for a rollout's state and weight."""
        return self.wait(
            lambda: (
                (found := self.rollout(rollout))
                and found["state"] == state
                and weight in (None, found["weight"])
                and found
            )
        )

    def server_of(self, revision):
        """The process of a revision's model server; None while there is none."""
        import psutil

        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or []
            if revision in words and any(str(self.folder) in word for word in words):
                return process
        return None

    def wait(self, happened):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (found := happened()):
            if time.monotonic() > deadline:
                raise RuntimeError(f"it does not come about; the server's log: {self.log.read_text()[-2000:]}")
            time.sleep(0.05)
        return found

    def _answers(self):
        try:
            return httpx.get(f"http://127.0.0.1:{self.ports['--port']}/healthz").status_code == 200
        except httpx.HTTPError:
            return False

    def serves(self, name="delay"):
        """Whether the gateway answers with a prediction's status."""
        try:
            return httpx.get(f"http://127.0.0.1:{self.gateway}/v1/models/{name}").status_code == 200
        except httpx.HTTPError:
            return False

    def _command(self, *arguments):
        return [sys.executable, "-m", "headrace.cli.main", *arguments]

    def _environment(self):
        return {**os.environ, "HEADRACE_HOME": str(self.folder / "home"), "OMP_NUM_THREADS": "1"}
