"""Count what has happened on both arms of a rollout since the last time: windows."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.contracts.rollout import Metric
from headrace.control.rollouts.judging import ALONE, DISAGREEMENT, Counted
from headrace.control.rollouts.ports import Evidence, Traffic
from headrace.control.rollouts.rows import RolloutRow
from headrace.quality.analysis.evidence import Evidence as Summary
from headrace.quality.analysis.window import Window
from headrace.serving import latency
from headrace.serving.gateway.model import SHADOW, ArmCounts

# These come from the payload log; the others start from zero with each Envoy.
_FROM_THE_LOG = ("labels", DISAGREEMENT, ALONE + "labels")


# Where both arms' histograms stand beside the counts that are stored.
_TOOK = "took"

# A rollout that goes on for weeks is not looked at every second: its windows grow with its age, and so stay few.
LOOKS = 2000


@dataclass(frozen=True)
class Cumulative:
    """Counts since the beginning as they are stored: by metric and arm, [requests, bad events], and how long requests
    took, by arm; and sums of a mean."""

    numbers: Mapping[str, Any]
    moments: Mapping[str, str]


def is_time(row: RolloutRow, now: float) -> bool:
    """Whether the window that began with the last count is long enough: the document's interval, and more for a rollout
    that is old."""
    age = now - (row.traffic_since if row.traffic_since is not None else now)
    return now - row.counted_at >= max(row.document.analysis.interval, age / LOOKS)


def count(row: RolloutRow, traffic: Traffic, evidence: Evidence) -> Cumulative | None:
    """What has been counted so far; None when nothing can be counted."""
    counts, epoch = traffic.counts(), traffic.epoch()
    if not counts:
        return None
    since, stable = row.traffic_since or 0.0, row.from_revision or ""
    document = row.document
    canary = row.to_revision + (SHADOW if document.shadow else "")
    numbers: dict[str, Any] = {"epoch": epoch}
    for metric in document.counted_metrics:
        found = _labelled(row, evidence, since) if metric.name == "labels" else _answered(metric, counts)
        numbers[metric.name] = _by_arm(found, canary, stable)
    if document.shadow:
        tolerance = document.shadow.tolerance
        pairs = evidence.disagreement(row.service, stable, row.to_revision, since, tolerance)
        numbers[DISAGREEMENT] = {"canary": list(pairs), "stable": [0, 0]}
    numbers[_TOOK] = {arm: _took(counts, revision) for arm, revision in (("canary", canary), ("stable", stable))}
    moments = {}
    if document.test:
        sums = evidence.label_sums(row.service, since)
        values = {revision: [s.n, s.positive] for revision, s in sums.items()}
        numbers[document.test.metric] = _by_arm(values, row.to_revision, stable)
        of_arms = {"canary": sums.get(row.to_revision), "stable": sums.get(stable)}
        moments[document.test.metric] = json.dumps(
            {arm: [s.n, s.total, s.squares] if s else [0, 0.0, 0.0] for arm, s in of_arms.items()}
        )
    return Cumulative(numbers, moments)


def count_watched(row: RolloutRow, traffic: Traffic, evidence: Evidence) -> Cumulative | None:
    """What the watch has to count so far; None when nothing can be counted.

    Labels are of what both arms predicted before the rollout ended; where one revision is judged alone, all counts are
    what each has answered, and labels those of predictions since the promotion, or before it while it is to come.
    """
    numbers: dict[str, Any] = dict(row.counted or {})
    stable, canary = row.from_revision or "", row.to_revision
    for metric in row.document.watched_on_both:
        told = _labelled(row, evidence, row.traffic_since or 0.0, row.finished_at or 0.0)
        numbers[metric.name] = _by_arm(told, canary, stable)
    if not row.document.watched_alone:
        return Cumulative(numbers, {})
    counts, numbers["epoch"] = traffic.counts(), traffic.epoch()
    if not counts:
        return None
    for metric in row.document.watched_alone:
        if metric.name == "labels":
            found = _labelled(row, evidence, row.finished_at or 0.0)
        else:
            found = _answered(metric, counts)
        numbers[ALONE + metric.name] = _by_arm(found, canary, stable)
    return Cumulative(numbers, {})


def usual(row: RolloutRow, now: Cumulative) -> dict[str, Window]:
    """What the revision before had by now: what the new one is judged by when it answers alone."""
    names = [ALONE + metric.name for metric in row.document.watched_alone]
    return {name: Window(0, 0, *_capped(now.numbers[name]["stable"])) for name in names}


def _took(counts: Mapping[str, ArmCounts], revision: str) -> dict[str, int]:
    """Its histogram, with edges as JSON can have them."""
    return {str(edge): n for edge, n in counts[revision].buckets.items()} if revision in counts else {}


def _labelled(row: RolloutRow, evidence: Evidence, since: float, until: float = math.inf) -> dict[str, list[int]]:
    """[labelled, wrong ones] per revision: predictions, or users where those are what the coin is tossed for."""
    told = evidence.label_counts(row.service, since, until, by_user=row.document.unit == "users")
    return {revision: [counts.labelled, counts.wrong] for revision, counts in told.items()}


def _answered(metric: Metric, counts: Mapping[str, ArmCounts]) -> dict[str, list[int]]:
    """[requests, bad ones] per revision, as the gateway counts them."""
    if metric.name == "latency":
        slow = metric.threshold_ms
        return {r: [max(c.buckets.values(), default=0), c.slower_than(slow)] for r, c in counts.items()}
    return {r: [c.requests, c.errors] for r, c in counts.items()}


def windows_since(row: RolloutRow, now: Cumulative, names: Sequence[str] = ()) -> dict[str, Window]:
    """What has been counted since the last time, of all metrics or of `names`. Counters that began anew count from
    zero."""
    before = row.counted or {}
    found = {}
    for name in names or [key for key in now.numbers if key not in ("epoch", _TOOK)]:
        old = before.get(name, {})
        from_log = name in _FROM_THE_LOG or (row.document.test is not None and name == row.document.test.metric)
        if before.get("epoch") != now.numbers.get("epoch") and not from_log:
            old = {}
        pairs = [(now.numbers[name][arm], old.get(arm, [0, 0])) for arm in ("canary", "stable")]
        arms = [_added(*pair) if from_log else _difference(*pair) for pair in pairs]
        found[name] = Window(*arms[0], *arms[1])
    return found


def latency_since(row: RolloutRow, now: Cumulative) -> dict[str, dict[float, int]]:
    """How long the requests took that have been counted since the last time, by arm.

    Envoy fills its histograms up to a second later than its counters, so the numbers of requests differ a little from
    those in the windows. Where no histogram was kept the last time, nothing is known of what has come since.
    """
    before = row.counted or {}
    if _TOOK not in before:
        return {}
    anew = before.get("epoch") != now.numbers.get("epoch")
    return {
        arm: latency.since(_histogram(told), {} if anew else _histogram(before[_TOOK][arm]))
        for arm, told in now.numbers[_TOOK].items()
    }


def _histogram(told: Mapping[str, int]) -> dict[float, int]:
    return {float(edge): n for edge, n in told.items()}


def with_moments(windows: Mapping[str, Summary], row: RolloutRow, now: Cumulative) -> Counted:
    """What windows add up to and, for a mean, the newest sums."""
    test = row.document.test
    told = json.loads(now.moments[test.metric]) if test and test.metric in now.moments else {}
    return Counted(windows, {arm: (values[0], values[1], values[2]) for arm, values in told.items()})


def _by_arm(numbers: Mapping[str, list[int]], canary: str, stable: str) -> dict[str, list[int]]:
    return {"canary": numbers.get(canary, [0, 0]), "stable": numbers.get(stable, [0, 0])}


def _added(now: Sequence[int], before: Sequence[int]) -> tuple[int, int]:
    """What the log has more than before; it may have dropped what is old."""
    n = max(now[0] - before[0], 0)
    return n, min(n, max(now[1] - before[1], 0))


def _capped(now: Sequence[int]) -> tuple[int, int]:
    return now[0], min(now[0], now[1])


def _difference(now: Sequence[int], before: Sequence[int]) -> tuple[int, int]:
    n, x = now[0] - before[0], now[1] - before[1]
    if n < 0 or x < 0:
        n, x = now[0], now[1]
    # The two numbers are read one after the other, so one may run ahead by a request.
    return n, min(n, max(x, 0))
