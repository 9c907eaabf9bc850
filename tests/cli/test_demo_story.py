"""What the demo says is what it saw."""

from headrace.cli.demo.replay import Sent
from headrace.cli.demo.story import _by_revision


def _failed(revision):
    return Sent(0.0, 0.1, 500, revision)


def test_failures_are_told_by_the_revision_that_they_were_seen_on():
    assert _by_revision([_failed("delay-00002"), _failed("delay-00003"), _failed("delay-00003")]) == (
        ": 2 on delay-00003, 1 on delay-00002"
    )
    assert _by_revision([_failed("")]) == ": 1 on the gateway"
    assert _by_revision([]) == ""
