"""Whole rollouts with the default numbers: 5, 25, 50, then 100 %, each step when the judge has passed the one before.

The weights follow the verdicts here, as in the product. `DEFAULT` is what a document without an analysis gets.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np

from bench.analysis.simulate import RATES, SEED, TRAFFIC, Sizes
from bench.analysis.tables import cell, table
from bench.analysis.traffic import MINUTES, WINDOW
from headrace.contracts.rollout import Analysis, Step
from headrace.contracts.verdict import Outcome
from headrace.quality.analysis.evidence import Evidence
from headrace.quality.analysis.judge import judge
from headrace.quality.analysis.window import Window

DEFAULT = Analysis()
MIN_REQUESTS = Step("analysis").min_requests
STEPS = (5, 25, 50, 100)
# The canary's rate of errors, by the stable arm's.
CANARIES: dict[str, Callable[[float], float]] = {
    "identical": lambda rate: rate,
    "5 points more errors": lambda rate: rate + 0.05,
    "fails on every second request": lambda rate: 0.5,
}


@dataclass(frozen=True)
class Ended:
    """How one rollout ended: the second of its rollback or of its last pass, and the canary's bad requests by then."""

    canary: str
    rate: float
    per_second: int
    failed_at: int | None
    passed_at: int | None
    bad: int


def run(sizes: Sizes) -> list[Ended]:
    """All of them, each with a random stream of its own."""
    kinds = [(canary, rate, traffic) for canary in CANARIES for rate in RATES for traffic in TRAFFIC]
    jobs = [kind for kind in kinds for _ in range(sizes.stepped)]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("fork")) as pool:
        return list(pool.map(_one, jobs, range(len(jobs)), chunksize=4))


def tables(found: Sequence[Ended]) -> dict[str, str]:
    """By the names of their markers."""
    return {"stepped-healthy": _healthy(found), "stepped-worse": _worse(found)}


def _one(kind: tuple[str, float, int], index: int) -> Ended:
    canary, rate, per_second = kind
    source = np.random.default_rng((SEED, 2, index))
    evidence, step, answered = Evidence(), 0, 0
    for second in range(WINDOW, MINUTES * 60 + 1, WINDOW):
        requests = int(source.poisson(per_second * WINDOW))
        n = int(source.binomial(requests, STEPS[step] / 100))
        window = Window(
            n, int(source.binomial(n, CANARIES[canary](rate))), requests - n, int(source.binomial(requests - n, rate))
        )
        evidence, answered = evidence.plus(window), answered + n
        verdict = judge(DEFAULT, {"errors": evidence}, next_weight=STEPS[step + 1])
        if verdict.outcome is Outcome.FAILED:
            return Ended(canary, rate, per_second, second, None, evidence.canary_x)
        if verdict.outcome is Outcome.PASSED and answered >= MIN_REQUESTS:
            step, answered = step + 1, 0
            if STEPS[step] == 100:
                return Ended(canary, rate, per_second, None, second, evidence.canary_x)
    return Ended(canary, rate, per_second, None, None, evidence.canary_x)


def _of(found: Sequence[Ended], canary: str, rate: float, traffic: int) -> list[Ended]:
    return [e for e in found if e.canary == canary and e.rate == rate and e.per_second == traffic]


def _healthy(found: Sequence[Ended]) -> str:
    lines = [
        [
            str(traffic),
            *(cell([e.passed_at for e in _of(found, "identical", rate, traffic)]) for rate in RATES),
            str(sum(e.failed_at is not None for e in found if e.canary == "identical" and e.per_second == traffic)),
        ]
        for traffic in TRAFFIC
    ]
    of = sum(e.canary == "identical" and e.per_second == TRAFFIC[0] for e in found)
    head = ["requests/s", *(f"{rate:.1%} errors on both" for rate in RATES), f"rolled back, of {of}"]
    return table(head, lines)


def _worse(found: Sequence[Ended]) -> str:
    lines = []
    for canary in list(CANARIES)[1:]:
        for traffic in TRAFFIC:
            here = _of(found, canary, 0.01, traffic)
            bad = sorted(e.bad for e in here)
            passed = sum(e.passed_at is not None for e in here) / len(here)
            cells = [cell([e.failed_at for e in here]), f"{passed:.0%}", str(bad[len(bad) // 2])]
            lines.append([canary, str(traffic), *cells])
    head = ["canary", "requests/s", "rolled back", "reached 100 %", "its bad requests, median"]
    return table(head, lines, left=2)
