"""From windows of counts to a verdict: failed, passed or inconclusive, with the evidence and a sentence.

A metric has *failed* when its e-value reaches the limit that its share of alpha sets, and the canary's rate is higher
by `min_effect` at least. It has *passed* when the evidence excludes that going on does harm: either the ratio of the
rates is below `margin`, or even the worst excess rate that the evidence leaves possible, times the weight of the
next step, stays within the metric's budget. Everything else, no data above all, is *inconclusive*.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headrace.contracts.rollout import Analysis, Metric
from headrace.contracts.verdict import Outcome, Verdict
from headrace.quality.analysis.sequential import e_value, rate_interval, ratio_interval
from headrace.quality.analysis.window import Window

_WORDS = {"errors": "failed", "latency": "were slow", "labels": "were wrong"}


def judge(
    analysis: Analysis, windows: Mapping[str, Sequence[Window]], *, next_weight: int, min_requests: int = 0
) -> Verdict:
    """The verdict over all metrics; `windows` are those of the whole rollout, by metric name.

    The same windows give the same verdict, bit for bit.
    """
    total_weight = sum(metric.weight for metric in analysis.metrics)
    parts = [
        _judge_metric(
            metric,
            windows.get(metric.name, ()),
            analysis.alpha * metric.weight / total_weight,
            next_weight,
            min_requests,
        )
        for metric in analysis.metrics
    ]
    outcomes = {part["outcome"] for part in parts}
    if Outcome.FAILED in outcomes:
        outcome = Outcome.FAILED
    elif outcomes == {Outcome.PASSED}:
        outcome = Outcome.PASSED
    else:
        outcome = Outcome.INCONCLUSIVE
    summary = "; ".join(part["sentence"] for part in parts if part["outcome"] is outcome)
    evidence = {"alpha": analysis.alpha, "next_weight": next_weight, "metrics": parts}
    return Verdict(outcome, summary, evidence)


def _judge_metric(
    metric: Metric, windows: Sequence[Window], alpha: float, next_weight: int, min_requests: int
) -> dict[str, Any]:
    canary_n, canary_x = sum(w.canary_n for w in windows), sum(w.canary_x for w in windows)
    stable_n, stable_x = sum(w.stable_n for w in windows), sum(w.stable_x for w in windows)
    evidence, limit = e_value(windows), 1 / alpha
    low, high = ratio_interval(windows, alpha)
    worst_canary = rate_interval(canary_n, canary_x, alpha / 2)[1]
    best_stable = rate_interval(stable_n, stable_x, alpha / 2)[0]
    harm = max(0.0, worst_canary - best_stable) * next_weight / 100
    excess = _rate(canary_x, canary_n) - _rate(stable_x, stable_n)
    if evidence >= limit and excess >= metric.min_effect:
        outcome = Outcome.FAILED
    elif canary_n >= max(min_requests, 1) and stable_n > 0 and (high < metric.margin or harm <= metric.budget):
        outcome = Outcome.PASSED
    else:
        outcome = Outcome.INCONCLUSIVE
    return {
        "name": metric.name,
        "outcome": outcome,
        "canary": {"requests": canary_n, "events": canary_x, "rate": _rate(canary_x, canary_n)},
        "stable": {"requests": stable_n, "events": stable_x, "rate": _rate(stable_x, stable_n)},
        "e_value": evidence,
        "limit": limit,
        "ratio_interval": [low, high],
        "worst_case_harm": harm,
        "budget": metric.budget,
        "sentence": _sentence(metric, outcome, (canary_n, canary_x, stable_n, stable_x), evidence, limit, harm),
    }


def _sentence(
    metric: Metric, outcome: Outcome, counts: tuple[int, int, int, int], evidence: float, limit: float, harm: float
) -> str:
    canary_n, canary_x, stable_n, stable_x = counts
    what = _WORDS[metric.name]
    if metric.name == "latency":
        what = f"took over {metric.threshold_ms:.0f} ms"
    facts = (
        f"{canary_x} of {canary_n} canary requests {what} ({_rate(canary_x, canary_n):.1%}), "
        f"{stable_x} of {stable_n} stable ones ({_rate(stable_x, stable_n):.1%})"
    )
    if outcome is Outcome.FAILED:
        return f"{metric.name}: {facts}; evidence {evidence:.3g} against a limit of {limit:.3g}"
    worst = f"at worst {harm:.1%} more of all requests at the next step, budget {metric.budget:.1%}"
    return f"{metric.name}: {facts}; {worst}"


def _rate(events: int, requests: int) -> float:
    return events / requests if requests else 0.0
