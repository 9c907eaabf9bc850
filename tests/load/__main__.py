"""`python -m load`: the story under load. Exit code 1 when Headrace has failed a request that it should not have."""

import argparse
import os
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from load import weights
from load.clients import Load
from load.stage import BLUE_GREEN, Stage


class Story:
    """Plays the changes one after the other, each for its share of the time, and notes when each happened."""

    def __init__(self, stage, load, seconds):
        self.stage, self.load, self.seconds = stage, load, seconds
        self.marks = []
        # When its server got SIGKILL, and when nobody listened any more, by revision.
        self.killed = {}
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
        self.kill_the_stable()

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
        self.kill_server(self.stage.rollout(rollout)["to"]["id"])
        self.stage.until(rollout, "Degraded")
        self.mark("the canary's server is killed")

    def kill_the_stable(self):
        """Nobody else serves: who asks waits until it has been started again."""
        (stable,) = {one.revision for one in self.load.sent[-20:]}
        dead = self.kill_server(stable)
        self.stage.wait(lambda: (alive := self.stage.server_of(stable)) and alive.pid != dead and self.stage.serves())
        self.mark("the stable one's server is killed")

    def kill_server(self, revision):
        process = self.stage.server_of(revision)
        words = process.cmdline()
        port = int(words[words.index("--port") + 1])
        asked = time.time()
        os.kill(process.pid, signal.SIGKILL)
        # Its threads end and its memory is freed before its sockets are closed: until then it is sent requests.
        while _listens(port):
            time.sleep(0.0002)
        gone = time.time()
        self.killed[revision] = (asked, gone)
        print(f"  (its sockets were closed {(gone - asked) * 1000:.0f} ms after SIGKILL)")
        return process.pid

    def kept_their_arm(self):
        """Whether every user who once had the canary of this rollout kept it."""
        at_fifty = self.load.between(*self.marked("canary at 50 %"))
        at_ten = {one.user for one in self.load.between(*self.marked("canary at 10 %")) if one.arm == "canary"}
        return bool(at_ten) and all(one.arm == "canary" for one in at_fifty if one.user in at_ten)

    def mark(self, what):
        """Say what has just happened, and let the load go on over it for its share of the time."""
        begin = time.time()
        # What was sent while the change was under way belongs to neither side.
        time.sleep(max(self.seconds / 10, 2.0))
        self.marks.append((what, begin + 0.5, time.time()))
        print(f"  {what}", flush=True)

    def marked(self, what):
        return next((begin, end) for name, begin, end in self.marks if name == what)

    def expect(self, holds, otherwise):
        if not holds:
            self.broken.append(otherwise)


def _listens(port):
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


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
    """What failed and should not have: anything but what a server had under way when it was killed."""
    sent = list(load.sent)
    failed = [one for one in sent if one.failed]
    under_way = [one for one in failed if one.revision in story.killed and _under_way(one, *story.killed[one.revision])]
    others = [one for one in failed if one not in under_way]
    seconds = sent[-1].at - sent[0].at
    revisions = Counter(one.revision for one in sent)
    print(f"{len(sent)} requests in {seconds:.0f} s, {len(sent) / seconds:.0f} a second: {dict(revisions)}")
    print(f"Rolled back {story.back_after:.2f} s after the command was given.")
    waited = max(one.done - one.at for one in sent)
    print(f"Failed: {len(under_way)} under way at servers that were killed, {len(others)} others.")
    print(f"The longest wait for an answer, while the only server was started again: {waited:.2f} s")
    return [_told(one, story.killed) for one in others[:10]]


def _under_way(one, asked, gone):
    """Whether it was sent to the killed server before its sockets were closed, and not answered before the SIGKILL."""
    return one.at < gone and one.done >= asked


def _told(one, killed):
    after = f", {one.at - killed[one.revision][1]:.4f} s after its server had gone" if one.revision in killed else ""
    return f"{one.status} {one.problem} of {one.revision or 'the gateway'} at {one.at:.2f}{after}"


if __name__ == "__main__":
    sys.exit(main())
