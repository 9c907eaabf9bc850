"""Rollouts over a real Envoy and real model servers, under load: no request fails by them."""

import os
import signal
import time

import httpx
import pytest

from headrace.control.rollouts import actions, queries
from headrace.control.rollouts.verification import verify
from load.clients import Load

CANARY = "{canary: {sticky: {header: x-user-id}, steps: [{setWeight: SHARE}, {pause: {}}]}}"


@pytest.mark.slow
def test_the_revision_before_comes_back_under_load_without_a_failed_request(live):
    live.first()
    with Load(live.gateway.port, rate=100, users=50, threads=8) as load:
        load.await_more(100)
        canary = live.deploy(1, CANARY.replace("SHARE", "20"))
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
        third = live.deploy(1, CANARY.replace("SHARE", "50"))
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
        canary = live.deploy(1, CANARY.replace("SHARE", "20"))
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


SHADOW = "{shadow: {percent: 100, minRequests: 100, maxDisagreement: 0.2, promote: true}}"
QUICK = "  analysis: {interval: 1s, warmup: 1s, metrics: [{name: errors, budget: 0.5, minEffect: 0.2}]}\n"


@pytest.mark.slow
def test_a_shadows_answers_are_compared_with_those_that_were_sent(live):
    live.first()
    with Load(live.gateway.port, rate=60, users=50, threads=8) as load:
        load.await_more(50)
        differs = live.deploy(1, SHADOW, QUICK)
        row = live.until(differs, "Degraded")
        assert "answers differ (100.0%)" in row.message
        assert {one.revision for one in load.sent} == {"delay-00001"}
        agrees = live.deploy(0, SHADOW, QUICK)
        row = live.until(agrees, "Healthy")
        load.await_more(150)
        assert {one.revision for one in load.sent[-50:]} == {"delay-00003"}
    assert [one for one in load.sent if one.failed] == []
    found = queries.rollout_json(live.database, agrees)
    pairs = found["counts"]["disagreement"]["canary"]
    assert pairs["requests"] >= 20
    assert pairs["events"] == 0
    assert all(one["same"] for rollout in (differs, agrees) for one in verify(live.database, rollout))


@pytest.mark.slow
def test_a_preview_answers_before_it_serves_and_takes_over_at_once(live):
    live.first()
    url = f"http://127.0.0.1:{live.gateway.port}/v1/models/delay:predict"
    with Load(live.gateway.port, rate=60, users=50, threads=8) as load:
        green = live.deploy(1, "{blueGreen: {autoPromotionEnabled: false}}")
        live.until(green, "Paused")
        load.await_more(100)
        assert {one.revision for one in load.sent} == {"delay-00001"}
        body = {"instances": [[0.0, 1.0]]}
        told = httpx.post(url, json=body, headers={"x-headrace-preview": "true"})
        assert (told.json(), told.headers["x-headrace-arm"]) == ({"predictions": [1]}, "canary")
        told = httpx.post(url, json=body, headers={"host": "delay-preview.default.example.com"})
        assert told.headers["x-headrace-revision"] == "delay-00002"
        assert httpx.post(url, json=body).json() == {"predictions": [0]}
        actions.promote(live.database, green, actor="user:ann", reason="", at=live.clock.now())
        live.until(green, "Healthy")
        load.await_more(150)
        assert {one.revision for one in load.sent[-50:]} == {"delay-00002"}
    assert [one for one in load.sent if one.failed] == []
