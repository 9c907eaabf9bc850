import pytest

from headrace.control.rollouts import actions, controller, queries, rows
from headrace.serving import payload_log
from headrace.serving.gateway import Arm
from headrace.serving.payload_log import PayloadWriter
from headrace.store import events

GOOD = {"canary": (400, 2), "stable": (800, 4)}
BAD = {"canary": (40, 8), "stable": (760, 0)}


def test_the_first_revision_goes_straight_to_all_traffic_once_it_is_ready(stage):
    rollout = stage.request()
    stage.servers.states["delay-00001"] = "starting"
    stage.step()
    assert stage.traffic.routes["delay"].arms == ()
    assert stage.row(rollout).state == "Progressing"
    assert stage.service().stable is None

    stage.servers.states["delay-00001"] = "ready"
    stage.step()
    assert (stage.row(rollout).state, stage.row(rollout).weight) == ("Healthy", 100)
    assert stage.traffic.weights() == {"delay-00001": 100}
    assert (stage.service().stable, stage.service().previous) == ("delay-00001", None)
    assert stage.told(rollout) == ["rollout.started", "rollout.healthy"]


def test_a_new_revision_gets_nothing_before_it_is_ready_and_is_known_before_it_gets_traffic(stage):
    stage.stable()
    rollout = stage.request()
    stage.servers.states["delay-00002"] = "starting"
    stage.step()
    assert stage.traffic.weights() == {"delay-00001": 100}
    stage.servers.states["delay-00002"] = "ready"
    stage.step()
    assert stage.traffic.applied[-2:] == [
        {"delay-00001": 100, "delay-00002": 0},
        {"delay-00001": 95, "delay-00002": 5},
    ]
    assert (stage.row(rollout).step, stage.row(rollout).weight) == (1, 5)


def test_good_counts_carry_a_revision_through_its_steps(stage):
    rollout = stage.canary()
    stage.window((20, 0), (380, 0))
    assert stage.row(rollout).step == 1, "fewer requests than minRequests"
    stage.window(**GOOD)
    assert stage.row(rollout).step == 2
    stage.step()
    assert (stage.row(rollout).weight, stage.traffic.weights()["delay-00002"]) == (50, 50)
    stage.window((30, 0), (30, 0))
    assert stage.row(rollout).step == 3, "each analysis counts anew what it has seen"
    stage.window(**GOOD)
    stage.step()
    assert (stage.row(rollout).state, stage.row(rollout).weight) == ("Healthy", 100)
    assert (stage.service().stable, stage.service().previous) == ("delay-00002", "delay-00001")
    assert stage.traffic.weights() == {"delay-00002": 100}
    assert stage.told(rollout) == [
        "rollout.started", "rollout.weight", "rollout.judged", "rollout.weight", "rollout.judged", "rollout.healthy",
    ]  # fmt: skip
    found = queries.rollout_json(stage.database, rollout)
    assert [(v["outcome"], v["weight"]) for v in found["verdicts"]] == [("passed", 5), ("passed", 50)]
    assert found["counts"]["errors"] == {
        "canary": {"requests": 850, "events": 4},
        "stable": {"requests": 2010, "events": 8},
    }


def test_bad_counts_roll_a_revision_back_at_once_with_the_verdict(stage):
    rollout = stage.canary()
    stage.window(**BAD)
    row = stage.row(rollout)
    assert (row.state, row.weight) == ("Degraded", 0)
    assert row.message.startswith("errors: 8 of 40 canary requests failed (20.0%), 0 of 760 stable ones (0.0%)")
    assert stage.traffic.weights() == {"delay-00001": 100}
    assert [r.id for r in stage.servers.running()] == ["delay-00001"]
    assert stage.service().stable == "delay-00001"
    assert stage.told(rollout)[-2:] == ["rollout.judged", "rollout.degraded"]
    (degraded,) = events.read(stage.database, kinds=["rollout.degraded"])
    assert (degraded.data["weight"], degraded.data["revision"]) == (5, "delay-00002")
    (verdict,) = queries.rollout_json(stage.database, rollout)["verdicts"]
    assert (verdict["outcome"], verdict["weight"], verdict["summary"]) == ("failed", 5, row.message)


def test_errors_on_both_arms_roll_nothing_back(stage):
    rollout = stage.canary()
    for _ in range(20):
        stage.window((40, 20), (760, 380))
    assert stage.row(rollout).state != "Degraded"
    assert stage.totals(rollout).canary[1] > 100


def test_without_requests_it_holds_as_inconclusive_and_never_fails(stage):
    rollout = stage.canary()
    for _ in range(70):
        stage.window()
    row = stage.row(rollout)
    assert (row.state, row.weight, row.step) == ("Paused", 5, 1)
    assert row.message == "no verdict after 60 s"
    assert row.verdict["outcome"] == "inconclusive"
    for _ in range(70):
        stage.window()
    assert stage.row(rollout).state == "Paused"
    assert stage.traffic.weights() == {"delay-00001": 95, "delay-00002": 5}


def test_when_nothing_can_be_counted_nothing_is_judged(stage):
    rollout = stage.canary()
    stage.traffic.answers = False
    stage.window(**BAD)
    assert (stage.row(rollout).verdict, stage.totals(rollout).windows) == (None, [])
    stage.traffic.answers = True
    stage.step(1)
    assert stage.totals(rollout).canary == (40, 8), "what came meanwhile counts"
    assert stage.row(rollout).state == "Degraded"


@pytest.mark.parametrize(
    ("choice", "state", "step"), [("hold", "Paused", 1), ("promote", "Progressing", 2), ("rollback", "Degraded", 1)]
)
def test_what_an_analysis_without_a_verdict_leads_to_is_the_documents_choice(stage, choice, state, step):
    rollout = stage.canary(more=f"onInconclusive: {choice}, ")
    stage.step(61)
    assert (stage.row(rollout).state, stage.row(rollout).step) == (state, step)


def test_an_analysis_before_any_traffic_holds(stage):
    rollout = stage.canary("{analysis: {}}, {setWeight: 5}")
    stage.step(61)
    assert (stage.row(rollout).state, stage.row(rollout).weight) == ("Paused", 0)


def test_a_failed_verdict_rolls_back_also_while_it_is_held(stage):
    rollout = stage.canary()
    stage.step(61)
    assert stage.row(rollout).state == "Paused"
    stage.window(**BAD)
    assert stage.row(rollout).state == "Degraded"


def test_the_first_seconds_of_a_new_revision_do_not_count(stage):
    stage.stable()
    rollout = stage.request()
    stage.step()
    stage.window(**BAD)
    stage.window((0, 0), (0, 0))
    assert (stage.totals(rollout).windows, stage.row(rollout).state) == ([], "Progressing")
    stage.window(**GOOD)
    assert stage.totals(rollout).canary == (400, 2)


def test_a_window_is_an_interval_long(stage):
    rollout = stage.canary()
    stage.traffic.serve("delay-00002", 40, bad=8)
    stage.traffic.serve("delay-00001", 760)
    stage.step(0.4)
    assert stage.totals(rollout).windows == []
    stage.step(0.6)
    assert stage.totals(rollout).canary == (40, 8)


def test_a_pause_lasts_as_long_as_it_says(stage):
    rollout = stage.canary("{setWeight: 5}, {pause: {duration: 10s}}, {setWeight: 50}")
    stage.step(7)
    assert stage.row(rollout).step == 1
    stage.step(1)
    stage.step()
    assert (stage.row(rollout).step, stage.row(rollout).weight) == (3, 50)


def test_a_server_that_cannot_run_degrades_its_rollout_at_once(stage):
    stage.stable()
    rollout = stage.request()
    stage.servers.states.update({"delay-00002": "failed", "message": "its server died: no such file"})
    stage.step()
    row = stage.row(rollout)
    assert (row.state, row.message) == ("Degraded", "delay-00002 does not serve: its server died: no such file")
    assert stage.traffic.weights() == {"delay-00001": 100}


def test_while_a_canarys_server_starts_again_the_stable_one_takes_its_share(stage):
    rollout = stage.canary()
    stage.servers.states["delay-00002"] = "starting"
    stage.step(1)
    assert stage.traffic.weights() == {"delay-00001": 100}
    assert stage.row(rollout).weight == 5
    stage.servers.states["delay-00002"] = "ready"
    stage.step(1)
    assert stage.traffic.weights() == {"delay-00001": 95, "delay-00002": 5}


def test_the_stable_revision_answers_for_a_canary_that_is_gone(stage):
    stage.canary()
    stable, canary = stage.traffic.routes["delay"].arms
    assert (stable.fallback, canary.fallback) == (None, Arm("delay-00001", stable.port, 0))


def test_nobody_is_kept_waiting_for_a_server_that_has_failed(stage):
    stage.stable()
    stage.servers.states["delay-00001"] = "starting"
    stage.step(1)
    assert stage.traffic.weights() == {"delay-00001": 100}
    stage.servers.states["delay-00001"] = "failed"
    stage.step(1)
    assert stage.traffic.weights() == {}


def test_traffic_follows_a_server_to_its_new_port(stage):
    stage.stable()
    stage.servers.ports["delay-00001"] = 9999
    stage.step()
    assert [arm.port for arm in stage.traffic.routes["delay"].arms] == [9999]


def test_nothing_moves_until_the_weights_are_confirmed(stage):
    rollout = stage.canary()
    stage.traffic.confirms = False
    stage.window(**BAD)
    assert (stage.row(rollout).state, stage.totals(rollout).windows) == ("Progressing", [])
    stage.traffic.confirms = True
    stage.step()
    assert stage.row(rollout).state == "Degraded"


def test_counters_that_start_from_zero_again_do_no_harm(stage):
    rollout = stage.canary()
    stage.window((100, 1), (1900, 10))
    stage.traffic.restart()
    stage.window((5, 0), (95, 1))
    stage.window((10, 0), (190, 2))
    totals = stage.totals(rollout)
    assert (totals.canary, totals.stable) == ((115, 1), (2185, 13))
    stage.traffic.restart()
    stage.window((300, 0), (5700, 0))
    assert stage.totals(rollout).canary == (415, 1), "also when they have overtaken the old ones"
    assert stage.row(rollout).state == "Progressing"


def test_late_labels_are_judged_too(stage, home):
    rollout = stage.canary(metrics="{name: errors}, {name: labels}")
    made = {1: 1000, 2: 200}
    for number, count in made.items():
        writer = PayloadWriter(payload_log.path(home, "delay"), f"delay-0000{number}")
        for i in range(count):
            writer.add(f"{number}-{i}", 1)
        writer.close()
    wrong_from = {1: 900, 2: 100}
    labels = [(f"{n}-{i}", 1 if i < wrong_from[n] else 0) for n, count in made.items() for i in range(count)]
    payload_log.record_labels(home, "delay", labels, at=stage.clock.now())
    stage.window((200, 0), (1000, 0))
    assert stage.totals(rollout, "labels").canary == (200, 100)
    assert stage.totals(rollout, "labels").stable == (1000, 100)
    assert stage.row(rollout).state == "Degraded"
    assert stage.row(rollout).message.startswith("labels: 100 of 200 canary requests were wrong (50.0%)")


def test_slow_requests_are_judged_too(stage):
    rollout = stage.canary(metrics="{name: latency, threshold: 100ms}")
    stage.traffic.serve("delay-00001", 760)
    stage.traffic.serve("delay-00002", 40, slow=30)
    stage.step(1)
    assert stage.totals(rollout, "latency").canary == (40, 30)
    assert stage.row(rollout).state == "Degraded"


def test_services_move_on_their_own(stage):
    rollout = stage.canary()
    stage.stable("price")
    other = stage.request(service="price", model="models:/price/2")
    stage.step()
    stage.step(2)
    stage.window(**BAD)
    assert (stage.row(rollout).state, stage.row(other).state) == ("Degraded", "Progressing")
    assert stage.traffic.weights() == {"delay-00001": 100, "price-00001": 95, "price-00002": 5}


def test_the_revision_before_stays_up_for_a_while(stage):
    stage.canary("{setWeight: 5}")
    stage.step()
    assert {r.id for r in stage.servers.running()} == {"delay-00001", "delay-00002"}
    stage.step(59)
    assert {r.id for r in stage.servers.running()} == {"delay-00001", "delay-00002"}
    stage.step(2)
    assert {r.id for r in stage.servers.running()} == {"delay-00002"}


def test_it_looks_again_sooner_while_something_moves(stage):
    stage.stable()
    idle = stage.step()
    stage.request()
    assert 0 < stage.step() < idle


def test_what_it_does_is_said_in_words(stage):
    stage.stable()
    rollout = stage.request("{setWeight: 5}, {analysis: {}}, {pause: {}}")
    stage.servers.states["delay-00002"] = "starting"
    stage.step()
    words = [queries.doing(stage.row(rollout))]
    stage.servers.states["delay-00002"] = "ready"
    stage.step()
    words.append(queries.doing(stage.row(rollout)))
    stage.step(2)
    stage.window(**GOOD)
    words.append(queries.doing(stage.row(rollout)))
    assert words == ["starting the new revision", "judging", "waiting for `headrace rollouts promote`"]
    assert queries.list_services(stage.database)[0]["rollout"] == rollout
    assert rows.active(stage.database)[0].id == rollout


def test_between_passes_it_looks_for_what_calls_for_one(stage):
    rollout = stage.canary("{setWeight: 5}, {pause: {}}, {setWeight: 50}")
    stage.controller.look()
    done = len(stage.traffic.applied)
    stage.controller._due = float("inf")
    for _ in range(3):
        assert stage.controller.look() <= controller.TICK_SECONDS
    assert len(stage.traffic.applied) == done, "nothing calls for a pass"
    actions.abort(stage.database, rollout, actor="user:ann", reason="", at=stage.clock.now())
    stage.controller.look()
    assert stage.traffic.weights() == {"delay-00001": 100}


def test_a_server_that_dies_calls_for_a_pass(stage):
    rollout = stage.canary("{setWeight: 5}, {pause: {}}, {setWeight: 50}")
    stage.controller.look()
    stage.controller._due = float("inf")
    stage.servers.dead.add("delay-00002")
    stage.controller.look()
    assert stage.row(rollout).state == "Degraded"
    assert stage.traffic.weights() == {"delay-00001": 100}


def test_the_windows_of_a_rollout_that_goes_on_for_weeks_stay_few(stage):
    rollout = stage.canary("{setWeight: 5}, {pause: {}}")
    for _ in range(50):
        stage.window(**GOOD)
    assert len(stage.totals(rollout).windows) == 50
    stage.clock.time += 14 * 86400
    stage.step()
    before = len(stage.totals(rollout).windows)
    for _ in range(100):
        stage.window(**GOOD)
    assert len(stage.totals(rollout).windows) == before
    stage.step(600)
    assert len(stage.totals(rollout).windows) == before + 1
    assert stage.totals(rollout).canary[0] == 150 * 400, "what came meanwhile is in the next one"
