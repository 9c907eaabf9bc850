"""blueGreen, abTest, shadow, sticky canaries and the watch, walked by a real controller over real rows."""

import pytest

from headrace.control.rollouts import actions, queries, rows
from headrace.control.rollouts.verification import verify
from headrace.serving import payload_log
from headrace.serving.gateway import SHADOW, UserRequest
from headrace.serving.payload_log import PayloadWriter
from headrace.store import events

HEAD = "apiVersion: headrace.dev/v1alpha1\nkind: Rollout\nmetadata: {name: delay}\n"
ANALYSIS = "  analysis: {interval: 1s, warmup: 0s, maxDuration: 60s}\n"


def _document(strategy, more=ANALYSIS):
    return f"{HEAD}spec:\n  strategy: {strategy}\n{more}"


@pytest.fixture
def start(stage):
    """A second revision by a strategy; the first one serves."""

    def start(strategy, more=ANALYSIS):
        stage.stable()
        rollout = stage.ask(_document(strategy, more), model="models:/m/2")
        stage.step()
        return rollout

    return start


@pytest.fixture
def predicted(stage, home):
    """Log predictions of revisions, and give them labels: {number: (value, label) of each}."""

    def log(made, suffix="", at=None):
        labels = []
        for number, pairs in made.items():
            writer = PayloadWriter(payload_log.path(home, "delay"), f"delay-0000{number}")
            for i, (value, label) in enumerate(pairs):
                name = f"{log.calls}-{i}" if suffix is None else f"{log.calls}-{number}-{i}"
                writer.add(name + (SHADOW if suffix is None and number == 2 else ""), value)
                if label is not None:
                    labels.append((name, label))
            writer.close()
        payload_log.record_labels(home, "delay", labels, at=stage.clock.now())
        log.calls += 1

    log.calls = 0
    return log


# blueGreen


def test_a_preview_waits_beside_the_stable_revision_until_a_person_promotes_it(stage, start):
    rollout = start("{blueGreen: {autoPromotionEnabled: false}}")
    stage.step(10_000)
    assert stage.row(rollout).state == "Paused"
    assert stage.traffic.weights() == {"delay-00001": 100, "delay-00002": 0}
    assert stage.traffic.routes["delay"].preview.revision_id == "delay-00002"
    actions.promote(stage.database, rollout, actor="user:ann", reason="", at=stage.clock.now())
    stage.step()
    assert stage.traffic.weights() == {"delay-00001": 0, "delay-00002": 100}
    stage.step()
    assert (stage.row(rollout).state, stage.service().stable) == ("Healthy", "delay-00002")
    assert stage.traffic.weights() == {"delay-00002": 100}
    assert stage.traffic.routes["delay"].preview is None
    assert {r.id for r in stage.servers.running()} == {"delay-00001", "delay-00002"}


def test_a_preview_is_promoted_by_itself_after_its_seconds(stage, start):
    rollout = start("{blueGreen: {autoPromotionSeconds: 30}}")
    stage.step(29)
    assert stage.traffic.weights()["delay-00002"] == 0
    stage.step(1)
    stage.step()
    stage.step()
    assert stage.row(rollout).state == "Healthy"


def test_without_more_a_blue_green_rollout_switches_at_once(stage, start):
    rollout = start("{blueGreen: {}}")
    stage.step()
    stage.step()
    assert stage.row(rollout).state == "Healthy"
    assert [a for a in stage.traffic.applied if 0 < a.get("delay-00002", 0) < 100] == []


def test_after_the_switch_an_abort_gives_the_traffic_back(stage, start):
    rollout = start("{blueGreen: {autoPromotionEnabled: false}}")
    actions.promote(stage.database, rollout, actor="user:ann", reason="", at=stage.clock.now())
    stage.step()
    assert stage.row(rollout).weight == 100
    actions.abort(stage.database, rollout, actor="user:ann", reason="no", at=stage.clock.now())
    stage.step()
    assert stage.traffic.weights() == {"delay-00001": 100}


# A server that dies


def test_a_new_revision_whose_server_dies_with_traffic_fails_at_once(stage):
    rollout = stage.canary()
    stage.servers.dead.add("delay-00002")
    stage.step()
    row = stage.row(rollout)
    assert (row.state, row.message) == ("Degraded", "the server of delay-00002 died while it had traffic")
    assert stage.traffic.weights() == {"delay-00001": 100}


def test_when_both_servers_are_gone_it_says_nothing_of_the_new_one(stage):
    rollout = stage.canary()
    stage.servers.dead.update({"delay-00001", "delay-00002"})
    stage.step()
    assert stage.row(rollout).state == "Progressing"


def test_a_new_revision_that_dies_before_it_has_traffic_is_started_again(stage):
    stage.stable()
    rollout = stage.request()
    stage.servers.states["delay-00002"] = "starting"
    stage.servers.dead.add("delay-00002")
    stage.step()
    assert stage.row(rollout).state == "Progressing"


# abTest

BY_USER = "sticky: {header: x-user-id}, weight: 50"
TEST = "{abTest: {%s, %s, metric: {name: purchase, %s}, onInconclusive: rollback}}"


def _ab(who=BY_USER, end="minSamples: 300", metric="kind: conversion"):
    return TEST % (who, end, metric)


def _bought(rate, requests=400):
    return [(1, int(i % 100 < rate * 100)) for i in range(requests)]


def _test_over(stage, predicted, made):
    """Values come in four windows."""
    for _ in range(4):
        predicted({number: pairs[: len(pairs) // 4] for number, pairs in made.items()})
        stage.traffic.serve("delay-00001", 100)
        stage.traffic.serve("delay-00002", 100)
        stage.step(1)
    for _ in range(3):
        stage.step(1)


def test_a_revision_that_sells_more_is_promoted_when_the_test_ends(stage, start, predicted):
    rollout = start(_ab())
    assert stage.traffic.weights() == {"delay-00001": 50, "delay-00002": 50}
    assert stage.traffic.routes["delay"].sticky.header == "x-user-id"
    stage.step(1)
    _test_over(stage, predicted, {1: _bought(0.1, 800), 2: _bought(0.4, 800)})
    assert stage.row(rollout).state == "Healthy"
    (verdict,) = queries.rollout_json(stage.database, rollout)["verdicts"]
    assert (verdict["kind"], verdict["outcome"]) == ("test", "passed")
    assert verdict["summary"].endswith("the new revision is better")
    assert [one["same"] for one in verify(stage.database, rollout)] == [True]
    assert verdict["evidence"]["test"]["canary"]["rate"] == pytest.approx(0.4, abs=0.05)


def test_a_revision_that_sells_less_is_rolled_back_before_the_test_ends(stage, start, predicted):
    rollout = start(_ab(end="duration: 14d"))
    stage.step(1)
    _test_over(stage, predicted, {1: _bought(0.4, 800), 2: _bought(0.1, 800)})
    assert stage.row(rollout).state == "Degraded"
    assert stage.row(rollout).message.endswith("the new revision is worse")


def test_where_less_is_better_less_is_promoted(stage, start, predicted):
    rollout = start(_ab(metric="kind: conversion, higherIsBetter: false"))
    stage.step(1)
    _test_over(stage, predicted, {1: _bought(0.4, 800), 2: _bought(0.1, 800)})
    assert stage.row(rollout).state == "Healthy"


def test_a_difference_below_the_smallest_that_matters_is_none(stage, start, predicted):
    rollout = start(_ab(metric="minEffect: 0.9"))
    stage.step(1)
    _test_over(stage, predicted, {1: _bought(0.1, 1600), 2: _bought(0.4, 1600)})
    assert stage.row(rollout).state == "Degraded", "onInconclusive: rollback"


def test_a_winner_is_not_promoted_before_the_test_ends(stage, start, predicted):
    rollout = start(_ab(end="duration: 1h"))
    stage.step(1)
    _test_over(stage, predicted, {1: _bought(0.1, 800), 2: _bought(0.4, 800)})
    assert stage.row(rollout).state == "Progressing"
    stage.step(3600)
    stage.step(1)
    assert stage.row(rollout).state == "Healthy"


@pytest.mark.parametrize(("choice", "state"), [("rollback", "Degraded"), ("promote", "Healthy"), ("hold", "Paused")])
def test_what_a_test_without_a_winner_leads_to_is_the_documents_choice(stage, start, predicted, choice, state):
    rollout = start(_ab().replace("onInconclusive: rollback", f"onInconclusive: {choice}"))
    stage.step(1)
    _test_over(stage, predicted, {1: _bought(0.2, 1600), 2: _bought(0.2, 1600)})
    assert stage.row(rollout).state == state
    assert "not shown to differ" in queries.rollout_json(stage.database, rollout)["latest_verdict"]["summary"]


def test_errors_end_an_a_b_test_too(stage, start):
    rollout = start(_ab("match: [{headerName: x-group, headerValue: {exact: b}}]"))
    stage.step(1)
    stage.window((40, 20), (760, 0))
    assert stage.row(rollout).state == "Degraded"
    assert stage.row(rollout).message.startswith("errors:")


def test_who_matches_gets_the_new_revision_while_the_test_runs(stage, start):
    start(_ab("match: [{headerName: x-group, headerValue: {exact: b}}]"))
    assert stage.traffic.weights() == {"delay-00001": 100, "delay-00002": 0}
    (match,) = stage.traffic.routes["delay"].matches
    assert (match.header, match.how, match.value) == ("x-group", "exact", "b")


def test_a_mean_is_tested_by_its_sums(stage, start, predicted):
    rollout = start(_ab(metric="kind: mean"))
    stage.step(1)
    spent = {1: [(1, 10.0 + i % 5) for i in range(1600)], 2: [(1, 20.0 + i % 5) for i in range(1600)]}
    _test_over(stage, predicted, spent)
    assert stage.row(rollout).state == "Healthy"


# shadow

SHADOW_STRATEGY = "{shadow: {percent: 50, minRequests: 100, maxDisagreement: 0.1, promote: %s}}"


def _shadowed(stage, predicted, differing, pairs=400, bad=0):
    stage.step(1)
    for _ in range(3):
        predicted({1: [(1, None)] * pairs, 2: [(int(i >= differing), None) for i in range(pairs)]}, suffix=None)
        stage.traffic.serve("delay-00001", 2 * pairs)
        stage.traffic.serve("delay-00002" + SHADOW, pairs, bad=bad)
        stage.step(1)
    stage.step(1)


def test_a_shadow_gets_copies_and_no_traffic(stage, start):
    rollout = start(SHADOW_STRATEGY % "true")
    assert stage.traffic.weights() == {"delay-00001": 100}
    assert stage.traffic.mirrored() == {"delay-00002": 50}
    found = queries.rollout_json(stage.database, rollout)
    assert (found["weight"], found["mirrored"], found["strategy"]) == (0, 50, "shadow")
    assert found["steps"] == [{"mirror": 50}, {"analysis": {"minRequests": 100}}]


@pytest.mark.parametrize(("promote", "serves"), [("true", "delay-00002"), ("false", "delay-00001")])
def test_a_shadow_that_agrees_passes(stage, start, predicted, promote, serves):
    rollout = start(SHADOW_STRATEGY % promote)
    _shadowed(stage, predicted, differing=4)
    row = stage.row(rollout)
    assert (row.state, row.weight) == ("Healthy", 100 if promote == "true" else 0)
    assert stage.service().stable == serves
    assert stage.traffic.weights() == {serves: 100}
    assert stage.traffic.mirrored() == {}
    (verdict,) = queries.rollout_json(stage.database, rollout)["verdicts"]
    assert verdict["outcome"] == "passed"
    assert "disagreement: 4 of 400 answers differ (1.0%)" in verdict["summary"]
    assert [one["same"] for one in verify(stage.database, rollout)] == [True]


def test_a_shadow_that_disagrees_fails(stage, start, predicted):
    rollout = start(SHADOW_STRATEGY % "true")
    _shadowed(stage, predicted, differing=100)
    assert stage.row(rollout).state == "Degraded"
    assert stage.row(rollout).message.startswith("disagreement: 100 of 400 answers differ (25.0%)")


def test_a_shadow_that_fails_requests_fails(stage, start, predicted):
    rollout = start(SHADOW_STRATEGY % "true")
    _shadowed(stage, predicted, differing=0, bad=100)
    assert stage.row(rollout).state == "Degraded"
    assert stage.row(rollout).message.startswith("errors: 100 of 400 canary requests failed")


def test_a_first_revision_has_nobody_to_be_the_shadow_of(stage):
    rollout = stage.ask(_document(SHADOW_STRATEGY % "false"))
    stage.step()
    assert (stage.row(rollout).state, stage.service().stable) == ("Healthy", "delay-00001")
    assert stage.traffic.weights() == {"delay-00001": 100}


# sticky


def test_a_sticky_canary_keeps_users_only_while_it_runs(stage, start):
    start("{canary: {sticky: {cookie: hr-user}, steps: [{setWeight: 5}, {pause: {}}]}}")
    assert stage.traffic.routes["delay"].sticky.cookie == "hr-user"
    actions.rollback(stage.database, "delay", actor="user:ann", reason="", at=stage.clock.now())
    stage.step()
    assert stage.traffic.routes["delay"].sticky is None


STICKY = "{canary: {sticky: {header: x-user-id}, steps: [{setWeight: 50}, {pause: {}}]}}"


def _asked(revision, users, *, bad=(), times=1, milliseconds=5.0):
    """Requests of numbered users; those in `bad` get a failure each time. None is somebody without a name."""
    return [
        UserRequest(revision, "" if user is None else f"user-{user}", user in bad, milliseconds)
        for user in users
        for _ in range(times)
    ]


@pytest.fixture
def sticky(stage, start):
    """A canary that keeps its users, half of all, with its counting begun."""
    rollout = start(STICKY)
    stage.step(1)
    return rollout


def _look(stage, *requests):
    stage.traffic.asked = [one for some in requests for one in some]
    stage.traffic.serve("delay-00001", 1)
    stage.step(1)


def test_one_user_whose_every_request_fails_does_not_roll_a_sticky_canary_back(stage, sticky):
    for _ in range(20):
        _look(
            stage, _asked("delay-00001", range(100, 200)), _asked("delay-00002", range(100), bad=[1, 2], times=10)
        )  # fmt: skip
    assert stage.row(sticky).state == "Paused"
    assert stage.totals(sticky).canary == (100, 2), "each user counts once, and is bad once"
    assert stage.totals(sticky).stable == (100, 0)


def test_a_sticky_canary_that_fails_its_users_is_rolled_back(stage, sticky):
    _look(stage, _asked("delay-00001", range(100, 200), bad=[100]), _asked("delay-00002", range(40), bad=range(20)))
    row = stage.row(sticky)
    assert row.state == "Degraded"
    assert row.message.startswith("errors: 20 of 40 canary users saw a failure (50.0%), 1 of 100 stable ones (1.0%)")
    assert [one["same"] for one in verify(stage.database, sticky)] == [True]
    assert stage.database.query("SELECT * FROM rollout_user") == [], "nobody is remembered when it is over"


def test_users_who_wait_are_counted_by_the_latency_threshold(stage, start):
    rollout = start(STICKY, "  analysis: {interval: 1s, warmup: 0s, metrics: [{name: latency, threshold: 100ms}]}\n")
    stage.step(1)
    _look(stage, _asked("delay-00001", range(100, 200)), _asked("delay-00002", range(40), milliseconds=150.0))
    assert stage.row(rollout).message.startswith("latency: 40 of 40 canary users waited over 100 ms")


def test_another_controller_knows_who_was_seen_and_who_was_bad(stage, sticky):
    _look(stage, _asked("delay-00001", range(100, 200)), _asked("delay-00002", range(100), bad=[1, 2]))
    stage.revive()
    _look(stage, _asked("delay-00001", range(100, 200)), _asked("delay-00002", [*range(100), 300], bad=[1, 2]))
    first, second = stage.totals(sticky).windows
    assert (second.canary_n, second.canary_x, second.canary_at_risk, second.stable_at_risk) == (1, 0, 99, 100)
    assert (first.canary_n, first.canary_x, first.canary_at_risk) == (100, 2, 100)


def test_who_has_no_name_is_a_user_of_each_request(stage, sticky):
    _look(stage, _asked("delay-00001", [None] * 60), _asked("delay-00002", [None] * 40, bad=[None]))
    assert stage.row(sticky).message.startswith("errors: 40 of 40 canary users")
    assert stage.database.query("SELECT * FROM rollout_user") == []


def test_what_came_before_the_counting_began_and_what_others_asked_does_not_count(stage, start):
    rollout = start(STICKY, ANALYSIS.replace("warmup: 0s", "warmup: 10s"))
    _look(stage, _asked("delay-00002", range(40), bad=range(40)))
    stage.step(10)
    _look(stage, _asked("other-00002", range(40), bad=range(40)), _asked("delay-00001", range(3)))
    assert stage.totals(rollout).canary == (0, 0)
    assert stage.totals(rollout).stable == (3, 0)


def test_the_names_of_users_are_not_stored(stage, sticky):
    _look(stage, _asked("delay-00001", range(100, 103)), _asked("delay-00002", range(2)))
    stored = stage.database.query("SELECT user FROM rollout_user")
    assert len(stored) == 5
    assert not any("user-" in one["user"] for one in stored)


LABELS = "  analysis: {interval: 1s, warmup: 0s, metrics: [{name: labels, minEffect: 0.01}]}\n"


@pytest.mark.parametrize(
    ("users", "told"),
    [
        # One user who is told wrong again and again, and many who are once.
        (lambda i: "one" if i < 200 else f"other-{i}", ""),
        (
            lambda i: f"other-{i}",
            "labels: 200 of 400 canary users were told wrong (50.0%), 4 of 400 stable ones (1.0%)",
        ),
    ],
)
def test_labels_of_a_sticky_canary_are_counted_by_user(stage, start, home, monkeypatch, users, told):
    monkeypatch.setattr("headrace.serving.payload_log.time.time", lambda: stage.clock.time)
    rollout = start(STICKY, LABELS)
    stage.step(1)
    labels = []
    for number, wrong in ((1, 4), (2, 200)):
        writer = PayloadWriter(payload_log.path(home, "delay"), f"delay-0000{number}")
        for i in range(400):
            writer.add(f"{number}-{i}", 1, user=users(i) if number == 2 else f"stable-{i}")
            labels.append((f"{number}-{i}", 0 if i < wrong else 1))
        writer.close()
    payload_log.record_labels(home, "delay", labels, at=stage.clock.now())
    _look(stage)
    assert stage.row(rollout).message.startswith(told)
    assert stage.row(rollout).state == ("Degraded" if told else "Paused")
    if told:
        assert [one["same"] for one in verify(stage.database, rollout)] == [True]


# watch

WATCH = "{canary: {scaleDownDelaySeconds: 1, steps: [{setWeight: 50}, {pause: {duration: 5s}}]}}"
WATCHED = ANALYSIS + "  watch: {duration: 60s}\n"


@pytest.fixture
def promoted(stage, start, monkeypatch):
    """A revision that was promoted and is watched; its predictions are logged in the time of the stage's clock."""
    monkeypatch.setattr("headrace.serving.payload_log.time.time", lambda: stage.clock.time)
    rollout = start(WATCH, WATCHED)
    stage.step(1)
    return rollout


def test_late_labels_roll_a_promoted_revision_back(stage, promoted, predicted, home):
    predicted({1: [(1, None)] * 400, 2: [(1, None)] * 400})
    stage.step(4)
    stage.step(1)
    stage.step(1)
    assert stage.row(promoted).state == "Healthy"
    assert queries.doing(stage.row(promoted)) == "watching late labels"
    # What is predicted after the promotion has nobody to be compared with.
    stage.step(1)
    predicted({2: [(1, 0)] * 500})
    stage.step(1)
    assert stage.row(promoted).state == "Healthy"
    assert {r.id for r in stage.servers.running()} == {"delay-00001", "delay-00002"}, "it may be wanted back"
    labels = [(f"0-{n}-{i}", 0 if i < (200 if n == 2 else 20) else 1) for n in (1, 2) for i in range(400)]
    payload_log.record_labels(home, "delay", labels, at=stage.clock.now())
    stage.step(1)
    row = stage.row(promoted)
    assert (row.state, row.watch_until) == ("Degraded", None)
    assert row.message.startswith("labels: 200 of 400 canary requests were wrong (50.0%)")
    stage.step()
    assert stage.traffic.weights() == {"delay-00001": 100}
    assert stage.service().stable == "delay-00001"
    (verdict,) = [v for v in queries.rollout_json(stage.database, promoted)["verdicts"] if v["kind"] == "watch"]
    assert verdict["outcome"] == "failed"
    assert all(one["same"] for one in verify(stage.database, promoted))
    newest = queries.list_rollouts(stage.database)[0]
    assert (newest["actor"], newest["reason"]) == (rows.ACTOR, row.message)
    assert stage.told(promoted)[-2:] == ["rollout.judged", "rollout.degraded"]


GREEN_WATCHED = "{blueGreen: {scaleDownDelaySeconds: 120}}"
BAD_METRICS = """\
  analysis: {interval: 1s, warmup: 0s, metrics: [
    {name: errors, budget: 0.05}, {name: latency, threshold: 100ms}, {name: labels}]}
"""


@pytest.fixture
def switched(stage, monkeypatch):
    """A blue-green rollout that has just switched; the revision before answered 1000 requests, 10 of them badly."""
    monkeypatch.setattr("headrace.serving.payload_log.time.time", lambda: stage.clock.time)
    stage.stable()
    stage.traffic.serve("delay-00001", 1000, bad=10, slow=10)
    rollout = stage.ask(_document(GREEN_WATCHED, BAD_METRICS), model="models:/m/2")
    for _ in range(3):
        stage.step()
    row = stage.row(rollout)
    assert (row.state, row.watch_until) == ("Healthy", stage.clock.time + 120)
    assert queries.doing(row) == "watching errors, latency, late labels"
    return rollout


@pytest.mark.parametrize(
    ("served", "says"),
    [
        (
            {"bad": 40},
            "errors: 40 of 100 requests failed since the promotion (40.0%), 10 of 1000 of the revision before",
        ),
        ({"slow": 30}, "latency: 30 of 100 requests took over 100 ms since the promotion (30.0%), 10 of 1000 of the"),
    ],
)
def test_after_the_switch_a_bad_revision_goes_back_by_itself(stage, switched, served, says):
    stage.traffic.serve("delay-00002", 100, **served)
    stage.step(1)
    row = stage.row(switched)
    assert row.state == "Degraded"
    assert row.message.startswith(says)
    stage.step()
    assert (stage.service().stable, stage.traffic.weights()) == ("delay-00001", {"delay-00001": 100})
    assert [(one["kind"], one["same"]) for one in verify(stage.database, switched)] == [("watch", True)]


def test_after_the_switch_wrong_answers_go_back_by_themselves(stage, start, predicted, monkeypatch):
    monkeypatch.setattr("headrace.serving.payload_log.time.time", lambda: stage.clock.time)
    stage.stable()
    predicted({1: [(1, 1)] * 500})
    rollout = stage.ask(_document(GREEN_WATCHED, BAD_METRICS), model="models:/m/2")
    for _ in range(3):
        stage.step()
    predicted({2: [(1, i % 2) for i in range(100)]})
    stage.step(1)
    assert stage.row(rollout).state == "Degraded"
    assert stage.row(rollout).message.startswith("labels: 50 of 100 requests were wrong since the promotion (50.0%)")
    assert all(one["same"] for one in verify(stage.database, rollout))


def test_after_the_switch_a_revision_within_the_budget_stays(stage, switched):
    for _ in range(40):
        stage.traffic.serve("delay-00002", 100, bad=2, slow=2)
        stage.step(1)
    assert stage.row(switched).watch_until is not None
    stage.step(120)
    stage.step(1)
    assert (stage.row(switched).state, stage.row(switched).watch_until) == ("Healthy", None)
    assert {r.id for r in stage.servers.running()} == {"delay-00002"}


def test_hours_of_good_answers_do_not_hide_that_it_goes_bad(stage, switched):
    for _ in range(20):
        stage.traffic.serve("delay-00002", 5000)
        stage.step(1)
    stage.traffic.serve("delay-00002", 100, bad=50)
    stage.step(1)
    assert stage.row(switched).state == "Degraded"


def test_a_revision_without_a_usual_rate_is_never_shown_to_be_worse(stage, start):
    rollout = start(GREEN_WATCHED, BAD_METRICS)
    stage.step()
    stage.step()
    stage.traffic.serve("delay-00002", 500, bad=500)
    stage.step(1)
    assert stage.row(rollout).state == "Healthy"


def test_while_a_revision_is_watched_the_one_before_answers_for_it(stage, switched):
    stage.step(1)
    (stable,) = stage.traffic.routes["delay"].arms
    assert (stable.revision_id, stable.fallback.revision_id) == ("delay-00002", "delay-00001")
    stage.step(3600)
    stage.step(1)
    assert stage.row(switched).watch_until is None
    (stable,) = stage.traffic.routes["delay"].arms
    assert stable.fallback is None


def test_a_preview_has_no_fallback(stage, start):
    start("{blueGreen: {autoPromotionEnabled: false}}")
    stage.step(1)
    _, preview = stage.traffic.routes["delay"].arms
    assert (preview.revision_id, preview.fallback) == ("delay-00002", None)


def test_a_watched_revision_whose_server_dies_goes_back(stage, switched):
    stage.servers.dead.add("delay-00002")
    stage.step()
    stage.servers.dead.clear()
    row = stage.row(switched)
    assert (row.state, row.message) == ("Degraded", "the server of delay-00002 died while it was watched")
    stage.step()
    assert stage.service().stable == "delay-00001"


def test_an_envoy_that_starts_anew_is_counted_from_zero(stage, switched):
    stage.traffic.serve("delay-00002", 400)
    stage.step(1)
    stage.traffic.restart()
    stage.traffic.serve("delay-00002", 60, bad=30)
    stage.step(1)
    assert stage.totals(switched, "watch/errors").canary == (460, 30)


def test_without_a_delay_a_blue_green_rollout_is_not_watched(stage, start):
    rollout = start("{blueGreen: {scaleDownDelaySeconds: 0}}")
    stage.step()
    stage.step()
    assert (stage.row(rollout).state, stage.row(rollout).watch_until) == ("Healthy", None)


def test_a_canary_may_be_watched_for_errors_too(stage, start):
    rollout = start(WATCH, ANALYSIS + "  watch: {duration: 60s, metrics: [{name: labels}, {name: errors}]}\n")
    stage.step(1)
    stage.window((400, 0), (400, 0))
    for seconds in (4, 1, 1):
        stage.step(seconds)
    assert stage.row(rollout).state == "Healthy"
    stage.traffic.serve("delay-00002", 100, bad=40)
    stage.step(1)
    assert stage.row(rollout).message.startswith("errors: 40 of 100 requests failed since the promotion")
    assert all(one["same"] for one in verify(stage.database, rollout))


def test_a_watch_ends_after_its_time(stage, promoted):
    stage.step(4)
    stage.step(1)
    stage.step(30)
    assert stage.row(promoted).watch_until is not None
    stage.step(31)
    stage.step(1)
    assert (stage.row(promoted).state, stage.row(promoted).watch_until) == ("Healthy", None)
    assert {r.id for r in stage.servers.running()} == {"delay-00002"}
    assert len(events.read(stage.database, kinds=["rollout.watched"])) == 1


def test_a_watch_ends_when_another_revision_is_on_its_way(stage, promoted):
    stage.step(4)
    stage.step(1)
    stage.request("{setWeight: 5}, {pause: {}}", model="models:/m/3")
    stage.step(1)
    assert stage.row(promoted).watch_until is None
