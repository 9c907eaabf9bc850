from collections import defaultdict
from dataclasses import replace
from types import SimpleNamespace

import pytest

from headrace.contracts import rollout_document
from headrace.contracts.inference_service import InferenceService
from headrace.control.rollouts import rows
from headrace.control.rollouts.controller import RolloutController
from headrace.control.rollouts.request import Model, request
from headrace.serving import payload_log, revisions
from headrace.serving.evidence import Evidence
from headrace.serving.gateway import SHADOW, ArmCounts
from headrace.serving.payload_log import PayloadWriter
from headrace.store import events
from load.live import Live

ROLLOUT = """\
apiVersion: headrace.dev/v1alpha1
kind: Rollout
metadata: {{name: delay}}
spec:
  strategy: {{canary: {{scaleDownDelaySeconds: 60, steps: [{steps}]}}}}
  analysis: {{alpha: 0.05, interval: 1s, warmup: 2s, maxDuration: 60s, {more}metrics: [{metrics}]}}
"""
STEPS = "{setWeight: 5}, {analysis: {minRequests: 30}}, {setWeight: 50}, {analysis: {minRequests: 60}}"


class SetClock:
    """A clock that a test moves on."""

    def __init__(self):
        self.time = 1000.0

    def now(self):
        return self.time


class RecordingTraffic:
    """Stands in for Envoy: keeps the routes that it is told, and counts what the test says has been answered."""

    def __init__(self):
        self.routes = {}
        self.applied = []
        self.confirms = True
        self.answers = True
        self.life = 1
        self.asked = []
        self._requests = defaultdict(int)
        self._errors = defaultdict(int)
        self._slow = defaultdict(int)

    def start(self):
        pass

    def apply(self, routes):
        self.routes = {route.service: route for route in routes}
        self.applied.append(self.weights())
        return self.confirms

    def counts(self):
        if not self.answers:
            return {}
        return {
            name: ArmCounts(
                self._requests[name],
                self._errors[name],
                {100.0: self._requests[name] - self._slow[name], 60000.0: self._requests[name]},
            )
            for name in [*self.weights(), *(name + SHADOW for name in self.mirrored())]
        }

    def user_requests(self):
        told, self.asked = self.asked, []
        return told

    def epoch(self):
        return f"envoy-{self.life}"

    def serve(self, revision, requests, *, bad=0, slow=0):
        self._requests[revision] += requests
        self._errors[revision] += bad
        self._slow[revision] += slow

    def restart(self):
        self.life += 1
        for counter in (self._requests, self._errors, self._slow):
            counter.clear()

    def mirrored(self):
        """The share of the requests that each revision gets copies of."""
        return {r.mirror.arm.revision_id: r.mirror.percent for r in self.routes.values() if r.mirror}

    def weights(self):
        return {arm.revision_id: arm.weight for route in self.routes.values() for arm in route.arms}


class RecordingServers:
    """Stands in for model servers: a revision is in the state that the test says, ready when it says nothing."""

    def __init__(self, database):
        self.database = database
        self.states = {}
        self.dead = set()
        self.ports = {}
        self.up = {}

    def ensure(self, revision_id):
        found = revisions.get(self.database, revision_id)
        state = self.states.get(revision_id, "ready")
        port = self.ports.get(revision_id, 9000 + found.number) if state != "created" else None
        self.up[revision_id] = replace(found, state=state, port=port, message=self.states.get("message", ""))
        return self.up[revision_id]

    def stop(self, revision_id):
        return replace(self.up.pop(revision_id), state="stopped")

    def running(self):
        return list(self.up.values())

    def died(self, revision_id):
        return revision_id in self.dead


class Stage:
    """Where rollouts are walked: real rows, a clock to move, recorders for traffic and servers."""

    def __init__(self, home, database):
        self.home = home
        self.database = database
        self.clock = SetClock()
        self.traffic = RecordingTraffic()
        self.servers = RecordingServers(database)
        self.answers = {}
        self.revive()

    def query(self, metric, text):
        """What Prometheus would answer to a query; a test says it."""
        answer = self.answers[text]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def revive(self):
        """Throw the controller away and make another one."""
        self.controller = RolloutController(
            database=self.database,
            clock=self.clock,
            traffic=self.traffic,
            servers=self.servers,
            evidence=Evidence(self.home),
            query=self.query,
        )

    def request(
        self, steps=STEPS, *, service="delay", key=None, model="models:/m/1", metrics="{name: errors}", more=""
    ):
        return self.ask(ROLLOUT.format(steps=steps, metrics=metrics, more=more), service=service, key=key, model=model)

    def ask(self, text, *, service="delay", key=None, model="models:/m/1"):
        """Ask for the rollout that a document describes."""
        document = rollout_document.parse(text, "rollout.yaml")
        manifest = InferenceService(service, "default", "models:/m@champion", "mlflow", service, (), 1, 60.0)
        number = self.database.one("SELECT count(*) AS n FROM rollout")["n"]
        return request(
            self.database, service=manifest, rollout=document, model=Model(model, "/models/m"),
            key=key or f"key-{number}", actor="user:ann", reason="a better model", at=self.clock.now(),
        )  # fmt: skip

    def stable(self, service="delay"):
        """A service whose first revision serves."""
        first = self.request("", service=service, model=f"models:/{service}/1")
        self.step()
        assert self.row(first).state == "Healthy"

    def canary(self, steps=STEPS, **more):
        """A second revision, 5 % of the traffic, its counting begun."""
        self.stable()
        rollout = self.request(steps, **more)
        self.step()
        self.step(2)
        return rollout

    def step(self, seconds=0.0):
        self.clock.time += seconds
        return self.controller.one_pass()

    def window(self, canary=(0, 0), stable=(0, 0), service="delay", number=2):
        """A second of traffic: (requests, bad ones) of both arms; then a pass."""
        self.traffic.serve(f"{service}-{number:05}", canary[0], bad=canary[1])
        self.traffic.serve(f"{service}-00001", stable[0], bad=stable[1])
        return self.step(1)

    def row(self, rollout):
        return rows.rollout(self.database, rollout)

    def service(self, name="delay"):
        return rows.service(self.database, name)

    def totals(self, rollout, metric="errors"):
        found = rows.windows(self.database, rollout).get(metric, [])
        return SimpleNamespace(
            canary=(sum(w.canary_n for w in found), sum(w.canary_x for w in found)),
            stable=(sum(w.stable_n for w in found), sum(w.stable_x for w in found)),
            windows=found,
        )

    def told(self, rollout):
        return [event.kind for event in events.read(self.database, subject=f"rollout/{rollout}")]


@pytest.fixture
def stage(home, database, monkeypatch):
    # The log's writers wait so long between batches; a test that closes one would wait for nothing.
    monkeypatch.setattr("headrace.serving.payload_log.FLUSH_SECONDS", 0.001)
    return Stage(home, database)


@pytest.fixture
def both_predict(home):
    """Has revisions 1 and 2 of `delay` predict 1 four hundred times each; the ids are REVISION-NUMBER."""

    def predict():
        for number in (1, 2):
            writer = PayloadWriter(payload_log.path(home, "delay"), f"delay-0000{number}")
            for i in range(400):
                writer.add(f"{number}-{i}", 1)
            writer.close()

    return predict


@pytest.fixture
def live(home, database, tmp_path):
    """Rollouts over a real Envoy and real model servers."""
    live = Live(home, database, tmp_path)
    yield live
    live.close()
