"""Read Envoy's counters per revision from its admin interface."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from headrace.serving.gateway.model import ArmCounts

# cluster.NAMESPACE/SERVICE/REVISION.STAT
_STAT = re.compile(r"cluster\.[^./]+/[^./]+/(?P<revision>[^./]+)\.(?P<stat>.+)")
FILTER = r"^cluster\.[^.]+/[^.]+/[^.]+\.upstream_rq_(completed|5xx|time)$"


def arm_counts(stats: Mapping[str, Any]) -> dict[str, ArmCounts]:
    """Counts per revision from `/stats?format=json&histogram_buckets=cumulative`.

    `upstream_rq_completed` is counted when a response is sent, also for the 503 and 504 that Envoy itself answers
    when it cannot connect or a request times out; each of those is in `upstream_rq_5xx`, too.
    """
    requests: dict[str, int] = {}
    errors: dict[str, int] = {}
    buckets: dict[str, dict[float, int]] = {}
    for entry in stats.get("stats", []):
        if "histograms" in entry:
            for histogram in entry["histograms"]:
                _histogram(histogram, buckets)
            continue
        found = _STAT.fullmatch(entry["name"])
        if found and found["stat"] == "upstream_rq_completed":
            requests[found["revision"]] = int(entry["value"])
        elif found and found["stat"] == "upstream_rq_5xx":
            errors[found["revision"]] = int(entry["value"])
    return {
        revision: ArmCounts(count, errors.get(revision, 0), buckets.get(revision, {}))
        for revision, count in requests.items()
    }


def _histogram(histogram: Mapping[str, Any], buckets: dict[str, dict[float, int]]) -> None:
    found = _STAT.fullmatch(histogram["name"])
    if found and found["stat"] == "upstream_rq_time":
        buckets[found["revision"]] = {
            float(bucket["upper_bound"]): int(bucket["cumulative"]) for bucket in histogram["buckets"]
        }
