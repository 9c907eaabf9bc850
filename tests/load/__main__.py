"""`python -m load`: the story under load. Exit code 1 when Headrace has failed a request that it should not have."""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from load import weights
from load.clients import Load
from load.stage import BLUE_GREEN, Stage

# A request that was under way when a server was killed, or that came before the loop saw it.
SEEN_SECONDS = 1.0


class Story:
    """Plays the changes one after the other, each for its share of the time, and notes when each happened."""

    def __init__(self, stage, load, seconds):
        self.stage, self.load, self.seconds = stage, load, seconds
        self.marks = []
        self.killed = None
        self.noticed = None
        self.broken = []

    def play(self):
        stage = self.stage
        self.mark("the first revision alone")
        canary = stage.deploy(1)
        stage.until(canary, "Paused", 10)
        self.mark("canary at 10 %")
        stage.command("rollouts", "promote", canary)
        stage.until(canary, "Paused", 50)
        self.mark("canary at 50 %")
        stage.command("rollouts", "promote", canary)
        stage.until(canary, "Healthy")
        self.mark("promoted")
        self.expect(self.kept_their_arm(), "a user left the canary while its weight grew")
        self.roll_back()
        green = stage.deploy(1, BLUE_GREEN)
        stage.until(green, "Paused", 0)
        self.mark("preview beside the stable one")
        stage.command("rollouts", "promote", green)
        stage.until(green, "Healthy")
        self.mark("switched to the preview")
        again = stage.deploy(0)
        stage.until(again, "Paused", 10)
        stage.kill()
        self.mark("the controller is killed")
        stage.up()
        self.mark("the controller is up again")
        self.expect(stage.until(again, "Paused", 10), "the rollout has not gone on")
        self.kill_the_canary(again)

    def roll_back(self):
        """`headrace rollback`, and how long the revision that goes still got requests."""
        (stable,) = {one.revision for one in self.load.sent[-20:]}
        asked = time.time()
        back = self.stage.command("rollback", "delay")["id"]
        self.stage.until(back, "Healthy")
        self.mark("rolled back")
        last = max(one.at for one in list(self.load.sent) if one.revision == stable)
        self.back_after = last - asked
        self.expect(self.back_after < 5, f"the rollback took {self.back_after:.1f} s")

    def kill_the_canary(self, rollout):
        revision = self.stage.rollout(rollout)["to"]["id"]
        process = self.stage.server_of(revision)
        self.killed = time.time()
        os.kill(process.pid, signal.SIGKILL)
        self.stage.until(rollout, "Degraded")
        self.noticed = time.time()
        self.mark("the canary's server is killed")

    def kept_their_arm(self):
        """Whether every user who once had the canary of this rollout kept it."""
        at_fifty = self.load.between(*self.marked("canary at 50 %"))
        at_ten = {one.user for one in self.load.between(*self.marked("canary at 10 %")) if one.arm == "canary"}
        return bool(at_ten) and all(one.arm == "canary" for one in at_fifty if one.user in at_ten)

    def mark(self, what):
        """Say what has just happened, and let the load go on over it for its share of the time."""
        begin = time.time()
        # What was sent while the change was under way belongs to neither side.
        time.sleep(max(self.seconds / 9, 2.0))
        self.marks.append((what, begin + 0.5, time.time()))
        print(f"  {what}", flush=True)

    def marked(self, what):
        return next((begin, end) for name, begin, end in self.marks if name == what)

    def expect(self, holds, otherwise):
        if not holds:
            self.broken.append(otherwise)


def main():
    parser = argparse.ArgumentParser(prog="load")
    parser.add_argument("--duration", type=float, default=300.0, help="seconds of load")
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        shares, users = weights.measure(Path(folder) / "weights")
        print("Weights over 10,000 requests: " + ", ".join(f"{w} % is {s:.2f} %" for w, s in shares.items()))
        print(f"Of {users['users']} users {users['changed']} changed arm, {users['lost']} lost the canary as it grew.")
        stage = Stage(Path(folder))
        try:
            story, load = _under_load(stage, options)
        finally:
            stage.close()
    broken = [*story.broken, *_failures(story, load)]
    broken += [f"{weight} % was {share:.2f} %" for weight, share in shares.items() if abs(share - weight) > 1]
    if users["changed"] or users["lost"]:
        broken.append("sticky users changed their arm")
    for one in broken:
        print(f"BROKEN: {one}")
    return 1 if broken else 0


def _under_load(stage, options):
    stage.up()
    stage.until(stage.deploy(0, _direct()), "Healthy")
    stage.wait(stage.serves)
    print(f"{options.rate:g} requests a second:", flush=True)
    with Load(stage.gateway, options.rate) as load:
        story = Story(stage, load, options.duration)
        story.play()
    return story, load


def _direct():
    from headrace.contracts.rollout_document import DIRECT

    return DIRECT


def _failures(story, load):
    """What failed and should not have; what a killed server had is told."""
    sent = list(load.sent)
    failed = [one for one in sent if one.failed]
    begin = story.killed or float("inf")
    of_the_killed = [one for one in failed if one.arm == "canary" and one.done >= begin]
    in_flight = [one for one in of_the_killed if one.at < begin]
    others = [one for one in failed if one not in of_the_killed]
    seconds = sent[-1].at - sent[0].at
    revisions = Counter(one.revision for one in sent)
    print(f"{len(sent)} requests in {seconds:.0f} s, {len(sent) / seconds:.0f} a second: {dict(revisions)}")
    print(f"Rolled back {story.back_after:.2f} s after the command was given.")
    late = max((one.at - begin for one in of_the_killed), default=0.0)
    print(
        f"Failed: {len(others)} in planned changes; of the killed server {len(in_flight)} under way and"
        f" {len(of_the_killed) - len(in_flight)} more, the last {max(late, 0.0):.2f} s after it died."
    )
    broken = [f"{one.status} {one.problem} of {one.revision or 'the gateway'} at {one.at:.2f}" for one in others[:10]]
    if late > SEEN_SECONDS:
        broken.append(f"a killed canary still got requests after {late:.2f} s")
    return broken


if __name__ == "__main__":
    sys.exit(main())
