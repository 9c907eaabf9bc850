"""Rollouts and services as JSON: one function behind the command line, the API and the console."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from headrace.clock import rfc3339
from headrace.contracts.rollout import Step
from headrace.control.rollouts import rows
from headrace.serving import latency, revisions
from headrace.serving.revisions import Revision
from headrace.store.database import Database


def list_services(database: Database) -> list[dict[str, Any]]:
    """All services."""
    return [service_json(database, service.name) for service in rows.services(database)]


def service_json(database: Database, name: str) -> dict[str, Any]:
    """A service with its stable revision, the one before, and the rollout under way. Raises NotFoundError."""
    service = rows.service(database, name)
    unfinished = rows.find(database, "service = ? AND state IN ('Progressing', 'Paused')", (name,))
    return {
        "name": service.name,
        "namespace": service.namespace,
        "stable": _revision(database, service.stable),
        "previous": _revision(database, service.previous),
        "rollout": unfinished[0].id if unfinished else None,
        "updated_at": rfc3339(service.updated_at),
    }


def list_rollouts(database: Database, *, service: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
    """The newest rollouts first, without their verdicts."""
    where, parameters = ("service = ?", [service]) if service else ("1", [])
    found = rows.find(database, where, parameters)
    return [_summary(database, row) for row in reversed(found[-limit:])]


def rollout_json(database: Database, rollout_id: str) -> dict[str, Any]:
    """A rollout with its steps, counts by metric, latencies in milliseconds and verdicts. Raises NotFoundError.

    The latency of an arm is that of all its requests that were counted; None where nothing is known.
    """
    row = rows.rollout(database, rollout_id)
    totals = database.query(
        "SELECT metric, sum(canary_n) AS canary_n, sum(canary_x) AS canary_x, sum(stable_n) AS stable_n,"
        " sum(stable_x) AS stable_x FROM rollout_window WHERE rollout_id = ? GROUP BY metric",
        (row.id,),
    )
    verdicts = database.query("SELECT * FROM rollout_verdict WHERE rollout_id = ? ORDER BY number", (row.id,))
    return {
        **_summary(database, row),
        "steps": [_step(step) for step in row.document.steps],
        "counts": {
            total["metric"]: {
                "canary": {"requests": total["canary_n"], "events": total["canary_x"]},
                "stable": {"requests": total["stable_n"], "events": total["stable_x"]},
            }
            for total in totals
        },
        "latency": _latency(database, row.id),
        "latest_verdict": dict(row.verdict) if row.verdict else None,
        "verdicts": [
            {
                "outcome": verdict["outcome"],
                "summary": verdict["summary"],
                "step": verdict["step"],
                "weight": verdict["weight"],
                "at": rfc3339(verdict["at"]),
                "evidence": json.loads(verdict["evidence"]),
                "kind": verdict["kind"],
            }
            for verdict in verdicts
        ],
        "measurements": _measurements(database, row.id),
    }


def _latency(database: Database, rollout_id: str) -> dict[str, dict[str, float] | None]:
    found = rows.latency(database, rollout_id)
    return {arm: _percentiles(found.get(arm, {})) for arm in ("canary", "stable")}


def _percentiles(histogram: latency.Histogram) -> dict[str, float] | None:
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
    told = {name: latency.quantile(histogram, share) for name, share in shares.items()}
    known = {name: value for name, value in told.items() if value is not None}
    return {**known, "requests": max(histogram.values())} if known else None


def _measurements(database: Database, rollout_id: str) -> list[dict[str, Any]]:
    return [
        {
            "step": one["step"],
            "template": one["template"],
            "metric": one["metric"],
            "at": rfc3339(one["at"]),
            "phase": one["phase"],
            "value": json.loads(one["value"]) if one["value"] is not None else None,
            "message": one["message"],
        }
        for one in database.query(
            "SELECT * FROM rollout_measurement WHERE rollout_id = ? ORDER BY at, rowid", (rollout_id,)
        )
    ]


def windows_json(
    database: Database, rollout_id: str, newest: int | None = None, points: int | None = None
) -> list[dict[str, Any]]:
    """What was counted, window by window in the order of time, with what all windows of its metric so far say.

    `newest` tells only the last so many of each metric; `points` tells at most so many of each, from the newest back at
    even steps.

    The test of a metric fails when its e-value reaches `limit`. `ratio` estimates the new revision's rate over the old
    one's, None while nothing bad happened with the old one; `ratio_interval` is what is not excluded, as the verdict
    has it: a confidence sequence. They are None where another test is made of the counts. Raises NotFoundError.
    """
    # numpy, which a list of rollouts does not need
    from headrace.control.rollouts import judging
    from headrace.quality.analysis import judge
    from headrace.quality.analysis.evidence import Evidence
    from headrace.quality.analysis.sequential import e_value, ratio_interval

    row = rows.rollout(database, rollout_id)
    judged = judging.judged_on_both(row.document)
    told: list[tuple[int, str, dict[str, Any]]] = []
    for name, found in _windows_by_metric(database, row.id).items():
        step = max(1, -(-len(found) // points)) if points else 1
        analysis, metric = judged.get(name, (None, None))
        seen, untold = Evidence(), []
        for left, one in zip(range(len(found) - 1, -1, -1), found, strict=True):
            window = rows.window(one)
            untold.append(window)
            if left % step or (newest is not None and left >= newest):
                continue
            # Many windows at once give the same sums as one by one, sooner.
            seen, untold = seen.plus(*untold), []
            about = {
                "metric": name,
                "at": rfc3339(one["at"]),
                "canary": _arm(window.canary_n, window.canary_x, window.canary_at_risk),
                "stable": _arm(window.stable_n, window.stable_x, window.stable_at_risk),
                "e_value": e_value(seen),
                "limit": None,
                "ratio": None,
                "ratio_interval": None,
            }
            if analysis and metric:
                about["limit"] = 1 / judge.share(analysis, metric)
                about["ratio"] = seen.ratio
                about["ratio_interval"] = list(ratio_interval(seen, analysis.alpha))
            told.append((one["number"], name, about))
    return [about for _, _, about in sorted(told, key=lambda one: one[:2])]


def _arm(n: int, x: int, at_risk: int | None) -> dict[str, Any]:
    """`at_risk`: the users who could have had an event; None where requests are counted."""
    return {"requests": n, "events": x, "at_risk": at_risk}


def _windows_by_metric(database: Database, rollout_id: str) -> dict[str, list[sqlite3.Row]]:
    """The stored windows of each metric, in order."""
    found: dict[str, list[sqlite3.Row]] = {}
    for one in database.query("SELECT * FROM rollout_window WHERE rollout_id = ? ORDER BY number", (rollout_id,)):
        found.setdefault(one["metric"], []).append(one)
    return found


def _summary(database: Database, row: rows.RolloutRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "service": row.service,
        "state": row.state,
        "weight": row.weight,
        "mirrored": row.document.mirrored(row.step) if row.state in rows.ACTIVE else 0,
        "step": row.step,
        "step_count": len(row.document.steps),
        "strategy": row.document.strategy,
        "doing": doing(row),
        "from": _revision(database, row.from_revision),
        "to": _revision(database, row.to_revision),
        "message": row.message,
        "actor": row.actor,
        "reason": row.reason,
        "created_at": rfc3339(row.created_at),
        "finished_at": rfc3339(row.finished_at) if row.finished_at is not None else None,
        "watched_until": rfc3339(row.watch_until) if row.watch_until is not None else None,
    }


def doing(row: rows.RolloutRow) -> str:
    """What a rollout is at, in words; "" for one that is finished and not watched."""
    step = row.current
    if row.watch_until is not None:
        watched = row.document.watch.metrics if row.document.watch else ()
        names = [metric.name for metric in watched]
        return "watching " + ", ".join("late labels" if name == "labels" else name for name in names)
    if row.state not in rows.ACTIVE:
        return ""
    if row.step == 0 and row.weight == 0 and row.document.strategy != "blueGreen":
        return "starting the new revision"
    if step is None:
        return "finishing"
    if step.kind == "analysis":
        return "measuring" if step.metrics else "judging"
    if step.kind == "test":
        return "testing which revision does better"
    if step.kind == "mirror":
        return f"mirroring {step.weight} % of the requests"
    if step.kind == "match":
        return "moving the requests that match"
    if step.kind == "pause":
        return "waiting for `headrace rollouts promote`" if step.seconds is None else f"pausing {step.seconds:g} s"
    return f"moving {step.weight} % of the traffic"


def _step(step: Step) -> dict[str, Any]:
    if step.kind == "setWeight":
        return {"setWeight": step.weight}
    if step.kind == "pause":
        return {"pause": {} if step.seconds is None else {"duration": f"{step.seconds:g}s"}}
    if step.metrics:
        return {"analysis": {"templates": [{"templateName": name} for name in dict.fromkeys(_templates(step))]}}
    if step.kind == "analysis":
        return {"analysis": {"minRequests": step.min_requests}}
    return {step.kind: step.weight} if step.kind == "mirror" else {step.kind: {}}


def _templates(step: Step) -> list[str]:
    return [metric.template for metric in step.metrics]


def _revision(database: Database, revision_id: str | None) -> dict[str, Any] | None:
    if revision_id is None:
        return None
    revision: Revision = revisions.get(database, revision_id)
    return {
        "id": revision.id,
        "model": revision.model_uri,
        "state": revision.state,
        "message": revision.message,
        "created_at": rfc3339(revision.created_at),
    }
