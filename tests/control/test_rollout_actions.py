import pytest

from headrace.control.rollouts import actions, queries
from headrace.errors import ConflictError, NotFoundError, UsageError
from headrace.store import events

GOOD = {"canary": (400, 2), "stable": (800, 4)}
BAD = {"canary": (40, 8), "stable": (760, 0)}


@pytest.fixture
def act(stage):
    """A person's action, now."""

    def act(action, target, reason="I say so"):
        return action(stage.database, target, actor="user:ann", reason=reason, at=stage.clock.now())

    return act


def test_a_pause_without_an_end_waits_for_a_person(stage, act):
    rollout = stage.canary("{setWeight: 5}, {pause: {}}, {setWeight: 50}")
    stage.step(10_000)
    row = stage.row(rollout)
    assert (row.state, row.step, row.message) == ("Paused", 1, "the document asks for a person to go on")
    act(actions.promote, rollout)
    stage.step()
    assert (stage.row(rollout).state, stage.row(rollout).weight) == ("Progressing", 50)
    (promoted,) = events.read(stage.database, kinds=["rollout.promoted"])
    assert (promoted.actor, promoted.reason, promoted.data["step"]) == ("user:ann", "I say so", 1)


def test_a_timed_pause_can_be_cut_short(stage, act):
    rollout = stage.canary("{setWeight: 5}, {pause: {duration: 1h}}, {setWeight: 50}")
    act(actions.promote, rollout)
    stage.step()
    assert stage.row(rollout).weight == 50


def test_promoting_skips_the_analysis_that_it_waits_for(stage, act):
    rollout = stage.canary()
    act(actions.promote, rollout)
    stage.step()
    assert (stage.row(rollout).step, stage.row(rollout).weight) == (3, 50)


def test_promoting_goes_on_after_an_analysis_that_came_to_no_verdict(stage, act):
    rollout = stage.canary()
    stage.step(61)
    assert stage.row(rollout).message == "no verdict after 60 s"
    act(actions.promote, rollout)
    row = stage.row(rollout)
    assert (row.state, row.step, row.message) == ("Progressing", 2, "")
    stage.step()
    assert stage.row(rollout).weight == 50


def test_a_person_holds_the_weights_and_lets_them_go_on_where_they_were(stage, act):
    rollout = stage.canary()
    act(actions.pause, rollout)
    stage.window(**GOOD)
    row = stage.row(rollout)
    assert (row.state, row.step, row.weight, row.message) == ("Paused", 1, 5, "paused by user:ann")
    act(actions.promote, rollout)
    assert (stage.row(rollout).state, stage.row(rollout).step) == ("Progressing", 1)
    stage.window(**GOOD)
    assert stage.row(rollout).step == 2


def test_what_a_person_holds_is_still_rolled_back_by_a_failed_verdict(stage, act):
    rollout = stage.canary()
    act(actions.pause, rollout)
    stage.window(**BAD)
    assert stage.row(rollout).state == "Degraded"


@pytest.mark.parametrize("action", [actions.pause, actions.abort])
@pytest.mark.parametrize(
    ("steps", "traffic"),
    [("{setWeight: 5}", None), ("{setWeight: 5}, {analysis: {}}, {setWeight: 50}", GOOD), ("", None)],
    ids=["weight", "analysis", "end"],
)
def test_an_action_in_the_middle_of_a_pass_is_not_undone_by_it(stage, act, monkeypatch, action, steps, traffic):
    if traffic:
        rollout = stage.canary(steps)
    else:
        stage.stable()
        rollout = stage.request(steps)
    before = stage.row(rollout)
    apply = stage.traffic.apply

    def acted_meanwhile(routes):
        monkeypatch.setattr(stage.traffic, "apply", apply)
        act(action, rollout)
        return apply(routes)

    monkeypatch.setattr(stage.traffic, "apply", acted_meanwhile)
    stage.window(**(traffic or {}))
    row = stage.row(rollout)
    assert (row.state, row.step) == ("Paused" if action is actions.pause else "Aborted", before.step)
    assert stage.service().stable == "delay-00001"


def test_aborting_gives_all_traffic_back(stage, act):
    rollout = stage.canary()
    act(actions.abort, rollout, "it smells")
    stage.step()
    row = stage.row(rollout)
    assert (row.state, row.weight, row.message) == ("Aborted", 0, "aborted by user:ann: it smells")
    assert stage.traffic.weights() == {"delay-00001": 100}
    assert [r.id for r in stage.servers.running()] == ["delay-00001"]
    assert stage.service().stable == "delay-00001"


def test_rolling_back_a_rollout_under_way_aborts_it(stage, act):
    rollout = stage.canary()
    assert act(actions.rollback, "delay", "") == rollout
    assert (stage.row(rollout).state, stage.row(rollout).message) == ("Aborted", "aborted by user:ann: rolled back")


def test_rolling_back_a_healthy_revision_puts_the_one_before_back_at_once(stage, act):
    rollout = stage.canary("{setWeight: 5}")
    stage.step()
    assert stage.row(rollout).state == "Healthy"
    back = act(actions.rollback, "delay")
    assert back != rollout
    stage.step()
    row = stage.row(back)
    assert (row.state, row.from_revision, row.to_revision) == ("Healthy", "delay-00002", "delay-00001")
    assert stage.traffic.weights() == {"delay-00001": 100}
    assert (stage.service().stable, stage.service().previous) == ("delay-00001", "delay-00002")
    assert events.read(stage.database, subject=f"rollout/{back}")[0].data["rollback"] == "true"


def test_a_revision_that_is_rolled_back_to_long_after_is_started_first(stage, act):
    stage.canary("{setWeight: 5}")
    stage.step()
    stage.step(3600)
    assert [r.id for r in stage.servers.running()] == ["delay-00002"]
    stage.servers.states["delay-00001"] = "starting"
    act(actions.rollback, "delay")
    stage.step()
    assert stage.traffic.weights() == {"delay-00002": 100}
    stage.servers.states["delay-00001"] = "ready"
    stage.step()
    assert stage.traffic.weights() == {"delay-00001": 100}


def test_there_is_nothing_to_roll_back_to(stage, act):
    with pytest.raises(NotFoundError, match='no service is called "delay"'):
        act(actions.rollback, "delay")
    stage.stable()
    with pytest.raises(UsageError, match="service delay: there is no revision before this one"):
        act(actions.rollback, "delay")
    with pytest.raises(NotFoundError, match="no rollout has the id nope") as caught:
        act(actions.promote, "nope")
    assert caught.value.remedy == "`headrace rollouts list` shows them."


@pytest.mark.parametrize("action", [actions.promote, actions.pause, actions.abort])
def test_a_finished_rollout_is_final(stage, act, action):
    rollout = stage.canary()
    stage.window(**BAD)
    with pytest.raises(ConflictError, match=f"rollout {rollout}: the rollout is Degraded already"):
        act(action, rollout)
    assert stage.row(rollout).state == "Degraded"


def test_pausing_twice_is_told(stage, act):
    rollout = stage.canary()
    act(actions.pause, rollout)
    with pytest.raises(ConflictError, match="the rollout is paused already"):
        act(actions.pause, rollout)


def test_what_is_asked_for_last_replaces_the_rollout_under_way(stage):
    first = stage.canary()
    second = stage.request(model="models:/m/3")
    row = stage.row(first)
    assert (row.state, row.message, row.weight) == ("Aborted", f"replaced by {second}", 0)
    stage.step()
    assert stage.traffic.weights() == {"delay-00001": 95, "delay-00003": 5}
    assert {r.id for r in stage.servers.running()} == {"delay-00001", "delay-00003"}
    assert (stage.row(second).from_revision, stage.row(second).to_revision) == ("delay-00001", "delay-00003")


def test_the_same_request_twice_is_one_rollout_of_one_revision(stage):
    first = stage.request(key="run/1/deploy")
    assert stage.request(key="run/1/deploy") == first
    assert [r["id"] for r in queries.list_rollouts(stage.database)] == [first]
    assert stage.database.one("SELECT count(*) AS n FROM revision")["n"] == 1


def test_the_newest_rollout_comes_first_in_the_list(stage):
    first = stage.canary()
    stage.clock.time += 1
    second = stage.request()
    stage.clock.time += 1
    third = stage.request()
    assert [r["id"] for r in queries.list_rollouts(stage.database, service="delay", limit=2)] == [third, second]
    assert queries.rollout_json(stage.database, first)["state"] == "Aborted"
    assert queries.list_rollouts(stage.database, service="price") == []
