"""The traffic of one simulated rollout: counts by window, metric and arm."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from headrace.quality.analysis.users import UserCount, user_windows
from headrace.quality.analysis.window import Window

Ints = NDArray[np.int64]

METRICS = ("errors", "latency", "labels")
MINUTES = 30
# A window is so many seconds; of users it is a minute, to keep the simulation short.
WINDOW, USER_WINDOW = 5, 60
LABELLED = 0.2
# The latency of a request is lognormal with this deviation of its logarithm.
SPREAD = 0.5
WEIGHTS = {"5 %": (0.05,), "10 %": (0.1,), "50 %": (0.5,), "5, 25, 50 %": (0.05, 0.25, 0.5)}


@dataclass(frozen=True)
class Scenario:
    """One kind of rollout.

    `rate` is the stable arm's rate of errors and of slow requests, labels are wrong five times as often; `worse`
    multiplies the canary's rate of errors, `slower` its median latency. With `sticky`, `rate` is the share of users
    for whom half of all requests are bad, for each metric its own users.
    """

    rate: float
    weight: str
    per_second: int
    sticky: bool = False
    worse: float = 1.0
    slower: float = 1.0

    @property
    def seconds(self) -> int:
        """The length of a window."""
        return USER_WINDOW if self.sticky else WINDOW

    def shares(self) -> NDArray[np.float64]:
        """The canary's share in each window; steps take equal times."""
        windows, steps = MINUTES * 60 // self.seconds, WEIGHTS[self.weight]
        return np.array([steps[index * len(steps) // windows] for index in range(windows)])


@dataclass(frozen=True)
class Traffic:
    """What was counted, an array (window, 4) a metric: canary's n and x, the stable arm's n and x.

    `windows` are what the judge gets (users, when sticky); `counts` are requests; `very_slow` are the canary's
    requests that took longer than one and a half times the usual 99th percentile, by window.
    """

    counts: dict[str, Ints]
    windows: dict[str, list[Window]]
    very_slow: Ints


def slow(rate: float, slower: float, times: float = 1.0) -> float:
    """The share of requests above `times` the latency that a share of `rate` exceeded before it was `slower`."""
    normal = NormalDist()
    return 1 - normal.cdf(normal.inv_cdf(1 - rate) + (np.log(times) - np.log(slower)) / SPREAD)


def request_windows(counts: Ints) -> list[Window]:
    """The rows of counts as windows."""
    return [Window(*row) for row in counts.tolist()]


def draw(scenario: Scenario, source: np.random.Generator) -> Traffic:
    """The traffic of one rollout."""
    return _sticky(scenario, source) if scenario.sticky else _random(scenario, source)


def _random(scenario: Scenario, source: np.random.Generator) -> Traffic:
    shares, rate = scenario.shares(), scenario.rate
    requests = source.poisson(scenario.per_second * WINDOW, shares.size)
    canary = source.binomial(requests, shares)
    stable = requests - canary
    labelled_canary, labelled_stable = source.binomial(canary, LABELLED), source.binomial(stable, LABELLED)
    worse, slower = min(1.0, rate * scenario.worse), slow(rate, scenario.slower)
    arms = {
        "errors": (canary, worse, stable, rate),
        "latency": (canary, slower, stable, rate),
        "labels": (labelled_canary, 5 * rate, labelled_stable, 5 * rate),
    }
    counts = {
        name: np.stack([n_c, source.binomial(n_c, p_c), n_s, source.binomial(n_s, p_s)], axis=1)
        for name, (n_c, p_c, n_s, p_s) in arms.items()
    }
    # They are a part of the slow ones, which none of the rates simulated leaves out.
    very = source.binomial(counts["latency"][:, 1], min(1.0, slow(0.01, scenario.slower, 1.5) / slower))
    return Traffic(counts, {name: request_windows(found) for name, found in counts.items()}, very)


def _sticky(scenario: Scenario, source: np.random.Generator) -> Traffic:
    shares = scenario.shares()
    users = max(60, 6 * scenario.per_second)
    place = source.random(users)
    on_canary = place[None, :] < shares[:, None]
    n = source.poisson(scenario.per_second * USER_WINDOW / users, (shares.size, users))
    counts, windows = {}, {}
    for name in METRICS:
        seen = source.binomial(n, LABELLED) if name == "labels" else n
        bad = np.where(source.random(users) < scenario.rate, 0.5, 0.0)
        x = source.binomial(seen, bad)
        parts = [np.where(on, kind, 0).sum(axis=1) for on in (on_canary, ~on_canary) for kind in (seen, x)]
        counts[name] = np.stack(parts, axis=1)
        windows[name] = list(user_windows(_user_counts(seen, x, on_canary)))
    return Traffic(counts, windows, np.zeros(shares.size, dtype=np.int64))


def _user_counts(seen: Ints, x: Ints, on_canary: NDArray[np.bool_]) -> Iterable[Iterable[UserCount]]:
    for now, bad, canary in zip(seen, x, on_canary, strict=True):
        active = np.flatnonzero(now)
        yield map(UserCount, active.tolist(), canary[active].tolist(), (bad[active] > 0).tolist())
