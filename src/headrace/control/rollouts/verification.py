"""Compute every stored verdict again from what is stored beside it."""

from __future__ import annotations

import json
from typing import Any

from headrace.clock import rfc3339
from headrace.contracts.analysis_template import TemplateMetric
from headrace.contracts.verdict import Verdict
from headrace.control.rollouts import judging, measurements, rows
from headrace.control.rollouts.judging import Counted
from headrace.control.rollouts.measurements import Measurement
from headrace.control.rollouts.rows import RolloutRow
from headrace.store.database import Database


def verify(database: Database, rollout_id: str) -> list[dict[str, Any]]:
    """The stored verdicts in order, each with `same`: whether the stored counts give it again, bit for bit.

    Raises NotFoundError.
    """
    row = rows.rollout(database, rollout_id)
    told = []
    for stored in database.query("SELECT * FROM rollout_verdict WHERE rollout_id = ? ORDER BY number", (row.id,)):
        evidence = json.loads(stored["evidence"])
        again = _again(database, row, stored["kind"], stored["step"], stored["at"], evidence)
        was = {"outcome": stored["outcome"], "summary": stored["summary"], "evidence": evidence}
        told.append(
            {
                "at": rfc3339(stored["at"]),
                "kind": stored["kind"],
                "outcome": stored["outcome"],
                "summary": stored["summary"],
                "same": again is not None and _text(again.to_dict()) == _text(was),
                "again": again.to_dict() if again else None,
            }
        )
    return told


def _again(
    database: Database, row: RolloutRow, kind: str, step: int, at: float, evidence: dict[str, Any]
) -> Verdict | None:
    document = row.document
    if kind == "templates":
        metrics = document.steps[step].metrics
        seen = measurements.read(database, row.id, step, until=at)
        anew = {
            f"{metric.template}/{metric.name}": [
                _evaluated(metric, one) for one in seen.get(f"{metric.template}/{metric.name}", [])
            ]
            for metric in metrics
        }
        return measurements.verdict(metrics, anew)
    windows = rows.windows(database, row.id, until=at)
    test = document.test
    counted = Counted(windows, rows.moments(database, row.id, test.metric, until=at) if test else {})
    if kind == "watch":
        return judging.watch_verdict(document, counted)
    if kind == "test" and test is not None:
        return judging.test_verdict(test, counted)
    return judging.analysis_verdict(document, counted, next_weight=evidence["next_weight"])


def _evaluated(metric: TemplateMetric, one: Measurement) -> Measurement:
    """A measurement whose phase follows from its value."""
    if one.value is None:
        return one
    phase, message = measurements.evaluate(metric, one.value)
    return Measurement(one.at, phase, one.value, message)


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
