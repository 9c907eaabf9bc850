import contextlib
import time

import pytest

from headrace.control.rollouts import actions, measurements, queries, rows
from headrace.serving import payload_log
from headrace.serving.gateway import SHADOW
from headrace.serving.payload_log import PayloadWriter

QUIET = ((0, 0), (0, 0))
GOOD = ((400, 2), (800, 4))
BAD = ((40, 8), (760, 0))


class PassDied(Exception):
    """Raised in the middle of a pass, as if the process had been killed there."""


class Fuse:
    """Lets the controller's pass die at its n-th write to the database or word to the traffic; once."""

    def __init__(self, stage, monkeypatch, left):
        self.left = left
        self.blown = False
        for place, name in (
            (rows, "advance"), (rows, "finish"), (rows, "hold"), (rows, "record_windows"),
            (stage.traffic, "apply"), (stage.traffic, "counts"), (stage.servers, "stop"),
            (measurements.Measurer, "_store"),
        ):  # fmt: skip
            monkeypatch.setattr(place, name, self._wrapped(getattr(place, name)))

    def _wrapped(self, function):
        def wrapped(*positional, **named):
            answer = function(*positional, **named)
            self.left -= 1
            if self.left == 0:
                self.blown = True
                raise PassDied
            return answer

        return wrapped


def _walk(stage, windows):
    """A rollout over these seconds of traffic; each pass is made by a controller that knows nothing of the last."""
    rollout = stage.request()
    for canary, stable in [QUIET, QUIET, QUIET, *windows, QUIET, QUIET]:
        stage.traffic.serve("delay-00002", canary[0], bad=canary[1])
        stage.traffic.serve("delay-00001", stable[0], bad=stable[1])
        stage.clock.time += 1
        for _ in range(3):
            stage.revive()
            with contextlib.suppress(PassDied):
                stage.step()
    return rollout


@pytest.mark.parametrize("place", range(1, 25))
@pytest.mark.parametrize(("windows", "state"), [([GOOD] * 4, "Healthy"), ([GOOD, BAD], "Degraded")])
def test_a_pass_that_dies_anywhere_is_taken_up_by_a_new_controller(stage, monkeypatch, windows, state, place):
    stage.stable()
    fuse = Fuse(stage, monkeypatch, place)
    rollout = _walk(stage, windows)
    assert fuse.blown
    assert stage.row(rollout).state == state
    serves = "delay-00002" if state == "Healthy" else "delay-00001"
    assert stage.service().stable == serves
    assert stage.traffic.weights() == {serves: 100}
    assert serves in [r.id for r in stage.servers.running()]
    story = stage.told(rollout)
    assert story[0] == "rollout.started"
    assert story.count(f"rollout.{state.lower()}") == 1
    assert story.count("rollout.judged") == len(queries.rollout_json(stage.database, rollout)["verdicts"])
    assert story.count("rollout.judged") <= 2
    # No request is counted twice, and none is lost that came before the end.
    counted = stage.totals(rollout).windows
    requests = [window[0][0] for window in windows][: len([w for w in counted if w.canary_n])]
    assert sum(w.canary_n for w in counted) == sum(requests)
    assert rows.latency(stage.database, rollout)["canary"][60000.0] == sum(requests)


# The other strategies

DOCUMENT = """\
apiVersion: headrace.dev/v1alpha1
kind: Rollout
metadata: {name: delay}
spec:
  strategy: STRATEGY
  analysis: {warmup: 0s, interval: 1s}
---
apiVersion: argoproj.io/v1alpha1
kind: AnalysisTemplate
metadata: {name: rate}
spec:
  metrics:
  - name: rate
    count: 2
    interval: 2s
    successCondition: result[0] >= 0.95
    provider: {prometheus: {address: "http://127.0.0.1:1", query: rate}}
"""
MEASURED = "{templates: [{templateName: rate}]}"
STRATEGIES = {
    "blueGreen": "{blueGreen: {autoPromotionEnabled: false, prePromotionAnalysis: %s, postPromotionAnalysis: %s}}"
    .replace("%s", MEASURED),
    "abTest": "{abTest: {sticky: {header: x-user-id}, minSamples: 1000, metric: {name: bought}}}",
    "shadow": "{shadow: {minRequests: 100, maxDisagreement: 0.1, promote: true}}",
}  # fmt: skip


class Traffic:
    """A second of what users and shadows do, for each strategy; `good` or not."""

    def __init__(self, stage, good):
        self.stage, self.good, self.second = stage, good, 0

    def __call__(self, strategy):
        self.second += 1
        self.stage.traffic.serve("delay-00001", 400)
        if strategy == "abTest":
            self.stage.traffic.serve("delay-00002", 400)
            self._log(2, 400, "", lambda i: i % 2 == 0 if self.good else i % 10 == 0)
            self._log(1, 400, "", lambda i: i % 4 == 0)
        if strategy == "shadow":
            self.stage.traffic.serve("delay-00002" + SHADOW, 400)
            self._log(1, 400, "", None)
            self._log(2, 400, SHADOW, None, differing=0 if self.good else 200)

    def _log(self, number, count, suffix, bought, differing=0):
        home = self.stage.home
        writer = PayloadWriter(payload_log.path(home, "delay"), f"delay-0000{number}")
        names = [f"{self.second}-{i}" if bought is None else f"{self.second}-{number}-{i}" for i in range(count)]
        for i, name in enumerate(names):
            writer.add(name + suffix, int(i >= differing))
        writer.close()
        if bought:
            labels = [(name, bool(bought(i))) for i, name in enumerate(names)]
            payload_log.record_labels(home, "delay", labels, at=self.stage.clock.now())


def _pass_anew(stage):
    """A pass by a controller that knows nothing of the last, which may die; then what it has asked is answered."""
    stage.revive()
    for _ in range(2):
        with contextlib.suppress(PassDied):
            stage.step()
        for future in list(stage.controller.measurer._asked.values()):
            deadline = time.monotonic() + 10
            while not future.done() and time.monotonic() < deadline:
                time.sleep(0.001)


@pytest.mark.parametrize("place", [1, 2, 3, 4, 5, 6, 7, 8, 10])
@pytest.mark.parametrize("good", [True, False])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_goes_on_wherever_a_pass_dies(stage, monkeypatch, strategy, good, place):
    stage.answers["rate"] = ["0.99"] if good else ["0.1"]
    stage.stable()
    fuse = Fuse(stage, monkeypatch, place)
    rollout = stage.ask(DOCUMENT.replace("STRATEGY", STRATEGIES[strategy]), model="models:/m/2")
    second = Traffic(stage, good)
    for _ in range(12):
        stage.clock.time += 1
        _pass_anew(stage)
        if stage.row(rollout).finished_at:
            break
        if stage.row(rollout).state == "Paused":
            actions.promote(stage.database, rollout, actor="user:ann", reason="", at=stage.clock.now())
        if stage.row(rollout).traffic_since is not None and strategy != "blueGreen":
            second(strategy)
    for _ in range(3):
        _pass_anew(stage)
    state = "Healthy" if good else "Degraded"
    row = stage.row(rollout)
    assert row.state == state, row.message
    serves = "delay-00002" if good else "delay-00001"
    assert (stage.service().stable, stage.traffic.weights()) == (serves, {serves: 100})
    assert stage.traffic.mirrored() == {}
    assert stage.traffic.routes["delay"].preview is None
    story = stage.told(rollout)
    assert story.count(f"rollout.{state.lower()}") == 1
    assert story.count("rollout.judged") == len(queries.rollout_json(stage.database, rollout)["verdicts"])
    for step in {one["step"] for one in queries.rollout_json(stage.database, rollout)["measurements"]}:
        assert len(measurements.read(stage.database, rollout, step)["rate/rate"]) <= 2
    # No value and no pair is counted twice.
    for metric, most in (("bought", 400 * second.second), ("disagreement", 400 * second.second)):
        assert stage.totals(rollout, metric).canary[0] <= most
    assert fuse.blown


WATCHED = """\
apiVersion: headrace.dev/v1alpha1
kind: Rollout
metadata: {name: delay}
spec:
  strategy: {canary: {steps: [{setWeight: 50}, {pause: {duration: 1s}}]}}
  analysis: {warmup: 0s, interval: 1s}
  watch: {duration: 60s}
"""


@pytest.mark.parametrize("place", [1, 2, 3, 4, 5, 6])
def test_a_watch_goes_on_wherever_a_pass_dies(stage, monkeypatch, home, place, both_predict):
    monkeypatch.setattr("headrace.serving.payload_log.time.time", lambda: stage.clock.time)
    stage.stable()
    rollout = stage.ask(WATCHED, model="models:/m/2")
    stage.step()
    both_predict()
    for _ in range(3):
        stage.step(1)
    assert stage.row(rollout).watch_until is not None
    labels = [(f"{n}-{i}", 0 if n == 2 and i < 200 else 1) for n in (1, 2) for i in range(400)]
    payload_log.record_labels(home, "delay", labels, at=stage.clock.now())
    fuse = Fuse(stage, monkeypatch, place)
    for _ in range(4):
        stage.clock.time += 1
        _pass_anew(stage)
    assert fuse.blown
    assert stage.row(rollout).state == "Degraded"
    assert (stage.service().stable, stage.traffic.weights()) == ("delay-00001", {"delay-00001": 100})
    assert stage.totals(rollout, "labels").canary == (400, 200)
    story = stage.told(rollout)
    assert (story.count("rollout.judged"), story.count("rollout.degraded")) == (1, 1)
    assert len(queries.list_rollouts(stage.database)) == 3
