"""The rollout loop. One pass: see that servers run, put the weights in force, read counts, judge, act.

Desired state and facts are rows; a pass decides from them alone. It may be killed anywhere and another one goes on;
weights stay in force meanwhile. Every strategy is a list of steps, and each kind of step has one function here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from headrace.clock import Clock
from headrace.contracts.analysis_template import TemplateMetric
from headrace.contracts.rollout import Step
from headrace.contracts.verdict import Outcome, Verdict
from headrace.control.rollouts import counting, judging, prometheus, rows, watch
from headrace.control.rollouts.by_user import ByUser
from headrace.control.rollouts.measurements import Measurer
from headrace.control.rollouts.ports import Evidence, Servers, Traffic
from headrace.control.rollouts.routing import routes
from headrace.control.rollouts.rows import RolloutRow, Service
from headrace.control.rollouts.summed import Summed
from headrace.quality.analysis.evidence import Evidence as Summary
from headrace.serving.revisions import Revision
from headrace.store.database import Database

BUSY_SECONDS = 0.2
IDLE_SECONDS = 0.5
TICK_SECONDS = 0.05


class RolloutController:
    """Moves every service toward what its newest rollout asks for."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        traffic: Traffic,
        servers: Servers,
        evidence: Evidence,
        query: Callable[[TemplateMetric, str], prometheus.Answer] = prometheus.query,
    ) -> None:
        self.database = database
        self.clock = clock
        self.traffic = traffic
        self.servers = servers
        self.evidence = evidence
        self.measurer = Measurer(database, query)
        self.by_user = ByUser(database)
        self.summed = Summed(database)
        self._due = 0.0
        self._standing: list[tuple[object, ...]] = []

    def look(self) -> float:
        """A pass when it is time for one, or when something calls for it: a person's word, or a server that died.

        Returns the seconds after which to look again. To look costs next to nothing, so that is soon.
        """
        started = time.monotonic()
        if started >= self._due or self._standing != self._stand() or self._somebody_died():
            self._due = started + self.one_pass()
            self._standing = self._stand()
        return max(min(TICK_SECONDS, self._due - time.monotonic()), 0.0)

    def _stand(self) -> list[tuple[object, ...]]:
        """Where the unfinished rollouts stand: what a command of another process changes."""
        found = self.database.query(
            "SELECT id, state, step, paused_by FROM rollout WHERE state IN ('Progressing', 'Paused')"
        )
        return [tuple(row) for row in found]

    def _somebody_died(self) -> bool:
        known = [*rows.active(self.database), *rows.watched(self.database)]
        return any(self._has_died(row) for row in known)

    def one_pass(self) -> float:
        """Take every rollout one step further; returns the seconds after which to look again."""
        self.traffic.start()
        self._end_the_dead()
        services, active = rows.services(self.database), rows.active(self.database)
        revisions = {name: self.servers.ensure(name) for name in _needed(services, active)}
        if not self.traffic.apply(routes(services, active, revisions, self._spares())):
            return BUSY_SECONDS
        if any(row.document.unit == "users" for row in active):
            self.by_user.take(active, self.traffic.user_requests())
        moved = [self._reconcile(row, revisions[row.to_revision]) for row in active]
        if any(moved):
            services, active = rows.services(self.database), rows.active(self.database)
            if not self.traffic.apply(routes(services, active, revisions, self._spares())):
                return BUSY_SECONDS
        now = self.clock.now()
        put_back = [
            watch.look(self.database, row, self.traffic, self.evidence, now) for row in rows.watched(self.database)
        ]
        if any(put_back):
            return 0.0
        self.measurer.forget(active)
        self.summed.forget(active)
        self._stop_unneeded(services, active)
        return BUSY_SECONDS if active else IDLE_SECONDS

    def _spares(self) -> dict[str, Revision]:
        """The revision before each that is watched: should the new one's server die, that one answers at once."""
        watched = rows.watched(self.database)
        running = {one.id: one for one in (self.servers.running() if watched else ()) if one.state == "ready"}
        return {row.to_revision: running[row.from_revision] for row in watched if row.from_revision in running}

    def _end_the_dead(self) -> None:
        """A new revision whose server dies while it has traffic and the stable one lives has failed.

        When both are gone, the machine or a person has ended them, and that says nothing of the new one.
        """
        for row in filter(self._has_died, rows.active(self.database)):
            message = f"the server of {row.to_revision} died while it had traffic"
            now = self.clock.now()
            rows.finish(self.database, row, "Degraded", message=message, at=now, data={"weight": row.weight})
        for row in filter(self._has_died, rows.watched(self.database)):
            if rows.service(self.database, row.service).stable == row.to_revision:
                message = f"the server of {row.to_revision} died while it was watched"
                watch.roll_back(self.database, row, message, self.clock.now())

    def _has_died(self, row: RolloutRow) -> bool:
        if row.traffic_since is None or row.from_revision is None:
            return False
        return self.servers.died(row.to_revision) and not self.servers.died(row.from_revision)

    def _reconcile(self, row: RolloutRow, target: Revision) -> bool:
        """One step of one rollout; whether its row has changed."""
        now = self.clock.now()
        if target.state == "failed":
            message = f"{target.id} does not serve: {target.message}"
            return rows.finish(self.database, row, "Degraded", message=message, at=now)
        if target.state != "ready":
            return False
        verdict, kind = self._judge(row, now)
        if verdict is not None and verdict.outcome is Outcome.FAILED:
            return self._degrade(row, verdict, kind, now)
        if row.state == "Paused":
            return False
        step = row.current
        if step is None:
            shadow = row.document.shadow if row.from_revision is not None else None
            serves = shadow is None or shadow.promote
            if row.from_revision and not watch.note_the_usual(
                self.database, row, self.traffic, self.evidence, now
            ):  # fmt: skip
                return False
            message = "" if serves else "the shadow has passed; the document does not promote it"
            return rows.finish(self.database, row, "Healthy", at=now, serves=serves, message=message)
        return self._take(row, step, verdict, now)

    def _degrade(self, row: RolloutRow, verdict: Verdict, kind: str, now: float) -> bool:
        return rows.finish(
            self.database, row, "Degraded", message=verdict.summary, at=now, data={"weight": row.weight},
            verdict=verdict, kind=kind,
        )  # fmt: skip

    # Steps

    def _take(self, row: RolloutRow, step: Step, verdict: Verdict | None, now: float) -> bool:
        """What a step asks for; whether the row has changed."""
        if step.kind == "setWeight":
            return rows.advance(self.database, row, weight=step.weight, at=now)
        if step.kind in ("mirror", "match"):
            return rows.advance(self.database, row, weight=row.weight, at=now, exposed=True)
        if step.kind == "pause":
            return self._pause(row, step, now)
        if step.kind == "test":
            return self._test(row, verdict, now)
        return self._measure(row, now) if step.metrics else self._analyse(row, step, verdict, now)

    def _pause(self, row: RolloutRow, step: Step, now: float) -> bool:
        if step.seconds is None:
            return rows.hold(self.database, row, message="the document asks for a person to go on", at=now)
        return now - row.step_since >= step.seconds and self._go_on(row, now)

    def _analyse(self, row: RolloutRow, step: Step, verdict: Verdict | None, now: float) -> bool:
        """The built-in analysis: on when it has passed with enough requests."""
        if verdict is not None and verdict.outcome is Outcome.PASSED and self._saw_enough(row, step.min_requests):
            return self._go_on(row, now, verdict)
        if now - row.step_since > row.document.analysis.max_duration:
            return self._undecided(row, now, f"no verdict after {row.document.analysis.max_duration:g} s")
        return False

    def _measure(self, row: RolloutRow, now: float) -> bool:
        """An analysis by templates: as Argo does, failed and error roll back, and inconclusive waits for a person."""
        verdict = self.measurer.measure(row, now)
        if verdict is None:
            return False
        if verdict.outcome is Outcome.PASSED:
            return self._go_on(row, now, verdict, "templates")
        if verdict.outcome is Outcome.INCONCLUSIVE:
            return rows.hold(self.database, row, message=verdict.summary, at=now)
        return self._degrade(row, verdict, "templates", now)

    def _test(self, row: RolloutRow, verdict: Verdict | None, now: float) -> bool:
        """An A/B test: it ends after its time or with its samples; a worse revision has been rolled back before."""
        test = row.document.test
        assert test is not None
        seen = judging.samples(test, judging.Counted(self.summed.of(rows.rollout(self.database, row.id))))
        enough = test.min_samples is not None and min(seen) >= test.min_samples
        over = test.duration is not None and now - row.step_since >= test.duration
        if verdict is None or not (enough or over):
            return False
        if verdict.outcome is Outcome.PASSED:
            return self._go_on(row, now, verdict, "test")
        return self._undecided(row, now, verdict.summary, verdict, "test")

    def _go_on(self, row: RolloutRow, now: float, verdict: Verdict | None = None, kind: str = "analysis") -> bool:
        exposed = row.traffic_since is not None
        return rows.advance(
            self.database, row, weight=row.weight, at=now, exposed=exposed, verdict=verdict, kind=kind
        )  # fmt: skip

    def _undecided(
        self, row: RolloutRow, now: float, message: str, verdict: Verdict | None = None, kind: str = "analysis"
    ) -> bool:
        """The analysis has taken as long as it may, without a verdict: do what the document says."""
        choice = row.document.analysis.on_inconclusive
        if choice == "rollback":
            return rows.finish(
                self.database, row, "Degraded", message=message, at=now, verdict=verdict, kind=kind
            )  # fmt: skip
        if choice == "promote":
            return self._go_on(row, now, verdict, kind)
        return rows.hold(self.database, row, message=message, at=now)

    # Evidence

    def _judge(self, row: RolloutRow, now: float) -> tuple[Verdict | None, str]:
        """Count one more window and judge all of them, and what kind of verdict it is; None when it is not time, or
        nothing can be counted."""
        analysis, document = row.document.analysis, row.document
        if row.from_revision is None or row.traffic_since is None or document.strategy == "blueGreen":
            return None, ""
        if now - row.traffic_since < analysis.warmup or not counting.is_time(row, now):
            return None, ""
        counted = counting.count(row, self.traffic, self.evidence)
        if counted is None:
            return None, ""
        if row.counted is None:
            self.by_user.forget(row)
            rows.record_windows(self.database, row, counted=counted.numbers, windows={}, verdict=None, at=now)
            return None, ""
        fresh = counting.windows_since(row, counted)
        users: dict[str, list[rows.SeenUser]] = {}
        if document.unit == "users":
            by_user, users = self.by_user.windows(row)
            fresh = {**fresh, **by_user}
        seen = self.summed.of(row)
        together = {name: seen.get(name, Summary()).plus(window) for name, window in fresh.items()}
        evidence = counting.with_moments(together, row, counted)
        verdict = judging.analysis_verdict(document, evidence, next_weight=document.next_weight(row.step))
        kind = "analysis"
        if document.test and verdict.outcome is not Outcome.FAILED:
            verdict, kind = judging.test_verdict(document.test, evidence), "test"
        landed = rows.record_windows(
            self.database, row, counted=counted.numbers, windows=fresh, verdict=verdict, at=now,
            moments=counted.moments, users=users, took=counting.latency_since(row, counted),
        )  # fmt: skip
        if landed:
            self.summed.keep(row, now, {**seen, **together})
        else:
            self.by_user.forget(row)
        return (verdict, kind) if landed else (None, "")

    def _saw_enough(self, row: RolloutRow, requests: int) -> bool:
        """Whether the new revision answered so many requests since this step began."""
        found = self.database.one(
            "SELECT coalesce(sum(canary_n), 0) AS n FROM rollout_window WHERE rollout_id = ? AND metric = ? AND at > ?",
            (row.id, row.document.analysis.metrics[0].name, row.step_since),
        )
        return found is not None and found["n"] >= requests

    # Servers

    def _stop_unneeded(self, services: Sequence[Service], active: Sequence[RolloutRow]) -> None:
        needed = set(_needed(services, active))
        kept = {service.previous for service in services if self._may_be_wanted_back(service)}
        kept |= {row.from_revision for row in rows.watched(self.database)}
        for revision in self.servers.running():
            if revision.id not in needed | kept:
                self.servers.stop(revision.id)

    def _may_be_wanted_back(self, service: Service) -> bool:
        """The revision before stays up for a while, so that a rollback finds it running."""
        last = rows.find(self.database, "service = ? AND state = 'Healthy' AND weight = 100", (service.name,))
        return bool(last) and self.clock.now() - service.updated_at < last[-1].document.scale_down_delay


def _needed(services: Sequence[Service], active: Sequence[RolloutRow]) -> list[str]:
    """Revisions that must run: those that serve, and those that are to."""
    wanted = [service.stable for service in services] + [row.to_revision for row in active]
    return list(dict.fromkeys(name for name in wanted if name is not None))
