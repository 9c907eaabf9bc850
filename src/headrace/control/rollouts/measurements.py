"""Measurements of AnalysisTemplates, as Argo Rollouts reads them: when one is due, what it says, what all say together.

Source: https://argo-rollouts.readthedocs.io/en/stable/features/analysis/
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from headrace.contracts import argo_condition
from headrace.contracts.analysis_template import ERROR_RETRY_SECONDS, REVISIONS, TemplateMetric
from headrace.contracts.verdict import Outcome, Verdict
from headrace.control.rollouts.prometheus import Answer, MeasurementError
from headrace.control.rollouts.rows import RolloutRow
from headrace.store.database import Database

THREADS = 4
_OUTCOMES = {
    "Successful": Outcome.PASSED, "Inconclusive": Outcome.INCONCLUSIVE, "Error": Outcome.ERROR,
    "Failed": Outcome.FAILED,
}  # fmt: skip
_WORST = ("Failed", "Error", "Inconclusive")
_Key = tuple[str, int, str, str]


@dataclass(frozen=True)
class Measurement:
    """One answer of a provider; `value` is None when it gave none. `at` is in unix seconds."""

    at: float
    phase: str
    value: Answer | None
    message: str = ""


def read(database: Database, rollout_id: str, step: int, until: float | None = None) -> dict[str, list[Measurement]]:
    """The measurements of a step, by `template/metric`, in order."""
    found: dict[str, list[Measurement]] = {}
    for row in database.query(
        "SELECT * FROM rollout_measurement WHERE rollout_id = ? AND step = ? ORDER BY number", (rollout_id, step)
    ):
        if until is None or row["at"] <= until:
            value = json.loads(row["value"]) if row["value"] is not None else None
            one = Measurement(row["at"], row["phase"], value, row["message"])
            found.setdefault(f"{row['template']}/{row['metric']}", []).append(one)
    return found


def evaluate(metric: TemplateMetric, answer: Answer) -> tuple[str, str]:
    """The phase of one answer, and why when it is an error.

    With one condition the other is its opposite; with both, neither true is Inconclusive; with none, any answer is
    Successful.
    """
    result: Any = float(answer) if isinstance(answer, str) else [float(value) for value in answer]
    try:
        success = argo_condition.holds(metric.success, result) if metric.success else None
        failure = argo_condition.holds(metric.failure, result) if metric.failure else None
    except argo_condition.ConditionError as error:
        return "Error", str(error)
    if failure or (failure is None and success is False):
        return "Failed", ""
    return ("Inconclusive", "") if success is False else ("Successful", "")


def assess(metric: TemplateMetric, seen: Sequence[Measurement]) -> str:
    """The phase of a metric after its measurements: Running, or how it ended."""
    phases = [one.phase for one in seen]
    errors_in_a_row = next((i for i, phase in enumerate(reversed(phases)) if phase != "Error"), len(phases))
    if phases.count("Failed") > metric.failure_limit:
        return "Failed"
    if phases.count("Inconclusive") > metric.inconclusive_limit:
        return "Inconclusive"
    if errors_in_a_row > metric.error_limit:
        return "Error"
    if metric.count is not None and len(phases) - phases.count("Error") >= max(metric.count, 1):
        return "Successful"
    return "Running"


def verdict(metrics: Sequence[TemplateMetric], seen: Mapping[str, Sequence[Measurement]]) -> Verdict | None:
    """The worst of the metrics once one has ended badly, passed once all have ended; None while they run.

    Metrics in dryRun are in the evidence and have no say. The same measurements give the same verdict.
    """
    parts = [_part(metric, seen.get(f"{metric.template}/{metric.name}", ())) for metric in metrics]
    binding = [part for part in parts if not part["dry_run"]]
    worst = next((phase for phase in _WORST if any(part["phase"] == phase for part in binding)), "Successful")
    if worst == "Successful" and any(part["phase"] == "Running" for part in binding):
        return None
    telling = [part for part in binding if part["phase"] == worst]
    summary = "; ".join(part["sentence"] for part in telling) or "every metric is in dryRun"
    return Verdict(_OUTCOMES[worst], summary, {"metrics": parts})


def is_due(metric: TemplateMetric, seen: Sequence[Measurement], *, since: float, now: float) -> bool:
    """Whether it is time for a measurement of a metric whose analysis began at `since`."""
    if not seen:
        return now - since >= metric.initial_delay
    interval = ERROR_RETRY_SECONDS if metric.interval is None else metric.interval
    return assess(metric, seen) == "Running" and now - seen[-1].at >= interval


def _part(metric: TemplateMetric, seen: Sequence[Measurement]) -> dict[str, Any]:
    phase = assess(metric, seen)
    return {
        "name": metric.name,
        "template": metric.template,
        "phase": phase,
        "dry_run": metric.dry_run,
        "measurements": [
            {"at": one.at, "phase": one.phase, "value": one.value, "message": one.message} for one in seen
        ],
        "sentence": _sentence(metric, phase, seen),
    }


def _sentence(metric: TemplateMetric, phase: str, seen: Sequence[Measurement]) -> str:
    if not seen:
        return f"{metric.name}: not measured yet"
    last = [one for one in seen if one.phase == phase][-1:] or [seen[-1]]
    count = sum(one.phase == last[0].phase for one in seen)
    what = f"{count} of {len(seen)} measurements {last[0].phase.lower()}"
    if last[0].message:
        return f"{metric.name}: {what}: {last[0].message}"
    condition = metric.failure if phase == "Failed" and metric.failure else metric.success or metric.failure
    value = last[0].value if isinstance(last[0].value, str) else f"[{', '.join(last[0].value or [])}]"
    return f"{metric.name}: {what}, the last with {value}" + (f" for {condition}" if condition else "")


class Measurer:
    """Asks providers in threads, so that a slow one holds up no rollout; what a killed process asked is asked again."""

    def __init__(self, database: Database, query: Callable[[TemplateMetric, str], Answer]) -> None:
        self.database = database
        self.query = query
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="measurements")
        self._asked: dict[_Key, Future[Answer]] = {}

    def measure(self, row: RolloutRow, now: float) -> Verdict | None:
        """Store what was answered, ask what is due, and judge what is stored; None while the analysis runs."""
        assert row.current is not None
        metrics = row.current.metrics
        seen = read(self.database, row.id, row.step)
        for metric in metrics:
            key = (row.id, row.step, metric.template, metric.name)
            before = seen.get(f"{metric.template}/{metric.name}", [])
            future = self._asked.get(key)
            if future is None and is_due(metric, before, since=row.step_since, now=now):
                self._asked[key] = self._threads.submit(self.query, metric, _filled(metric.query, row))
            elif future is not None and future.done():
                self._store(key, len(before) + 1, _measured(metric, future, now))
                del self._asked[key]
        return verdict(metrics, read(self.database, row.id, row.step))

    def forget(self, active: Sequence[RolloutRow]) -> None:
        """Drop what was asked for steps that are over."""
        standing = {(row.id, row.step) for row in active}
        for key in [key for key in self._asked if key[:2] not in standing]:
            self._asked.pop(key).cancel()

    def _store(self, key: _Key, number: int, one: Measurement) -> None:
        with self.database.transaction() as connection:
            connection.execute(
                "INSERT INTO rollout_measurement (rollout_id, step, template, metric, number, at, phase, value,"
                " message) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (*key, number, one.at, one.phase, None if one.value is None else json.dumps(one.value), one.message),
            )


def _measured(metric: TemplateMetric, future: Future[Answer], now: float) -> Measurement:
    try:
        answer = future.result()
    except MeasurementError as error:
        return Measurement(now, "Error", None, error.problem)
    phase, message = evaluate(metric, answer)
    return Measurement(now, phase, answer, message)


def _filled(query: str, row: RolloutRow) -> str:
    return query.replace(REVISIONS["Latest"], row.to_revision).replace(REVISIONS["Stable"], row.from_revision or "")
