"""From what is stored of a rollout to its verdicts. The same windows give the same verdict, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from headrace.contracts.rollout import Analysis, Metric, Rollout, Test
from headrace.contracts.verdict import Outcome, Verdict
from headrace.quality.analysis.alone import judge_alone
from headrace.quality.analysis.evidence import Evidence
from headrace.quality.analysis.judge import bad, judge, together
from headrace.quality.analysis.means import difference_interval
from headrace.quality.analysis.paired import rate_e_value
from headrace.quality.analysis.sequential import rate_interval, ratio_interval
from headrace.quality.analysis.window import Window

DISAGREEMENT = "disagreement"
# Before the name of a metric whose windows count what one revision answers alone, after its promotion.
ALONE = "watch/"
# Metrics of which the gateway says what each user got.
BY_USER = ("errors", "latency")
Moments = tuple[float, float, float]  # number, sum, sum of squares


@dataclass(frozen=True)
class Counted:
    """What was counted so far: windows by metric, or what they add up to, and for a mean the moments of both arms."""

    windows: Mapping[str, Sequence[Window] | Evidence]
    moments: Mapping[str, Moments] = field(default_factory=dict)


def analysis_verdict(document: Rollout, counted: Counted, *, next_weight: int) -> Verdict:
    """The built-in analysis; of a shadow, its answers must also agree with those that were sent."""
    judged = judge(_of_the_steps(document), counted.windows, next_weight=next_weight, unit=_units(document))
    return _with_agreement(document, judged, counted) if document.shadow else judged


def watch_verdict(document: Rollout, counted: Counted) -> Verdict:
    """The metrics of the watch over all windows of the rollout and since; it can only fail or go on. All of them share
    alpha by their weights."""
    assert document.watch is not None
    alpha, total = document.analysis.alpha, sum(metric.weight for metric in document.watch.metrics)
    parts: list[dict[str, Any]] = []
    if document.watched_on_both:
        judged = judge(_of_the_watch(document), counted.windows, next_weight=100, unit=_units(document))
        parts += judged.evidence["metrics"]
    for metric in document.watched_alone:
        windows = counted.windows.get(ALONE + metric.name, ())
        assert not isinstance(windows, Evidence), "the newest stretch cannot be told from sums"
        parts.append(judge_alone(metric, windows, share=alpha * (metric.weight / total)))
    return together(parts, {"alpha": alpha, "next_weight": 100})


def judged_on_both(document: Rollout) -> dict[str, tuple[Analysis, Metric]]:
    """By what the metrics are judged that compare the rates of both arms, by name."""
    return {
        metric.name: (analysis, metric)
        for analysis in (_of_the_watch(document), _of_the_steps(document))
        for metric in analysis.metrics
    }


def events(document: Rollout, metric: str) -> str:
    """What the events are that are counted under a name, as in "requests that failed"."""
    if metric == DISAGREEMENT:
        return "answers that differ"
    if document.test and metric == document.test.metric:
        return "conversions" if document.test.kind == "conversion" else "values above 0"
    alone = metric.startswith(ALONE)
    known = {one.name: one for one in (document.watched_alone if alone else document.counted_metrics)}
    found = known[metric.removeprefix(ALONE)]
    counts = "requests" if alone else unit(document, metric)
    of = "users who" if counts == "users" else "predictions that" if found.name == "labels" else "requests that"
    return f"{of} {bad(found, counts)}" + (" (new: since the promotion)" if alone else "")


def unit(document: Rollout, metric: str) -> str:
    """What a metric counts: requests or users."""
    return _units(document).get(metric, "requests")


def _units(document: Rollout) -> dict[str, str]:
    return dict.fromkeys((*BY_USER, "labels"), document.unit)


def _of_the_steps(document: Rollout) -> Analysis:
    return replace(document.analysis, alpha=document.metrics_alpha)


def _of_the_watch(document: Rollout) -> Analysis:
    """What of the watch compares both arms, with its share of alpha; without metrics when nothing does."""
    watched = document.watch.metrics if document.watch else ()
    both, total = document.watched_on_both, sum(metric.weight for metric in watched)
    part = sum(metric.weight for metric in both) / total if both else 0.0
    return Analysis(alpha=document.analysis.alpha * part, metrics=both)


def test_verdict(test: Test, counted: Counted) -> Verdict:
    """Whether the new revision is better (passed), worse (failed), or neither is shown, at every look with `alpha`."""
    found = _conversion(test, counted) if test.kind == "conversion" else _mean(test, counted)
    low, high, neutral = found["interval"][0], found["interval"][1], found["no_difference"]
    sign = 1 if test.higher_is_better else -1
    effect = sign * found["difference"]
    better, worse = (low > neutral, high < neutral) if test.higher_is_better else (high < neutral, low > neutral)
    if better and effect >= test.min_effect:
        outcome, word = Outcome.PASSED, "better"
    elif worse and -effect >= test.min_effect:
        outcome, word = Outcome.FAILED, "worse"
    else:
        outcome, word = Outcome.INCONCLUSIVE, "not shown to differ"
    summary = f"{test.metric}: {found['facts']}; the new revision is {word}"
    return Verdict(outcome, summary, {"alpha": test.alpha, "test": found})


def samples(test: Test, counted: Counted) -> tuple[int, int]:
    """Values that have come: of the new revision, of the stable one."""
    found = Evidence.of(counted.windows.get(test.metric, ()))
    return found.canary_n, found.stable_n


def _conversion(test: Test, counted: Counted) -> dict[str, Any]:
    found = Evidence.of(counted.windows.get(test.metric, ()))
    canary_n, canary_x, stable_n, stable_x = found.canary_n, found.canary_x, found.stable_n, found.stable_x
    low, high = ratio_interval(found, test.alpha)
    canary, stable = _ratio(canary_x, canary_n), _ratio(stable_x, stable_n)
    return {
        "kind": test.kind,
        "canary": {"values": canary_n, "conversions": canary_x, "rate": canary},
        "stable": {"values": stable_n, "conversions": stable_x, "rate": stable},
        "difference": canary - stable,
        "interval": [low, high],
        "no_difference": 1.0,
        "facts": f"{canary_x} of {canary_n} with the new revision ({canary:.2%}), {stable_x} of {stable_n} with the"
        f" stable one ({stable:.2%}); the ratio lies in {low:.3g} to {high:.3g}",
    }


def _mean(test: Test, counted: Counted) -> dict[str, Any]:
    canary, stable = (counted.moments.get(arm, (0.0, 0.0, 0.0)) for arm in ("canary", "stable"))
    low, high = float("-inf"), float("inf")
    if canary[0] > 1 and stable[0] > 1:
        low, high = difference_interval(int(canary[0]), *canary[1:], int(stable[0]), *stable[1:], test.alpha)
    first, second = _ratio(canary[1], canary[0]), _ratio(stable[1], stable[0])
    return {
        "kind": test.kind,
        "canary": {"values": int(canary[0]), "mean": first},
        "stable": {"values": int(stable[0]), "mean": second},
        "difference": first - second,
        "interval": [low, high],
        "no_difference": 0.0,
        "facts": f"{first:.4g} on average over {canary[0]:.0f} with the new revision, {second:.4g} over"
        f" {stable[0]:.0f} with the stable one; the difference lies in {low:.3g} to {high:.3g}",
    }


def _with_agreement(document: Rollout, judged: Verdict, counted: Counted) -> Verdict:
    assert document.shadow is not None
    found = Evidence.of(counted.windows.get(DISAGREEMENT, ()))
    pairs, differing = found.canary_n, found.canary_x
    share = document.analysis.alpha - document.metrics_alpha
    low, high = rate_interval(pairs, differing, document.analysis.alpha)
    most = document.shadow.max_disagreement
    proof, limit = rate_e_value(pairs, differing, most), 1 / share
    outcome = Outcome.FAILED if proof >= limit else Outcome.PASSED if high <= most else Outcome.INCONCLUSIVE
    part = {
        "name": DISAGREEMENT,
        "outcome": outcome,
        "pairs": pairs,
        "differing": differing,
        "interval": [low, high],
        "tolerated": most,
        "e_value": proof,
        "limit": limit,
        "sentence": f"{DISAGREEMENT}: {differing} of {pairs} answers differ ({_ratio(differing, pairs):.1%}); the rate"
        f" lies in {low:.1%} to {high:.1%}, at most {most:.1%} may differ",
    }
    return together([*judged.evidence["metrics"], part], judged.evidence)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
