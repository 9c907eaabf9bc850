"""Rules that roll back, each on the same traffic. A rule answers with the second of the rollback, or None.

Thresholds as Flagger and Argo Rollouts have them, once a minute: Flagger rolls back at its `threshold` of 5 failed
checks, Argo at the first when `failureLimit` is 0. A check fails when the canary's error rate is above the limit, or
its 99th percentile of latency above one and a half times the usual one. The z-test of two proportions looks once a
minute and shares alpha over the metrics as the judge does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from bench.analysis.traffic import METRICS, MINUTES, Ints, Traffic
from headrace.contracts.rollout import Analysis, Metric
from headrace.contracts.verdict import Outcome
from headrace.quality.analysis.evidence import Evidence
from headrace.quality.analysis.judge import judge
from headrace.quality.analysis.window import Window

ALPHA = 0.05
_SHARES = {"errors": 2.0, "latency": 1.0, "labels": 1.0}
# No smallest effect: the false-rollback rate is that of the test alone, as high as it can be.
ANALYSIS = Analysis(
    alpha=ALPHA,
    metrics=tuple(Metric(name, weight=_SHARES[name], min_effect=0.0, threshold_ms=100.0) for name in METRICS),
)
DEFAULT_MIN_EFFECT = Metric("errors").min_effect


@dataclass(frozen=True)
class Judged:
    """What the product's judge said at each look.

    `failed_at` is the second of the first FAILED, `failed_by_default` that with the default smallest effect;
    `e_value`, `ratio` (upper end) and `harm` (at a next weight of 100 %) are those of the errors, by look.
    """

    failed_at: int | None
    failed_by_default: int | None
    e_value: list[float]
    ratio: list[float]
    harm: list[float]


def judged(windows: Mapping[str, Sequence[Window]], seconds: int, *, whole: bool = False) -> Judged:
    """The product's judge, at every window until it has failed; with `whole`, to the end."""
    evidence = {name: Evidence() for name in windows}
    e_value, ratio, harm = [], [], []
    failed_at = failed_by_default = None
    for look in range(len(windows["errors"])):
        for name, found in windows.items():
            evidence[name] = evidence[name].plus(found[look])
        verdict = judge(ANALYSIS, evidence, next_weight=100)
        parts = verdict.evidence["metrics"]
        e_value.append(parts[0]["e_value"])
        ratio.append(parts[0]["ratio_interval"][1])
        harm.append(parts[0]["worst_case_harm"])
        if verdict.outcome is Outcome.FAILED:
            failed_at = failed_at or (look + 1) * seconds
            if any(part["outcome"] is Outcome.FAILED and part["excess"] >= DEFAULT_MIN_EFFECT for part in parts):
                failed_by_default = failed_by_default or (look + 1) * seconds
            if not whole:
                break
    return Judged(failed_at, failed_by_default, e_value, ratio, harm)


def by_minute(counts: Ints) -> Ints:
    """Counts of windows as counts of minutes."""
    summed: Ints = counts.reshape(MINUTES, -1, *counts.shape[1:]).sum(axis=1)
    return summed


def thresholds(traffic: Traffic, limit: float, failures: int) -> int | None:
    """Roll back at the `failures`-th minute in which a check fails. A minute without requests fails none."""
    errors = by_minute(traffic.counts["errors"])
    n, x = errors[:, 0], errors[:, 1]
    failed = (n > 0) & ((x > limit * n) | (by_minute(traffic.very_slow) > 0.01 * n))
    reached = np.flatnonzero(np.cumsum(failed) >= failures)
    return int(reached[0] + 1) * 60 if reached.size else None


def z_test(traffic: Traffic) -> int | None:
    """Roll back at the first minute in which a one-sided z-test of all counts so far is significant."""
    total, first = sum(_SHARES.values()), MINUTES + 1
    for name in METRICS:
        n_c, x_c, n_s, x_s = np.cumsum(by_minute(traffic.counts[name]), axis=0).T.astype(float)
        with np.errstate(divide="ignore", invalid="ignore"):
            pooled = (x_c + x_s) / (n_c + n_s)
            z = (x_c / n_c - x_s / n_s) / np.sqrt(pooled * (1 - pooled) * (1 / n_c + 1 / n_s))
        reached = np.flatnonzero(np.nan_to_num(z) > NormalDist().inv_cdf(1 - ALPHA * _SHARES[name] / total))
        first = min([first, *(reached[:1] + 1)])
    return int(first) * 60 if first <= MINUTES else None
