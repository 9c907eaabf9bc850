"""Requests of the last half hour, by revision: looked at every few seconds, kept in memory."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from headrace.clock import Clock
from headrace.serving import latency
from headrace.serving.gateway.model import ArmCounts

LOOK_SECONDS = 5.0
KEEP_SECONDS = 1800.0
NOW_SECONDS = 60.0
# A picture has so many points at most.
POINTS = 90


class Counters(Protocol):
    """Where cumulative counts by revision come from; both may be asked at any time."""

    def counts(self) -> Mapping[str, ArmCounts]: ...

    def epoch(self) -> str: ...


@dataclass(frozen=True)
class Figures:
    """A revision's last minute: requests and errors a second, latencies in milliseconds (None when nobody asked)."""

    requests: float
    errors: float
    p50: float | None
    p99: float | None


@dataclass(frozen=True)
class Point:
    """Requests and errors a second in a stretch of time that ends at `at` (unix seconds)."""

    at: float
    requests: float
    errors: float


@dataclass(frozen=True)
class _Sample:
    at: float
    epoch: str
    counts: Mapping[str, ArmCounts]


class Traffic:
    """Samples the gateway's counters. One loop looks; any thread may ask."""

    def __init__(self, counters: Counters, clock: Clock) -> None:
        self.counters = counters
        self.clock = clock
        self._samples: deque[_Sample] = deque(maxlen=int(KEEP_SECONDS / LOOK_SECONDS) + 1)
        self._guard = threading.Lock()

    def one_pass(self) -> float:
        """Take a sample; the seconds until the next."""
        sample = _Sample(self.clock.now(), self.counters.epoch(), self.counters.counts())
        with self._guard:
            self._samples.append(sample)
        return LOOK_SECONDS

    def now(self, revisions: Sequence[str]) -> Figures | None:
        """The last minute of some revisions together; None when there are no two samples of it."""
        samples = self._taken()
        if len(samples) < 2:
            return None
        last = samples[-1]
        first = next((one for one in samples if last.at - one.at <= NOW_SECONDS), last)
        span = last.at - first.at
        if span <= 0:
            return None
        found = [_between(first, last, revision) for revision in revisions]
        buckets: dict[float, int] = {}
        # Envoy fills its histograms later than its counters: what comes after the last request is of earlier ones.
        for one in (one for one in found if one.requests):
            for edge, count in one.buckets.items():
                buckets[edge] = buckets.get(edge, 0) + count
        return Figures(
            sum(one.requests for one in found) / span, sum(one.errors for one in found) / span,
            latency.quantile(buckets, 0.5), latency.quantile(buckets, 0.99),
        )  # fmt: skip

    def history(self, revisions: Sequence[str]) -> list[Point]:
        """Rates over the time that is kept, in at most 90 stretches."""
        samples = self._taken()
        step = max(1, -(-len(samples) // POINTS))
        chosen = samples[::-1][::step][::-1]
        points = []
        for first, last in pairwise(chosen):
            span = last.at - first.at
            if span > 0:
                found = [_between(first, last, revision) for revision in revisions]
                points.append(
                    Point(last.at, sum(o.requests for o in found) / span, sum(o.errors for o in found) / span)
                )
        return points

    def _taken(self) -> list[_Sample]:
        with self._guard:
            return list(self._samples)


def _between(first: _Sample, last: _Sample, revision: str) -> ArmCounts:
    """What came between two samples; an Envoy that began anew counts from zero."""
    now, before = last.counts.get(revision, ArmCounts(0, 0)), first.counts.get(revision, ArmCounts(0, 0))
    if first.epoch != last.epoch or now.requests < before.requests:
        before = ArmCounts(0, 0)
    buckets = latency.since(now.buckets, before.buckets)
    return ArmCounts(now.requests - before.requests, max(now.errors - before.errors, 0), buckets)
