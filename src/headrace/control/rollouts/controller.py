"""The rollout loop. One pass: see that servers run, put the weights in force, read counts, judge, act.

Desired state and facts are rows; a pass decides from them alone. It may be killed anywhere and another one goes on;
weights stay in force meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headrace.clock import Clock
from headrace.contracts.verdict import Outcome, Verdict
from headrace.control.rollouts import rows
from headrace.control.rollouts.ports import Labels, Servers, Traffic
from headrace.control.rollouts.rows import RolloutRow, Service
from headrace.quality.analysis.judge import judge
from headrace.quality.analysis.window import Window
from headrace.serving.gateway.model import Arm, Route
from headrace.serving.revisions import Revision
from headrace.store.database import Database

BUSY_SECONDS = 0.2
IDLE_SECONDS = 0.5
_Revisions = Mapping[str, Revision]


class RolloutController:
    """Moves every service toward what its newest rollout asks for."""

    def __init__(self, *, database: Database, clock: Clock, traffic: Traffic, servers: Servers, labels: Labels) -> None:
        self.database = database
        self.clock = clock
        self.traffic = traffic
        self.servers = servers
        self.labels = labels

    def one_pass(self) -> float:
        """Take every rollout one step further; returns the seconds after which to look again."""
        self.traffic.start()
        services, active = rows.services(self.database), rows.active(self.database)
        revisions = {name: self.servers.ensure(name) for name in _needed(services, active)}
        if not self.traffic.apply(_routes(services, active, revisions)):
            return BUSY_SECONDS
        moved = [self._reconcile(row, revisions[row.to_revision]) for row in active]
        if any(moved):
            services, active = rows.services(self.database), rows.active(self.database)
            if not self.traffic.apply(_routes(services, active, revisions)):
                return BUSY_SECONDS
        self._stop_unneeded(services, active)
        return BUSY_SECONDS if active else IDLE_SECONDS

    def _reconcile(self, row: RolloutRow, target: Revision) -> bool:
        """One step of one rollout; whether its row has changed."""
        now = self.clock.now()
        if target.state == "failed":
            message = f"{target.id} does not serve: {target.message}"
            return rows.finish(self.database, row, "Degraded", message=message, at=now)
        if target.state != "ready":
            return False
        verdict = self._judge(row, now)
        if verdict is not None and verdict.outcome is Outcome.FAILED:
            return rows.finish(
                self.database, row, "Degraded", message=verdict.summary, at=now, data={"weight": row.weight},
                verdict=verdict,
            )  # fmt: skip
        if row.state == "Paused":
            return False
        return self._step(row, verdict, now)

    def _step(self, row: RolloutRow, verdict: Verdict | None, now: float) -> bool:
        step = row.current
        if step is None:
            return rows.finish(self.database, row, "Healthy", at=now)
        if step.kind == "setWeight":
            return rows.advance(self.database, row, weight=step.weight, at=now)
        if step.kind == "pause":
            if step.seconds is None:
                return rows.hold(self.database, row, message="the document asks for a person to go on", at=now)
            return now - row.step_since >= step.seconds and self._go_on(row, now)
        if verdict is not None and verdict.outcome is Outcome.PASSED and self._saw_enough(row, step.min_requests):
            return rows.advance(self.database, row, weight=row.weight, at=now, verdict=verdict)
        if now - row.step_since > row.document.analysis.max_duration:
            return self._undecided(row, now)
        return False

    def _go_on(self, row: RolloutRow, now: float) -> bool:
        return rows.advance(self.database, row, weight=row.weight, at=now)

    def _undecided(self, row: RolloutRow, now: float) -> bool:
        """The analysis has taken as long as it may, without a verdict: do what the document says."""
        message = f"no verdict after {row.document.analysis.max_duration:g} s"
        choice = row.document.analysis.on_inconclusive
        if choice == "rollback":
            return rows.finish(self.database, row, "Degraded", message=message, at=now)
        if choice == "promote":
            return self._go_on(row, now)
        return rows.hold(self.database, row, message=message, at=now)

    # Evidence

    def _judge(self, row: RolloutRow, now: float) -> Verdict | None:
        """Count one more window and judge all of them; None when it is not time, or nothing can be counted."""
        analysis = row.document.analysis
        if row.weight == 0 or row.from_revision is None or row.traffic_since is None:
            return None
        if now - row.traffic_since < analysis.warmup or now - row.counted_at < analysis.interval:
            return None
        counted = self._count(row)
        if counted is None:
            return None
        if row.counted is None:
            rows.record_windows(self.database, row, counted=counted, windows={}, verdict=None, at=now)
            return None
        fresh = _windows(row, counted)
        seen = rows.windows(self.database, row.id)
        together = {name: [*seen.get(name, []), window] for name, window in fresh.items()}
        verdict = judge(analysis, together, next_weight=row.document.next_weight(row.step))
        landed = rows.record_windows(self.database, row, counted=counted, windows=fresh, verdict=verdict, at=now)
        return verdict if landed else None

    def _count(self, row: RolloutRow) -> dict[str, Any] | None:
        """Cumulative counts by metric and arm: [requests, bad events]."""
        counts, epoch = self.traffic.counts(), self.traffic.epoch()
        if not counts:
            return None
        since = row.traffic_since or 0.0
        counted: dict[str, Any] = {"epoch": epoch}
        for metric in row.document.analysis.metrics:
            numbers: dict[str, list[int]]
            if metric.name == "labels":
                numbers = {r: [c.labelled, c.wrong] for r, c in self.labels(row.service, since).items()}
            elif metric.name == "latency":
                slow = metric.threshold_ms
                numbers = {r: [max(c.buckets.values(), default=0), c.slower_than(slow)] for r, c in counts.items()}
            else:
                numbers = {r: [c.requests, c.errors] for r, c in counts.items()}
            arms = {"canary": row.to_revision, "stable": row.from_revision or ""}
            counted[metric.name] = {arm: numbers.get(revision, [0, 0]) for arm, revision in arms.items()}
        return counted

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
        for revision in self.servers.running():
            if revision.id not in needed | kept:
                self.servers.stop(revision.id)

    def _may_be_wanted_back(self, service: Service) -> bool:
        """The revision before stays up for a while, so that a rollback finds it running."""
        last = rows.find(self.database, "service = ? AND state = 'Healthy'", (service.name,))
        return bool(last) and self.clock.now() - service.updated_at < last[-1].document.scale_down_delay


def _needed(services: Sequence[Service], active: Sequence[RolloutRow]) -> list[str]:
    """Revisions that must run: those that serve, and those that are to."""
    wanted = [service.stable for service in services] + [row.to_revision for row in active]
    return list(dict.fromkeys(name for name in wanted if name is not None))


def _routes(services: Sequence[Service], active: Sequence[RolloutRow], revisions: _Revisions) -> list[Route]:
    """The split that the rows ask for. A new revision whose server is not ready gets nothing."""
    routes = []
    for service in services:
        row = next((r for r in active if r.service == service.name), None)
        stable = revisions.get(service.stable or "")
        target = revisions.get(row.to_revision) if row else None
        weight = row.weight if row and target and target.state == "ready" else 0
        arms = []
        if stable and stable.port:
            arms.append(Arm(stable.id, stable.port, 100 - weight))
        if stable and target and target.id != stable.id and target.port and target.state == "ready":
            arms.append(Arm(target.id, target.port, weight))
        shown = stable or target
        settings = shown.settings if shown else {}
        routes.append(
            Route(
                service=service.name,
                namespace=service.namespace,
                model_name=settings.get("model_name") or service.name,
                arms=tuple(arms),
                timeout_seconds=settings.get("timeout_seconds", 60.0),
            )
        )
    return routes


def _windows(row: RolloutRow, counted: Mapping[str, Any]) -> dict[str, Window]:
    """What has been counted since the last time. Counters that started anew count from zero."""
    assert row.counted is not None
    windows = {}
    for metric in row.document.analysis.metrics:
        before = row.counted.get(metric.name, {})
        if row.counted["epoch"] != counted["epoch"] and metric.name != "labels":
            before = {}
        arms = [_difference(counted[metric.name][arm], before.get(arm, [0, 0])) for arm in ("canary", "stable")]
        windows[metric.name] = Window(*arms[0], *arms[1])
    return windows


def _difference(now: Sequence[int], before: Sequence[int]) -> tuple[int, int]:
    n, x = now[0] - before[0], now[1] - before[1]
    if n < 0 or x < 0:
        n, x = now[0], now[1]
    # The two numbers are read one after the other, so one may run ahead by a request.
    return n, min(n, max(x, 0))
