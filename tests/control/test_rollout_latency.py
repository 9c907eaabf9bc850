"""How long the requests of both arms took, kept with the rollout."""

import os
import signal
import time
from dataclasses import replace

import httpx
import pytest

from headrace.control.rollouts import actions, queries, rows

STEPS = "{setWeight: 5}, {pause: {}}"
PATIENCE_SECONDS = 60


def _latency(stage, rollout):
    return queries.rollout_json(stage.database, rollout)["latency"]


def _requests(stage, rollout):
    """Requests of (canary, stable) whose latency is known."""
    found = _latency(stage, rollout)
    return tuple(found[arm]["requests"] if found[arm] else 0 for arm in ("canary", "stable"))


def _serve(stage, canary, stable, slow=0):
    stage.traffic.serve("delay-00002", canary, slow=slow)
    stage.traffic.serve("delay-00001", stable)
    stage.step(1)


def test_both_arms_latencies_are_kept_also_when_the_rollout_is_over(stage):
    stage.stable()
    stage.traffic.serve("delay-00001", 5000, slow=5000)
    rollout = stage.request(STEPS)
    stage.step()
    stage.step(2)
    assert _latency(stage, rollout) == {"canary": None, "stable": None}, "what came before it is not its own"
    for _ in range(3):
        _serve(stage, 100, 1000, slow=50)
    found = _latency(stage, rollout)
    # Half of the canary's are within 100 ms, the others between that and a minute.
    assert found["canary"]["requests"] == 300
    assert found["canary"]["p50"] == 100.0
    assert found["canary"]["p90"] == pytest.approx(100 + 0.8 * 59900)
    assert found["stable"] == {"p50": 50.0, "p90": 90.0, "p99": pytest.approx(99.0), "requests": 3000}
    actions.promote(stage.database, rollout, actor="user:ann", reason="", at=stage.clock.now())
    stage.step()
    stage.traffic.serve("delay-00002", 700)
    stage.step(1)
    assert stage.row(rollout).state == "Healthy"
    assert _latency(stage, rollout) == found


def test_an_envoy_that_starts_anew_loses_and_doubles_nothing(stage):
    rollout = stage.canary(STEPS)
    _serve(stage, 100, 1900)
    stage.traffic.restart()
    _serve(stage, 5, 95)
    assert _requests(stage, rollout) == (105, 1995)
    stage.traffic.restart()
    _serve(stage, 300, 5700)
    assert _requests(stage, rollout) == (405, 7695), "also when it has overtaken the one before"
    stage.step(1)
    assert _requests(stage, rollout) == (405, 7695)


def test_a_histogram_that_is_filled_later_than_the_counters_is_counted_when_it_is(stage, monkeypatch):
    rollout = stage.canary(STEPS)
    counts, held = stage.traffic.counts, {}
    monkeypatch.setattr(
        stage.traffic, "counts",
        lambda: {name: replace(arm, buckets=held.get(name, {})) for name, arm in counts().items()},
    )  # fmt: skip
    _serve(stage, 40, 760)
    assert (_requests(stage, rollout), stage.totals(rollout).canary) == ((0, 0), (40, 0))
    held.update({name: arm.buckets for name, arm in counts().items()})
    _serve(stage, 10, 190)
    assert (_requests(stage, rollout), stage.totals(rollout).canary) == ((40, 760), (50, 0))


def test_while_nothing_can_be_counted_nothing_is_lost(stage):
    rollout = stage.canary(STEPS)
    _serve(stage, 40, 760)
    stage.traffic.answers = False
    _serve(stage, 40, 760)
    stage.traffic.answers = True
    _serve(stage, 40, 760)
    assert _requests(stage, rollout) == (120, 2280)


def test_of_a_rollout_that_was_begun_before_latencies_were_kept_only_the_rest_is_known(stage):
    rollout = stage.canary(STEPS)
    _serve(stage, 40, 760)
    with stage.database.transaction() as connection:
        connection.execute("UPDATE rollout SET counted = json_remove(counted, '$.took') WHERE id = ?", (rollout,))
        connection.execute("DELETE FROM rollout_latency")
    _serve(stage, 40, 760)
    assert _latency(stage, rollout) == {"canary": None, "stable": None}
    _serve(stage, 3, 7)
    assert _requests(stage, rollout) == (3, 7)


@pytest.mark.parametrize("strategy", ["{blueGreen: {}}", "{canary: {steps: []}}"])
def test_of_what_is_not_counted_nothing_is_known(stage, strategy):
    stage.stable()
    document = "apiVersion: headrace.dev/v1alpha1\nkind: Rollout\nmetadata: {name: delay}\nspec: {strategy: %s}\n"
    rollout = stage.ask(document.replace("%s", strategy), model="models:/m/2")
    for _ in range(5):
        _serve(stage, 10, 10)
    assert stage.row(rollout).state == "Healthy"
    assert _latency(stage, rollout) == {"canary": None, "stable": None}


def test_a_shadows_latency_is_that_of_the_copies(stage):
    stage.stable()
    document = (
        "apiVersion: headrace.dev/v1alpha1\nkind: Rollout\nmetadata: {name: delay}\n"
        "spec: {strategy: {shadow: {minRequests: 1000}}, analysis: {warmup: 0s, interval: 1s}}\n"
    )
    rollout = stage.ask(document, model="models:/m/2")
    for _ in range(3):
        stage.step(1)
    stage.traffic.serve("delay-00002/shadow", 30)
    stage.traffic.serve("delay-00001", 60)
    stage.step(1)
    assert _requests(stage, rollout) == (30, 60)


@pytest.mark.slow
def test_a_real_envoy_that_is_killed_in_the_middle_loses_and_doubles_no_latency(live):
    live.first()
    rollout = live.deploy(1, "{canary: {steps: [{setWeight: 50}, {pause: {}}]}}", "  analysis: {warmup: 0s}\n")
    live.until(rollout, "Paused")
    _until(lambda: rows.rollout(live.database, rollout).counted)
    sent = _send(live, 60)
    _until(lambda: sum(_requests(live, rollout)) == sent)
    os.kill(int(live.gateway.epoch().split("-")[0]), signal.SIGKILL)
    _until(lambda: _send(live, 1))
    sent += 1 + _send(live, 40)
    _until(lambda: sum(_requests(live, rollout)) == sent)
    found = _latency(live, rollout)
    actions.promote(live.database, rollout, actor="user:ann", reason="", at=live.clock.now())
    live.until(rollout, "Healthy")
    assert _latency(live, rollout) == found
    for arm in found.values():
        assert 0 < arm["p50"] <= arm["p90"] <= arm["p99"] <= 60_000
    assert live.problems == []


def _send(live, times):
    """Ask so many times; how many a revision has answered."""
    url = f"http://127.0.0.1:{live.gateway.port}/v1/models/delay:predict"
    answered = 0
    for _ in range(times):
        try:
            told = httpx.post(url, json={"instances": [[0.0, 1.0]]}, timeout=PATIENCE_SECONDS)
        except httpx.TransportError:
            continue
        answered += "x-headrace-revision" in told.headers
    return answered


def _until(happened):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := happened()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
    return found
