"""Rounds of kills: some runs at a time, a few kills in them at moments that the seed chooses, then all the checks."""

from __future__ import annotations

import contextlib
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from crash import checks, ledger
from crash.pipelines import CACHING, documents
from crash.stage import Stage, until
from headrace.contracts import pipeline_spec
from headrace.governance import approvals
from headrace.runs.submit import create_run

VICTIMS = {"server": 3, "warm parent": 3, "worker": 5}
MOST_KILLS = 4
IDLE_SECONDS = 0.4
ROUNDS_A_HOME = 30
FINAL = ("SUCCEEDED", "FAILED", "CANCELED")


class BrokenPromise(AssertionError):
    """Something that must hold after any kill does not; says how to see it again."""


@dataclass(frozen=True)
class Kill:
    """One kill to come: of whom, and when: so many steps after the last one, and some seconds.

    Steps are lines of the event log, or of the tasks' own ledger: these come before what the engine knows of them.
    """

    victim: str
    steps: int
    ledger: bool
    seconds: float
    pick: float  # which of several workers: from 0 up to 1
    again: float | None  # for a server: kill its successor so many seconds after its start


@dataclass
class Tally:
    """What has been done and seen."""

    kills: Counter[tuple[str, str]] = field(default_factory=Counter)
    runs: int = 0
    attempts: int = 0
    lost: int = 0
    resumes: list[float] = field(default_factory=list)

    @property
    def total(self) -> int:
        return sum(self.kills.values())


class Suite:
    """Kills processes of one home. `say` prints a line."""

    def __init__(self, folder: Path, seed: int, say: Callable[[str], None]) -> None:
        self.seed = seed
        self.say = say
        self.folder = folder
        self._homes = 0
        self._set_stage()
        self.documents = {name: pipeline_spec.parse(text, f"{name}.yaml") for name, text in documents().items()}
        self.expected: dict[str, checks.Ending] = {}
        self.tally = Tally()
        self._gates: dict[str, float] = {}
        self._gate_delay = 0.0
        self._killed: set[int] = set()
        self._round = 0

    def prepare(self) -> None:
        """Run each pipeline once without any kill: so it has to end in every round."""
        self.stage.launch()
        self.stage.await_ready()
        for name in self.documents:
            run = self._create(name)
            until(lambda run=run: self._all_final([run]), f"{name} ends without kills")
            self._check([run])
            self.expected[name] = checks.ending(self.stage.database, run)
        self.say("Without kills: " + ", ".join(f"{name} {ending.state}" for name, ending in self.expected.items()))

    def _set_stage(self) -> None:
        self._homes += 1
        folder = self.folder / str(self._homes)
        self.ledger = folder / "ledger"
        self.ledger.mkdir(parents=True)
        self.stage = Stage(folder, random.Random(f"{self.seed}/ports {self._homes}"))

    def rounds(self, kills: int, first: int = 1) -> None:
        """Rounds until there have been so many kills. Raises BrokenPromise."""
        told = 0
        self._round = first - 1
        while self.tally.total < kills:
            self._round += 1
            if self._round - first == self._homes * ROUNDS_A_HOME:
                self._move()
            self._one_round(random.Random(f"{self.seed}/{self._round}"), kills - self.tally.total)
            if self.tally.total // 20 > told:
                told = self.tally.total // 20
                self.say(f"{self.tally.total:5} kills  {self.tally.runs} runs  {self.tally.lost} attempts done again")

    def finish(self) -> None:
        """Stop the server: nothing may be left of it. Raises BrokenPromise."""
        code = self.stage.stop()
        self._demand([f"the server ended with {code}"] if code else [])
        self._demand([f"a server said: {line}" for line in self.stage.complaints()])
        self._nobody_left()

    def _move(self) -> None:
        """Go on in a new home: so a server is killed, too, before it has made all that it needs."""
        self.finish()
        self.stage.close()
        shutil.rmtree(self.stage.folder)
        self._set_stage()
        self.stage.launch()

    # One round

    def _one_round(self, dice: random.Random, most: int) -> None:
        names = dice.sample(sorted(self.documents), 2)
        plan = [self._kill(dice) for _ in range(min(most, dice.randint(1, MOST_KILLS)))]
        self._gate_delay = dice.uniform(0.0, 1.0)
        self._killed.clear()
        runs = [self._create(name) for name in names]
        for kill in plan:
            if not self._await_moment(runs, kill):
                break
            self._carry_out(runs, kill)
            self._demand(checks.damaged(self.stage.database))
        until(lambda: self._all_final(runs), f"the runs {runs} of {names} in round {self._round} end")
        self._check(runs)
        for name, run in zip(names, runs, strict=True):
            self._demand(checks.ended_otherwise(self.expected[name], checks.ending(self.stage.database, run)), run)
        self.tally.runs += len(runs)

    def _kill(self, dice: random.Random) -> Kill:
        return Kill(
            victim=dice.choices(list(VICTIMS), list(VICTIMS.values()))[0],
            steps=dice.randrange(0, 14),
            ledger=dice.random() < 0.5,
            seconds=dice.choice((0.0, 0.0, dice.uniform(0.0, 0.08))),
            pick=dice.random(),
            again=dice.uniform(0.2, 2.5) if dice.random() < 0.15 else None,
        )

    def _await_moment(self, runs: list[str], kill: Kill) -> bool:
        """Wait for the moment of a kill; False when the runs have ended before it."""
        first = last = self._steps(runs, kill.ledger)
        since = time.monotonic()
        while (now := self._steps(runs, kill.ledger)) < first + kill.steps:
            if self._all_final(runs):
                return False
            if now != last:
                last, since = now, time.monotonic()
            elif time.monotonic() - since > IDLE_SECONDS:
                break
            time.sleep(0.001)
        time.sleep(kill.seconds)
        return True

    def _carry_out(self, runs: list[str], kill: Kill) -> None:
        moment = self._moment(runs, kill.ledger)
        if kill.victim == "server":
            self._kill_server(runs, moment, kill.again)
            return
        find = self.stage.workers if kill.victim == "worker" else self.stage.warm_parents
        while not self._all_final(runs):
            found = find()
            if found:
                chosen = found[int(kill.pick * len(found))]
                # It may end by itself in this very moment; then there will be another.
                with contextlib.suppress(psutil.NoSuchProcess):
                    chosen.kill()
                    self._killed.add(chosen.pid)
                    self.tally.kills[kill.victim, moment] += 1
                    return
            time.sleep(0.002)

    def _kill_server(self, runs: list[str], moment: str, again: float | None) -> None:
        killed = time.time()
        self.stage.kill_server()
        self.tally.kills["server", moment] += 1
        self.stage.launch()
        if again is not None:
            time.sleep(again)
            killed = time.time()
            self.stage.kill_server()
            self.tally.kills["server", "while it starts"] += 1
            self.stage.launch()
        open_runs = [run for run in runs if not self._all_final([run])]
        ready = self.stage.await_ready()
        for run in open_runs:
            until(lambda run=run: self._taken_over(run, killed), f"run {run} is taken over", seconds=30)
            seconds, problems = checks.resumed_late(self.stage.database, run, killed=killed, ready=ready)
            self.tally.resumes.append(seconds)
            self._demand(problems)

    def _taken_over(self, run: str, killed: float) -> bool:
        _, problems = checks.resumed_late(self.stage.database, run, killed=killed, ready=float("inf"))
        return not problems

    # What is looked at

    def _create(self, name: str) -> str:
        return create_run(
            self.stage.database, self.documents[name], pipeline=name, caching=name in CACHING, environment="dev",
            parameters={"ledger": str(self.ledger), "fresh": f"{self._round} {time.time()}"}, actor="user:crash",
            at=time.time(),
        )  # fmt: skip

    def _steps(self, runs: list[str], of_ledger: bool) -> int:
        self._answer_gates(runs)
        if of_ledger:
            return sum(len(ledger.lines(self.ledger, run)) for run in runs)
        return len(self._told(runs))

    def _moment(self, runs: list[str], of_ledger: bool) -> str:
        if of_ledger:
            lines = [line for run in runs for line in ledger.lines(self.ledger, run)]
            return (
                f"a task says that it has {max(lines, key=lambda line: line.at).what}" if lines else "at the beginning"
            )
        return f"after {self._told(runs)[-1]}"

    def _told(self, runs: list[str]) -> list[str]:
        """The kinds of the runs' events, in order. A run that was created has one."""
        where = " OR ".join("subject GLOB ?" for _ in runs)
        rows = self.stage.database.query(
            f"SELECT kind FROM event WHERE {where} ORDER BY seq", [f"run/{run}*" for run in runs]
        )
        return [row["kind"] for row in rows]

    def _answer_gates(self, runs: list[str]) -> None:
        """Approve what waits, some time after it was asked: as a person would, whether the server is up or not."""
        for gate in approvals.gates(self.stage.database, "waiting"):
            asked = self._gates.setdefault(gate.id, time.monotonic())
            if time.monotonic() - asked >= self._gate_delay:
                approvals.decide(
                    self.stage.database, gate.id, at=time.time(), actor="user:ann", approve=True, reason="fine"
                )

    def _all_final(self, runs: list[str]) -> bool:
        self._answer_gates(runs)
        rows = self.stage.database.query("SELECT id, state FROM run WHERE state IN ('SUCCEEDED', 'FAILED', 'CANCELED')")
        return set(runs) <= {row["id"] for row in rows}

    def _check(self, runs: list[str]) -> None:
        database = self.stage.database
        self._demand(checks.damaged(database))
        for run in runs:
            self._demand(checks.torn(database, run), run)
            self._demand(checks.ran_twice(database, run, ledger.lines(self.ledger, run), self._killed), run)
            for row in database.query("SELECT state FROM attempt WHERE run_id = ?", (run,)):
                self.tally.attempts += 1
                self.tally.lost += row["state"] != "SUCCEEDED"
        self._nobody_left()

    def _nobody_left(self) -> None:
        left: list[str] = []

        def gone() -> bool:
            left[:] = self.stage.strangers()
            return not left

        try:
            until(gone, "no process is left", seconds=15)
        except AssertionError:
            self._demand([f"a process is left: {one}" for one in left])

    def _demand(self, problems: list[str], run: str = "") -> None:
        if problems:
            where = f"round {self._round}, run {run}" if run else f"round {self._round}"
            again = f"python -m crash --seed {self.seed} --round {self._round}"
            told = "\n  ".join(problems)
            raise BrokenPromise(f"{where}:\n  {told}\nstate: {self.stage.folder}\nagain: {again}")


def summary(tally: Tally, seconds: float) -> str:
    """Kills by victim and moment, and what they have caused."""
    lines = [
        f"{tally.total} kills in {tally.runs} runs and {seconds:.0f} s; nothing lost, repeated, torn or left behind."
    ]
    for victim in sorted({victim for victim, _ in tally.kills}):
        moments = {moment: count for (name, moment), count in tally.kills.items() if name == victim}
        lines.append(f"{victim}: {sum(moments.values())}")
        lines += [f"  {count:4}  {moment}" for moment, count in sorted(moments.items(), key=lambda item: -item[1])]
    lines.append(
        f"{tally.attempts} attempts, of which {tally.lost} did not succeed (by plan, or killed) and were made good"
    )
    if tally.resumes:
        lines.append(f"runs taken over after the server was ready: at most {max(tally.resumes):.2f} s")
    return "\n".join(lines)
