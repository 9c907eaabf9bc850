import contextlib

import pytest

from headrace.control.rollouts import queries, rows

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
