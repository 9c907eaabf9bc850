"""What a person may do to a rollout. The loop reads the rows and acts on its next pass."""

from __future__ import annotations

from headrace.contracts.rollout import Rollout
from headrace.control.rollouts import request, rows
from headrace.errors import ConflictError, UsageError
from headrace.store.database import Database


def promote(database: Database, rollout_id: str, *, actor: str, reason: str, at: float) -> None:
    """Go on: end a pause, or skip the analysis that the rollout waits for; one held by a person only goes on.

    Raises:
        NotFoundError: no such rollout.
        ConflictError: it is finished.
    """
    row = _active(database, rollout_id)
    kind = row.current.kind if row.current else ""
    skip = kind == "pause" or (kind in ("analysis", "test") and row.paused_by is None)
    with database.transaction() as connection:
        landed = connection.execute(
            "UPDATE rollout SET state = 'Progressing', message = '', paused_by = NULL, step = step + ?, step_since = ?"
            " WHERE id = ? AND step = ? AND state = ?",
            (int(skip), at, row.id, row.step, row.state),
        ).rowcount
        if landed:
            rows.tell(connection, row, "rollout.promoted", at, reason=reason, actor=actor, data={"step": row.step})
    if not landed:
        raise ConflictError("the rollout has just moved on", where=f"rollout {rollout_id}", remedy="Look again.")


def pause(database: Database, rollout_id: str, *, actor: str, reason: str, at: float) -> None:
    """Hold the weights where they are; a failed verdict still rolls back.

    Raises:
        NotFoundError: no such rollout.
        ConflictError: it is finished, or paused already.
    """
    row = _active(database, rollout_id)
    with database.transaction() as connection:
        landed = connection.execute(
            "UPDATE rollout SET state = 'Paused', message = ?, paused_by = ? WHERE id = ? AND state = 'Progressing'",
            (f"paused by {actor}", actor, row.id),
        ).rowcount
        if landed:
            rows.tell(connection, row, "rollout.paused", at, reason=reason, actor=actor)
    if not landed:
        raise ConflictError("the rollout is paused already", where=f"rollout {rollout_id}")


def abort(database: Database, rollout_id: str, *, actor: str, reason: str, at: float) -> None:
    """Give all traffic back to the stable revision.

    Raises:
        NotFoundError: no such rollout.
        ConflictError: it is finished.
    """
    row = _active(database, rollout_id)
    message = f"aborted by {actor}" + (f": {reason}" if reason else "")
    if not rows.finish(database, row, "Aborted", at=at, message=message, actor=actor):
        raise ConflictError("the rollout has just finished", where=f"rollout {rollout_id}")


def rollback(database: Database, service: str, *, actor: str, reason: str, at: float) -> str:
    """Put the revision before back: abort the rollout under way, else move to the previous revision at once.

    Returns the id of the rollout that tells of it.

    Raises:
        NotFoundError: no such service.
        UsageError: there is no earlier revision.
    """
    found = rows.service(database, service)
    unfinished = rows.find(database, "service = ? AND state IN ('Progressing', 'Paused')", (service,))
    if unfinished:
        abort(database, unfinished[0].id, actor=actor, reason=reason or "rolled back", at=at)
        return unfinished[0].id
    if found.previous is None:
        raise UsageError(
            "there is no revision before this one",
            where=f"service {service}",
            remedy="`headrace deploy` starts another model.",
        )
    with database.transaction() as connection:
        return request.insert(
            connection, service=service, rollout=Rollout(service), to_revision=found.previous,
            key=f"rollback:{service}:{found.stable}:{at}", actor=actor, reason=reason or "rolled back", at=at,
            data={"rollback": "true"},
        )  # fmt: skip


def _active(database: Database, rollout_id: str) -> rows.RolloutRow:
    row = rows.rollout(database, rollout_id)
    if row.state not in rows.ACTIVE:
        raise ConflictError(f"the rollout is {row.state} already", where=f"rollout {rollout_id}")
    return row
