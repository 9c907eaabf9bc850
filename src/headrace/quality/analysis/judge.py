"""From windows of counts to a verdict: failed, passed or inconclusive, with the evidence and a sentence.

A metric has *failed* when its e-value reaches the limit that its share of alpha sets, and the canary's rate is higher
by `min_effect` at least. A canary that is no worse on any metric fails with probability at most alpha over the whole
rollout: each metric's e-value ever reaches its limit with probability at most its share, whether or not the metrics
hang together, and `min_effect` only takes cases away.

A metric has *passed* when the evidence excludes that going on does harm: either the ratio of the rates is below
`margin`, or even the worst excess rate that the evidence leaves possible, times the weight of the next step, stays
within the metric's budget. The worst excess is u (1 - 1 / r), with u the upper end for the canary's rate and r that
for the ratio: base rates that change, for both arms, cancel out. Each of the two ends is ever wrong with probability
at most alpha / 2, so a metric whose ratio and harm are both too high ever passes with probability at most alpha.
Alpha is not shared here: a revision that is bad on one metric goes on only if that one passes.

Everything else, no data above all, is *inconclusive*.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headrace.contracts.rollout import Analysis, Metric
from headrace.contracts.verdict import Outcome, Verdict
from headrace.quality.analysis.evidence import Counted, Evidence
from headrace.quality.analysis.ratio import MAX_RATIO, times
from headrace.quality.analysis.sequential import e_value, rate_interval, ratio_interval

_WORDS = {"errors": "failed", "labels": "were wrong"}
_WORDS_OF_USERS = {"errors": "saw a failure", "labels": "were told wrong"}


def bad(metric: Metric, unit: str = "requests") -> str:
    """What bad requests did, as in "8 of 40 requests failed", or what became of users."""
    if metric.name == "latency":
        return f"{'took' if unit == 'requests' else 'waited'} over {metric.threshold_ms:.0f} ms"
    if unit == "users" and metric.name in _WORDS_OF_USERS:
        return _WORDS_OF_USERS[metric.name]
    return _WORDS.get(metric.name, "were bad")


def rate(metric: Metric, unit: str = "requests") -> str:
    """What a metric's rate is the rate of, in words."""
    if unit == "users":
        return f"share of users who {bad(metric, unit)}"
    if metric.name == "latency":
        return f"share of requests over {metric.threshold_ms:.0f} ms"
    return "share of wrong predictions" if metric.name == "labels" else f"{metric.name.removesuffix('s')} rate"


def compared(metric: Metric, interval: Sequence[float], unit: str = "requests") -> str:
    """The ratio of the two rates in a sentence, by what the evidence does not exclude."""
    what, factor = rate(metric, unit), times(interval)
    if not factor:
        return f"the counts do not tell how the new revision's {what} compares with the old one's"
    return f"the new revision's {what} is {factor} times the old one's"


def share(analysis: Analysis, metric: Metric) -> float:
    """A metric's share of alpha; its test fails at an e-value of 1 / share."""
    return analysis.alpha * metric.weight / sum(one.weight for one in analysis.metrics)


def judge(
    analysis: Analysis,
    windows: Mapping[str, Counted],
    *,
    next_weight: int,
    min_requests: int = 0,
    unit: str | Mapping[str, str] = "requests",
) -> Verdict:
    """The verdict over all metrics; `windows` are those of the whole rollout, by metric name.

    Evidence that sums them up gives the same verdict sooner. `unit` is what was counted, of all metrics or by name, for
    the sentence. The same windows in the same order give the same verdict, bit for bit, on the same kind of machine.
    """
    parts = [
        _judge_metric(
            metric,
            Evidence.of(windows.get(metric.name, ())),
            alpha=analysis.alpha,
            share=share(analysis, metric),
            next_weight=next_weight,
            min_requests=min_requests,
            unit=unit if isinstance(unit, str) else unit.get(metric.name, "requests"),
        )
        for metric in analysis.metrics
    ]
    return together(parts, {"alpha": analysis.alpha, "next_weight": next_weight})


def together(parts: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> Verdict:
    """The verdict over all metrics: failed when one has, passed when all have. `about` is further evidence."""
    outcomes = {part["outcome"] for part in parts}
    if Outcome.FAILED in outcomes:
        outcome = Outcome.FAILED
    elif outcomes == {Outcome.PASSED}:
        outcome = Outcome.PASSED
    else:
        outcome = Outcome.INCONCLUSIVE
    summary = "; ".join(part["sentence"] for part in parts if part["outcome"] is outcome)
    return Verdict(outcome, summary, {**about, "metrics": list(parts)})


def _judge_metric(
    metric: Metric,
    evidence: Evidence,
    *,
    alpha: float,
    share: float,
    next_weight: int,
    min_requests: int,
    unit: str,
) -> dict[str, Any]:
    proof, limit = e_value(evidence), 1 / share
    ratio = ratio_interval(evidence, alpha)
    canary_rates = rate_interval(evidence.canary_n, evidence.canary_x, alpha)
    harm = _excess(canary_rates[1], ratio[1]) * next_weight / 100
    excess = _estimated_excess(evidence)
    enough = evidence.canary_n >= max(min_requests, 1) and evidence.stable_n > 0
    # At the grid's end nothing is excluded above, whatever the margin.
    no_worse = ratio[1] < min(metric.margin, MAX_RATIO)
    if proof >= limit and excess >= metric.min_effect:
        outcome = Outcome.FAILED
    elif enough and (no_worse or harm <= metric.budget):
        outcome = Outcome.PASSED
    else:
        outcome = Outcome.INCONCLUSIVE
    return {
        "name": metric.name,
        "outcome": outcome,
        "canary": _arm(evidence.canary_n, evidence.canary_x, canary_rates),
        "stable": _arm(
            evidence.stable_n, evidence.stable_x, rate_interval(evidence.stable_n, evidence.stable_x, alpha)
        ),
        "e_value": proof,
        "limit": limit,
        "excess": excess,
        "min_effect": metric.min_effect,
        "ratio_interval": list(ratio),
        "margin": metric.margin,
        "worst_case_harm": harm,
        "budget": metric.budget,
        "sentence": _sentence(metric, outcome, evidence, proof, limit, harm, unit),
    }


def _arm(n: int, x: int, rates: tuple[float, float]) -> dict[str, Any]:
    return {"requests": n, "events": x, "rate": _rate(x, n), "rate_interval": list(rates)}


def _excess(canary_rate: float, ratio: float) -> float:
    """How much of a canary's rate is its own, when the stable arm's is that rate over the ratio."""
    return canary_rate * (1.0 if ratio >= MAX_RATIO else max(0.0, 1 - 1 / ratio))


def _estimated_excess(evidence: Evidence) -> float:
    """The canary's rate less what the stable arm would have had at the same times, by the ratio of Mantel and Haenszel.

    The difference of the totals would mislead: an incident at a small weight is mostly counted on the stable arm.
    """
    canary = _rate(evidence.canary_x, evidence.canary_n)
    if evidence.canary_part == 0.0:
        return canary - _rate(evidence.stable_x, evidence.stable_n)
    return canary * (1 - evidence.stable_part / evidence.canary_part)


def _sentence(
    metric: Metric, outcome: Outcome, counts: Evidence, proof: float, limit: float, harm: float, unit: str
) -> str:
    what = bad(metric, unit)
    facts = (
        f"{counts.canary_x} of {counts.canary_n} canary {unit} {what} ({_rate(counts.canary_x, counts.canary_n):.1%}), "
        f"{counts.stable_x} of {counts.stable_n} stable ones ({_rate(counts.stable_x, counts.stable_n):.1%})"
    )
    if outcome is Outcome.FAILED:
        return f"{metric.name}: {facts}; evidence {proof:.3g} against a limit of {limit:.3g}"
    worst = f"at worst {harm:.1%} more of all {unit} at the next step, budget {metric.budget:.1%}"
    return f"{metric.name}: {facts}; {worst}"


def _rate(events: int, requests: int) -> float:
    return events / requests if requests else 0.0
