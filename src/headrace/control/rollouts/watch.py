"""After promotion: late labels of what both arms predicted are judged on, and may still roll back."""

from __future__ import annotations

import sqlite3

from headrace.contracts.rollout import Rollout
from headrace.contracts.verdict import Outcome, Verdict
from headrace.control.rollouts import counting, judging, request, rows
from headrace.control.rollouts.judging import Counted
from headrace.control.rollouts.ports import Evidence
from headrace.control.rollouts.rows import RolloutRow
from headrace.store.database import Database


def look(database: Database, row: RolloutRow, evidence: Evidence, now: float) -> bool:
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
    counted = counting.count_labels(row, evidence)
    fresh = counting.windows_since(row, counted, [metric.name for metric in document.watch.metrics])
    seen = rows.windows(database, row.id)
    together = Counted({name: [*seen.get(name, []), window] for name, window in fresh.items()})
    verdict = judging.watch_verdict(document, together)
    # A window in which no label came says nothing, and is not stored.
    told = {name: window for name, window in fresh.items() if window.canary_n or window.stable_n}
    if not rows.record_windows(database, row, counted=counted.numbers, windows=told, verdict=verdict, at=now):
        return False
    if verdict.outcome is Outcome.FAILED:
        return _roll_back(database, row, verdict, now)
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


def _roll_back(database: Database, row: RolloutRow, verdict: Verdict, now: float) -> bool:
    """Degraded after all, and the revision before comes back: in one transaction."""
    assert row.from_revision is not None
    with database.transaction() as connection:
        landed = connection.execute(
            "UPDATE rollout SET state = 'Degraded', message = ?, watch_until = NULL, registry_told = 0 WHERE id = ?"
            " AND state = 'Healthy' AND watch_until IS NOT NULL",
            (verdict.summary, row.id),
        ).rowcount
        if landed:
            rows.keep_verdict(connection, row, verdict, now, "watch")
            about = {"revision": row.to_revision, "from": row.from_revision, "weight": row.weight}
            rows.tell(connection, row, "rollout.degraded", now, reason=verdict.summary, data=about)
            _put_back(connection, row, verdict.summary, now)
    return bool(landed)


def _put_back(connection: sqlite3.Connection, row: RolloutRow, reason: str, now: float) -> None:
    assert row.from_revision is not None
    request.insert(
        connection, service=row.service, rollout=Rollout(row.service), to_revision=row.from_revision,
        key=f"watch:{row.id}", actor=rows.ACTOR, reason=reason, at=now, data={"rollback": "true"},
    )  # fmt: skip
