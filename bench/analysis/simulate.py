"""Run the simulation, on both cores; the same seed gives the same results, however many processes share the work."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import product
from multiprocessing import get_context

import numpy as np

from bench.analysis import rules
from bench.analysis.traffic import WEIGHTS, WINDOW, Scenario, draw, request_windows

SEED = 20261125
RATES = (0.001, 0.005, 0.01, 0.05)
TRAFFIC = (1, 10, 50, 200)
WORSE = (2.0, 4.0, 10.0)
SLOWER = (1.1, 1.25, 1.5, 2.0)
HEADRACE, WRONG_UNIT = "Headrace", "Headrace, counting requests though routing is sticky"
Z_TEST = "z-test each minute, alpha shared"
THRESHOLDS = {
    "Flagger-like, 1 %, 5 failed checks": (0.01, None, 5),
    "Argo-like, 1 %, failureLimit 0": (0.01, None, 1),
    "Flagger-like, twice the usual rate": (None, 2.0, 5),
    "Argo-like, twice the usual rate": (None, 2.0, 1),
}
RULES = (HEADRACE, *THRESHOLDS, Z_TEST)
MARGINS = (1.2, 1.5, 2.0, 3.0)
HARMS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05)


@dataclass(frozen=True)
class Sizes:
    """How many rollouts of each scenario."""

    same: int = 16
    worse: int = 40
    slower: int = 60
    stepped: int = 100


QUICK = Sizes(same=2, worse=2, slower=3, stepped=4)


@dataclass(frozen=True)
class Result:
    """What became of one rollout: the second of the rollback by rule, or None.

    `default_at` is Headrace's with the default smallest effect. `passed_at` has the second from which on the errors
    would have passed, by margin, and by the harm of a step to 100 %.
    """

    scenario: Scenario
    at: dict[str, int | None]
    default_at: int | None
    passed_at: dict[str, int | None] = field(default_factory=dict)


def same(sizes: Sizes) -> list[Scenario]:
    """Rollouts of a revision that is as good as the stable one."""
    kinds = product(RATES, WEIGHTS, TRAFFIC, (False, True))
    return [
        Scenario(rate, weight, traffic, sticky) for rate, weight, traffic, sticky in kinds for _ in range(sizes.same)
    ]


def worse(sizes: Sizes) -> list[Scenario]:
    """Rollouts of one that fails more often, or is slower."""
    errors = [
        Scenario(rate, weight, traffic, worse=times)
        for rate, weight, traffic, times in product(RATES, ("10 %", "50 %"), TRAFFIC, WORSE)
        for _ in range(sizes.worse)
    ]
    latency = [
        Scenario(0.01, "10 %", traffic, slower=times)
        for traffic, times in product(TRAFFIC, SLOWER)
        for _ in range(sizes.slower)
    ]
    return errors + latency


def run(scenarios: Sequence[Scenario], stream: int) -> list[Result]:
    """All of them, each with a random stream of its own."""
    jobs = [(scenario, (SEED, stream, index)) for index, scenario in enumerate(scenarios)]
    # The long ones are spread over the processes by small portions.
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("fork")) as pool:
        return list(pool.map(_one, jobs, chunksize=8))


def paths(worse: float, count: int) -> list[list[float]]:
    """E-values of the errors by look, of rollouts at 1 %, 10 % of the traffic and 50 requests a second."""
    scenario, found = Scenario(0.01, "10 %", 50, worse=worse), []
    for index in range(count):
        traffic = draw(scenario, np.random.default_rng((SEED, int(worse * 10), index)))
        found.append(rules.judged(traffic.windows, WINDOW, whole=True).e_value)
    return found


def _one(job: tuple[Scenario, tuple[int, ...]]) -> Result:
    scenario, seed = job
    traffic = draw(scenario, np.random.default_rng(seed))
    # A healthy one is watched to its end: with a smallest effect it may be rolled back later, or never.
    judged = rules.judged(traffic.windows, scenario.seconds, whole=scenario.worse == scenario.slower == 1.0)
    at: dict[str, int | None] = {HEADRACE: judged.failed_at}
    if scenario.sticky:
        by_request = {name: request_windows(counts) for name, counts in traffic.counts.items()}
        at[WRONG_UNIT] = rules.judged(by_request, scenario.seconds).failed_at
    # Users whose requests are bad half the time make a rate of half their share.
    usual = scenario.rate / 2 if scenario.sticky else scenario.rate
    for name, (limit, times, failures) in THRESHOLDS.items():
        at[name] = rules.thresholds(traffic, limit or usual * (times or 1.0), failures)
    at[Z_TEST] = rules.z_test(traffic)
    looks = judged.failed_at // scenario.seconds if judged.failed_at else None
    passed = {f"margin {margin:g}": _first(judged.ratio[:looks], margin, WINDOW) for margin in MARGINS}
    passed |= {f"harm {harm:g}": _first(judged.harm[:looks], harm, WINDOW) for harm in HARMS}
    return Result(scenario, at, judged.failed_by_default, {} if scenario.sticky else passed)


def _first(values: Sequence[float], limit: float, seconds: int) -> int | None:
    return next((look * seconds for look, value in enumerate(values, start=1) if value < limit), None)
