"""After promotion: late labels of both arms, and what the new revision answers since, may still roll back."""

from __future__ import annotations

import sqlite3

from headrace.contracts.rollout import Rollout
from headrace.contracts.verdict import Outcome, Verdict
from headrace.control.rollouts import counting, judging, request, rows
from headrace.control.rollouts.judging import ALONE, Counted
from headrace.control.rollouts.ports import Evidence, Traffic
from headrace.control.rollouts.rows import RolloutRow
from headrace.store.database import Database


def note_the_usual(database: Database, row: RolloutRow, traffic: Traffic, evidence: Evidence, now: float) -> bool:
    """Right before the promotion, keep what the revision before has had: once it has no traffic, nobody counts it any
    more. Whether it is kept, now or before; True when the watch needs nothing of it.
    """
    if not row.document.watched_alone:
        return True
    # A window may have been stored in this very pass.
    row = rows.rollout(database, row.id)
    counted = counting.count_watched(row, traffic, evidence)
    if counted is None:
        return False
    seen = rows.windows(database, row.id)
    fresh = {name: window for name, window in counting.usual(row, counted).items() if name not in seen}
    return rows.record_windows(database, row, counted=counted.numbers, windows=fresh, verdict=None, at=now)


def look(database: Database, row: RolloutRow, traffic: Traffic, evidence: Evidence, now: float) -> bool:
    """One step of one watch: end it, or count, judge and roll back; whether traffic is to move."""
    document = row.document
    assert document.watch is not None
    assert row.watch_until is not None
    service = rows.service(database, row.service)
    moving = rows.find(database, "service = ? AND state IN ('Progressing', 'Paused')", (row.service,))
    if service.stable != row.to_revision or moving:
        _end(database, row, now, "another revision is on its way")
        return False
    if not counting.is_time(row, now):
        return False
    counted = counting.count_watched(row, traffic, evidence)
    if counted is None:
        return False
    names = [metric.name for metric in document.watched_on_both]
    if now - (row.finished_at or 0.0) >= document.analysis.warmup:
        names += [ALONE + metric.name for metric in document.watched_alone]
    fresh = counting.windows_since(row, counted, names) if names else {}
    seen = rows.windows(database, row.id)
    together = Counted({name: [*seen.get(name, []), window] for name, window in fresh.items()})
    verdict = judging.watch_verdict(document, together)
    # A window in which nothing came says nothing, and is not stored.
    told = {name: window for name, window in fresh.items() if window.canary_n or window.stable_n}
    if not rows.record_windows(database, row, counted=counted.numbers, windows=told, verdict=verdict, at=now):
        return False
    if verdict.outcome is Outcome.FAILED:
        return roll_back(database, row, verdict.summary, now, verdict)
    if now >= row.watch_until:
        _end(database, row, now, "")
    return False


def _end(database: Database, row: RolloutRow, now: float, reason: str) -> None:
    with database.transaction() as connection:
        landed = connection.execute(
            "UPDATE rollout SET watch_until = NULL WHERE id = ? AND watch_until IS NOT NULL", (row.id,)
        ).rowcount
        if landed:
            rows.tell(connection, row, "rollout.watched", now, reason=reason)


def roll_back(database: Database, row: RolloutRow, message: str, now: float, verdict: Verdict | None = None) -> bool:
    """Degraded after all, and the revision before comes back: in one transaction."""
    assert row.from_revision is not None
    with database.transaction() as connection:
        landed = connection.execute(
            "UPDATE rollout SET state = 'Degraded', message = ?, watch_until = NULL, registry_told = 0 WHERE id = ?"
            " AND state = 'Healthy' AND watch_until IS NOT NULL",
            (message, row.id),
        ).rowcount
        if landed:
            if verdict is not None:
                rows.keep_verdict(connection, row, verdict, now, "watch")
            about = {"revision": row.to_revision, "from": row.from_revision, "weight": row.weight}
            rows.tell(connection, row, "rollout.degraded", now, reason=message, data=about)
            _put_back(connection, row, message, now)
    return bool(landed)


def _put_back(connection: sqlite3.Connection, row: RolloutRow, reason: str, now: float) -> None:
    assert row.from_revision is not None
    request.insert(
        connection, service=row.service, rollout=Rollout(row.service), to_revision=row.from_revision,
        key=f"watch:{row.id}", actor=rows.ACTOR, reason=reason, at=now, data={"rollback": "true"},
    )  # fmt: skip
