"""One revision judged by itself, when nobody answers beside it any more: after a promotion.

There are no two arms here, and no coin. What is tested is that the share of bad requests lies above a tolerated one:
what the revision before had, at its upper confidence bound, and the metric's budget on top. The bound is wrong with
probability at most half of the metric's share of alpha; the other half is for the test.

A test over all requests since the promotion would grow ever slower to see that a revision has gone bad: hours of
good answers speak against it. So requests are judged in stretches, each with a test of its own; the k-th has
1 / (k (k + 1)) of that half, and these add up to 1. Ville's inequality holds in each, whatever the number of looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headrace.contracts.rollout import Metric
from headrace.contracts.verdict import Outcome
from headrace.quality.analysis.judge import bad
from headrace.quality.analysis.paired import rate_e_value
from headrace.quality.analysis.sequential import rate_interval
from headrace.quality.analysis.window import Window

# Requests after which a new stretch begins, with the next window.
STRETCH = 1000


def judge_alone(metric: Metric, windows: Sequence[Window], *, share: float) -> dict[str, Any]:
    """A metric's part of a verdict: failed or inconclusive, with the evidence and a sentence.

    In `windows` the stable arm's counts are those of the revision before, and the canary's those of the one that is
    judged, since its promotion. Without counts of the revision before nothing is ever shown.
    """
    usual_n, usual_x = sum(w.stable_n for w in windows), sum(w.stable_x for w in windows)
    usual = rate_interval(usual_n, usual_x, share)
    tolerated = usual[1] + metric.budget
    stretch, n, x = _newest_stretch(windows)
    proof = rate_e_value(n, x, tolerated) if tolerated < 1 else 1.0
    limit = 2 * stretch * (stretch + 1) / share
    excess = _rate(x, n) - _rate(usual_x, usual_n)
    failed = proof >= limit and excess >= metric.min_effect
    sentence = (
        f"{metric.name}: {x} of {n} requests {bad(metric)} since the promotion ({_rate(x, n):.1%}), {usual_x} of"
        f" {usual_n} of the revision before ({_rate(usual_x, usual_n):.1%}); at most {min(tolerated, 1.0):.1%} may"
    )
    if failed:
        sentence += f"; evidence {proof:.3g} against a limit of {limit:.3g}"
    return {
        "name": metric.name,
        "outcome": Outcome.FAILED if failed else Outcome.INCONCLUSIVE,
        "canary": {"requests": n, "events": x, "rate": _rate(x, n), "rate_interval": list(rate_interval(n, x, share))},
        "stable": {
            "requests": usual_n, "events": usual_x, "rate": _rate(usual_x, usual_n), "rate_interval": list(usual),
        },
        "stretch": stretch,
        "tolerated": tolerated,
        "e_value": proof,
        "limit": limit,
        "excess": excess,
        "min_effect": metric.min_effect,
        "budget": metric.budget,
        "sentence": sentence,
    }  # fmt: skip


def _newest_stretch(windows: Sequence[Window]) -> tuple[int, int, int]:
    """Its number from 1, its requests and its bad ones."""
    stretch, n, x = 1, 0, 0
    for window in windows:
        if n >= STRETCH:
            stretch, n, x = stretch + 1, 0, 0
        n, x = n + window.canary_n, x + window.canary_x
    return stretch, n, x


def _rate(events: int, requests: int) -> float:
    return events / requests if requests else 0.0
