"""Read Envoy's counters per revision from its admin interface."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from headrace.serving.gateway.model import GRPC_ERRORS, ArmCounts

# cluster.NAMESPACE/SERVICE/REVISION.STAT; the clusters of mirrored requests and of gRPC have more parts.
_STAT = re.compile(r"cluster\.[^./]+/[^./]+/(?P<revision>[^./]+)(?P<shadow>/shadow)?(?P<grpc>/grpc)?\.(?P<stat>.+)")
_STATS = r"upstream_rq_(completed|5xx|time|pending_overflow|retry_success)|grpc\.[0-9]+"
FILTER = rf"^cluster\.[^.]+/[^.]+/[^.]+\.({_STATS})$"
_HTTP_ERRORS = {"upstream_rq_5xx", "upstream_rq_retry_success"}
_GRPC_ERRORS = {"upstream_rq_retry_success", *(f"grpc.{code}" for code in GRPC_ERRORS)}


def arm_counts(stats: Mapping[str, Any]) -> dict[str, ArmCounts]:
    """Counts per revision from `/stats?format=json&histogram_buckets=cumulative`; mirrored requests as REVISION/shadow.

    `upstream_rq_completed` is counted when a response is sent, also for the 503 and 504 that Envoy itself answers
    when it cannot connect or a request times out; each of those is in `upstream_rq_5xx`, too. What counts is the first
    try: a request that nobody took, and that was answered at a later one, is in `upstream_rq_retry_success`, in the
    counts of the revision that was to answer. (So is one whose later try fails otherwise.) A gRPC answer is 200
    whatever its code, so codes are counted there; where the request was mirrored, a failed answer is made a 500. A
    mirrored request that was dropped, because too many were under way, says nothing of the revision.
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
        if found is None:
            continue
        name, stat, value = _counted_as(found), found["stat"], int(entry["value"])
        if stat == "upstream_rq_completed":
            requests[name] = requests.get(name, 0) + value
        elif stat == "upstream_rq_pending_overflow" and found["shadow"]:
            requests[name] = requests.get(name, 0) - value
            errors[name] = errors.get(name, 0) - value
        elif stat in (_GRPC_ERRORS if found["grpc"] and not found["shadow"] else _HTTP_ERRORS):
            errors[name] = errors.get(name, 0) + value
    counts = {}
    for revision, count in requests.items():
        total = max(count, 0)
        failed = min(max(errors.get(revision, 0), 0), total)
        counts[revision] = ArmCounts(total, failed, buckets.get(revision, {}))
    return counts


def _counted_as(found: re.Match[str]) -> str:
    return str(found["revision"]) + (found["shadow"] or "")


def _histogram(histogram: Mapping[str, Any], buckets: dict[str, dict[float, int]]) -> None:
    found = _STAT.fullmatch(histogram["name"])
    if found and found["stat"] == "upstream_rq_time":
        summed = buckets.setdefault(_counted_as(found), {})
        for bucket in histogram["buckets"]:
            edge = float(bucket["upper_bound"])
            summed[edge] = summed.get(edge, 0) + int(bucket["cumulative"])
