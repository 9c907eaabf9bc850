"""A rollout as it stands in the database, and the guarded updates that move it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from headrace.contracts.rollout import Rollout, Step
from headrace.contracts.verdict import Verdict
from headrace.errors import NotFoundError
from headrace.quality.analysis.users import Users
from headrace.quality.analysis.window import Window
from headrace.serving.latency import Histogram
from headrace.store import events
from headrace.store.database import Database

ACTOR = "system:rollouts"
ACTIVE = ("Progressing", "Paused")


@dataclass(frozen=True)
class Service:
    """What serves: `stable`, and the revision before it. Both None until the first rollout is healthy."""

    name: str
    namespace: str
    stable: str | None
    previous: str | None
    updated_at: float


class SeenUser(NamedTuple):
    """A user, by a hash, whom a rollout has seen on its arms."""

    user: str
    on_canary: bool
    on_stable: bool
    bad: bool


@dataclass(frozen=True)
class RolloutRow:
    """One rollout. Times are in unix seconds; `weight` is the new revision's share in percent.

    `paused_by` is the person who holds a paused one; None when the document or a missing verdict does.
    """

    id: str
    service: str
    request_key: str
    document: Rollout
    from_revision: str | None
    to_revision: str
    state: str
    step: int
    step_since: float
    weight: int
    traffic_since: float | None
    counted: Mapping[str, Any] | None
    counted_at: float
    verdict: Mapping[str, Any] | None
    message: str
    actor: str
    reason: str
    registry_told: bool
    created_at: float
    finished_at: float | None
    paused_by: str | None
    watch_until: float | None

    @property
    def current(self) -> Step | None:
        """The step that it stands at; None after the last, and for a first revision, which has nobody to share with."""
        steps = self.document.steps
        return steps[self.step] if self.from_revision is not None and self.step < len(steps) else None


def services(database: Database) -> list[Service]:
    """All services, by name."""
    return [Service(**dict(row)) for row in database.query("SELECT * FROM service ORDER BY name")]


def service(database: Database, name: str) -> Service:
    """One service. Raises NotFoundError."""
    row = database.one("SELECT * FROM service WHERE name = ?", (name,))
    if row is None:
        known = ", ".join(s.name for s in services(database)) or "none yet; `headrace deploy` makes one"
        raise NotFoundError(f'no service is called "{name}"', remedy=f"Services that were deployed: {known}.")
    return Service(**dict(row))


def rollout(database: Database, rollout_id: str) -> RolloutRow:
    """One rollout. Raises NotFoundError."""
    row = database.one("SELECT * FROM rollout WHERE id = ?", (rollout_id,))
    if row is None:
        raise NotFoundError(f"no rollout has the id {rollout_id}", remedy="`headrace rollouts list` shows them.")
    return from_row(row)


def find(database: Database, where: str, parameters: Sequence[Any] = ()) -> list[RolloutRow]:
    """Rollouts by a condition, oldest first."""
    return [
        from_row(row)
        for row in database.query(f"SELECT * FROM rollout WHERE {where} ORDER BY created_at, rowid", tuple(parameters))
    ]


def active(database: Database) -> list[RolloutRow]:
    """Rollouts that are not finished."""
    return find(database, "state IN ('Progressing', 'Paused')")


def from_row(row: sqlite3.Row) -> RolloutRow:
    values = dict(row)
    return RolloutRow(
        **{
            **values,
            "document": Rollout.from_dict(json.loads(values["document"])),
            "counted": json.loads(values["counted"]) if values["counted"] else None,
            "verdict": json.loads(values["verdict"]) if values["verdict"] else None,
            "registry_told": bool(values["registry_told"]),
        }
    )


def watched(database: Database) -> list[RolloutRow]:
    """Rollouts that are healthy and still watched."""
    return find(database, "state = 'Healthy' AND watch_until IS NOT NULL")


def advance(
    database: Database,
    row: RolloutRow,
    *,
    weight: int,
    at: float,
    exposed: bool = False,
    verdict: Verdict | None = None,
    kind: str = "analysis",
) -> bool:
    """Go to the next step, with this weight in force from now on; `verdict` is kept when it was what led to that.

    `exposed` says that the new revision gets requests also without a weight: those that match, or copies.
    """
    with database.transaction() as connection:
        landed = _update(
            connection,
            "UPDATE rollout SET step = step + 1, step_since = :at, weight = :weight,"
            " traffic_since = CASE WHEN :weight > 0 OR :exposed THEN coalesce(traffic_since, :at) END"
            " WHERE id = :id AND step = :step AND state = 'Progressing'",
            {"at": at, "weight": weight, "exposed": int(exposed), "id": row.id, "step": row.step},
        )
        if landed and verdict is not None:
            keep_verdict(connection, row, verdict, at, kind)
        if landed and weight != row.weight:
            tell(connection, row, "rollout.weight", at, data={"weight": weight, "revision": row.to_revision})
    return landed


def hold(database: Database, row: RolloutRow, *, message: str, at: float) -> bool:
    """Progressing to Paused: it waits for a person."""
    with database.transaction() as connection:
        landed = _update(
            connection,
            "UPDATE rollout SET state = 'Paused', message = ? WHERE id = ? AND state = 'Progressing'",
            (message, row.id),
        )
        if landed:
            tell(connection, row, "rollout.paused", at, reason=message)
    return landed


def finish(
    database: Database,
    row: RolloutRow,
    state: str,
    *,
    at: float,
    message: str = "",
    actor: str = ACTOR,
    data: Mapping[str, Any] | None = None,
    verdict: Verdict | None = None,
    kind: str = "analysis",
    serves: bool = True,
) -> bool:
    """End a rollout: Healthy makes the new revision the stable one, everything else takes its traffic away.

    `verdict` is kept when it was what led to that. Without `serves` the new revision goes although it is healthy.
    """
    with database.transaction() as connection:
        return finish_within(
            connection, row, state, at=at, message=message, actor=actor, data=data, verdict=verdict, kind=kind,
            serves=serves,
        )  # fmt: skip


def finish_within(
    connection: sqlite3.Connection,
    row: RolloutRow,
    state: str,
    *,
    at: float,
    message: str = "",
    actor: str = ACTOR,
    data: Mapping[str, Any] | None = None,
    verdict: Verdict | None = None,
    kind: str = "analysis",
    serves: bool = True,
) -> bool:
    """As `finish`, inside the caller's transaction."""
    may_end = "'Progressing'" if state == "Healthy" else "'Progressing', 'Paused'"
    promoted = state == "Healthy" and serves
    watch = row.document.watch if promoted and row.from_revision not in (None, row.to_revision) else None
    landed = _update(
        connection,
        "UPDATE rollout SET state = ?, weight = ?, message = ?, finished_at = ?, watch_until = ?"
        f" WHERE id = ? AND state IN ({may_end})",
        (state, 100 if promoted else 0, message, at, at + watch.duration if watch else None, row.id),
    )
    if landed and promoted:
        connection.execute(
            "UPDATE service SET previous = CASE WHEN stable = :to THEN previous ELSE stable END, stable = :to,"
            " updated_at = :at WHERE name = :service",
            {"to": row.to_revision, "at": at, "service": row.service},
        )
    if landed and verdict is not None:
        keep_verdict(connection, row, verdict, at, kind)
    if landed:
        connection.execute("DELETE FROM rollout_user WHERE rollout_id = ?", (row.id,))
        about = {"revision": row.to_revision, "from": row.from_revision, **(data or {})}
        tell(connection, row, f"rollout.{state.lower()}", at, reason=message, data=about, actor=actor)
    return landed


def record_windows(
    database: Database,
    row: RolloutRow,
    *,
    counted: Mapping[str, Any],
    windows: Mapping[str, Window],
    verdict: Verdict | None,
    at: float,
    moments: Mapping[str, str] | None = None,
    users: Mapping[str, Sequence[SeenUser]] | None = None,
    took: Mapping[str, Histogram] | None = None,
) -> bool:
    """Store counts and what they start from next, together: a window is never counted twice. `took` is added to how
    long the requests before took, by arm."""
    with database.transaction() as connection:
        landed = _update(
            connection,
            "UPDATE rollout SET counted = ?, counted_at = ?, verdict = coalesce(?, verdict)"
            " WHERE id = ? AND counted_at = ? AND (state IN ('Progressing', 'Paused') OR watch_until IS NOT NULL)",
            (
                json.dumps(counted), at, json.dumps(verdict.to_dict()) if verdict else None, row.id, row.counted_at,
            ),
        )  # fmt: skip
        if landed and windows:
            number = connection.execute(
                "SELECT coalesce(max(number), 0) + 1 AS n FROM rollout_window WHERE rollout_id = ?", (row.id,)
            ).fetchone()["n"]
            connection.executemany(
                "INSERT INTO rollout_window (rollout_id, number, metric, at, canary_n, canary_x, stable_n, stable_x,"
                " moments, canary_at_risk, stable_at_risk) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        row.id,
                        number,
                        metric,
                        at,
                        w.canary_n,
                        w.canary_x,
                        w.stable_n,
                        w.stable_x,
                        (moments or {}).get(metric),
                        w.canary_at_risk,
                        w.stable_at_risk,
                    )
                    for metric, w in windows.items()
                ],
            )
        if landed and users:
            connection.executemany(
                "INSERT INTO rollout_user (rollout_id, metric, user, on_canary, on_stable, bad)"
                " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET on_canary = excluded.on_canary,"
                " on_stable = excluded.on_stable, bad = excluded.bad",
                [(row.id, metric, *one) for metric, seen in users.items() for one in seen],
            )
        if landed and took:
            connection.executemany(
                "INSERT INTO rollout_latency (rollout_id, arm, edge, n) VALUES (?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET n = n + excluded.n",
                [(row.id, arm, edge, n) for arm, histogram in took.items() for edge, n in histogram.items()],
            )
    return landed


def users(database: Database, rollout_id: str, metric: str) -> Users:
    """Whom a rollout has seen so far."""
    found = Users()
    for one in database.query(
        "SELECT * FROM rollout_user WHERE rollout_id = ? AND metric = ?", (rollout_id, metric)
    ):  # fmt: skip
        for arm, on in ((found.seen[1], one["on_canary"]), (found.seen[0], one["on_stable"]), (found.bad, one["bad"])):
            if on:
                arm.add(one["user"])
    return found


def window(row: sqlite3.Row) -> Window:
    """A stored window."""
    return Window(
        row["canary_n"], row["canary_x"], row["stable_n"], row["stable_x"], row["canary_at_risk"], row["stable_at_risk"]
    )  # fmt: skip


def windows(database: Database, rollout_id: str, until: float | None = None) -> dict[str, list[Window]]:
    """The windows of a rollout that were stored by `until` (default: all), by metric, in order."""
    found: dict[str, list[Window]] = {}
    for row in database.query(
        "SELECT * FROM rollout_window WHERE rollout_id = ? AND (? IS NULL OR at <= ?) ORDER BY number",
        (rollout_id, until, until),
    ):
        found.setdefault(row["metric"], []).append(window(row))
    return found


def latency(database: Database, rollout_id: str) -> dict[str, dict[float, int]]:
    """How long the requests of each arm took that were counted; an arm of which nothing is known is missing."""
    found: dict[str, dict[float, int]] = {}
    for row in database.query("SELECT arm, edge, n FROM rollout_latency WHERE rollout_id = ?", (rollout_id,)):
        found.setdefault(row["arm"], {})[row["edge"]] = row["n"]
    return found


def tell(
    connection: sqlite3.Connection,
    row: RolloutRow,
    kind: str,
    at: float,
    *,
    reason: str = "",
    data: Mapping[str, Any] | None = None,
    actor: str = ACTOR,
) -> None:
    """An event about a rollout."""
    about = {"service": row.service, **(data or {})}
    events.append(connection, at=at, actor=actor, kind=kind, subject=f"rollout/{row.id}", reason=reason, data=about)


def moments(database: Database, rollout_id: str, metric: str, until: float | None = None) -> dict[str, Any]:
    """Number, sum and sum of squares by arm, as they stood by `until` (default: now); empty when none are stored."""
    row = database.one(
        "SELECT moments FROM rollout_window WHERE rollout_id = ? AND metric = ? AND moments IS NOT NULL"
        " AND (? IS NULL OR at <= ?) ORDER BY number DESC LIMIT 1",
        (rollout_id, metric, until, until),
    )
    return {arm: tuple(values) for arm, values in json.loads(row["moments"]).items()} if row else {}


def keep_verdict(connection: sqlite3.Connection, row: RolloutRow, verdict: Verdict, at: float, kind: str) -> None:
    """A verdict that is acted on, in the transaction of the act."""
    told = verdict.to_dict()
    connection.execute(
        "INSERT INTO rollout_verdict (rollout_id, number, step, weight, at, outcome, summary, evidence, kind)"
        " SELECT ?, coalesce(max(number), 0) + 1, ?, ?, ?, ?, ?, ?, ? FROM rollout_verdict WHERE rollout_id = ?",
        (
            row.id, row.step, row.weight, at, told["outcome"], told["summary"], json.dumps(told["evidence"]), kind,
            row.id,
        ),
    )  # fmt: skip
    tell(connection, row, "rollout.judged", at, reason=told["summary"], data={**told, "weight": row.weight})


def _update(connection: sqlite3.Connection, sql: str, parameters: Any) -> bool:
    return connection.execute(sql, parameters).rowcount == 1
