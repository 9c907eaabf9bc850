"""A rollout: how traffic moves to a new revision, and what it is judged by. Words as in Argo Rollouts.

Whatever the strategy, a rollout is a list of steps. It is kept as JSON (`to_dict`, `from_dict`). How people write it:
`rollout_document`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from headrace.contracts import analysis_template
from headrace.contracts.analysis_template import TemplateMetric


@dataclass(frozen=True)
class Metric:
    """One stream of events that is judged.

    `weight` is its share of alpha; `min_effect` the excess rate below which nothing is rolled back; `budget` the
    excess events, as a share of all requests, that the next step may cost in the worst case; `margin` the ratio of
    rates below which the new revision counts as no worse; `threshold_ms` makes a request slow.
    """

    name: str
    weight: float = 1.0
    min_effect: float = 0.01
    budget: float = 0.05
    margin: float = 1.5
    threshold_ms: float = 0.0


@dataclass(frozen=True)
class Analysis:
    """The built-in analysis. Durations are in seconds."""

    alpha: float = 0.05
    interval: float = 1.0
    warmup: float = 2.0
    max_duration: float = 1800.0
    on_inconclusive: str = "hold"
    metrics: tuple[Metric, ...] = (Metric("errors", weight=2.0),)


@dataclass(frozen=True)
class Step:
    """One step: `setWeight` (percent), `pause` (seconds, or until promoted when None), `analysis`, `mirror` (percent of
    the requests), `match` (requests that the rollout's matches fit), `test` (an A/B test).

    An analysis with `metrics` is made of measurements; one without is the built-in one.
    """

    kind: str
    weight: int = 0
    seconds: float | None = None
    min_requests: int = 30
    metrics: tuple[TemplateMetric, ...] = ()


@dataclass(frozen=True)
class Sticky:
    """What a user is known by: a request header, or a cookie that the gateway gives. One of them is empty."""

    header: str = ""
    cookie: str = ""


@dataclass(frozen=True)
class Match:
    """Requests whose header or cookie has a value; `how` is exact, prefix or regex."""

    value: str
    how: str = "exact"
    header: str = ""
    cookie: str = ""


@dataclass(frozen=True)
class Test:
    """What decides an A/B test: a metric whose values come as labels, by prediction id.

    `conversion` counts labels that are true or above 0; `mean` averages numbers. It runs for `duration` seconds or
    until both arms have `min_samples` values, whatever comes first. `min_effect` is the smallest difference (of rates,
    of means) that is worth acting on; `alpha` the chance to see a difference where there is none.
    """

    metric: str
    kind: str = "conversion"
    higher_is_better: bool = True
    min_effect: float = 0.0
    alpha: float = 0.05
    duration: float | None = None
    min_samples: int | None = None


@dataclass(frozen=True)
class Shadow:
    """When the answers of a shadow agree with those that were sent: two numbers may differ by `tolerance`."""

    max_disagreement: float = 0.05
    tolerance: float = 0.0
    promote: bool = False


@dataclass(frozen=True)
class Watch:
    """What goes on for `duration` seconds after promotion.

    `labels` are late labels of the rollout's own requests, on both arms. Everything else is what the new revision
    answers since, beside what the one before had and the metric's budget: nobody else answers any more.
    """

    duration: float
    metrics: tuple[Metric, ...] = (Metric("labels"),)


@dataclass(frozen=True)
class Rollout:
    """A rollout document. `unit` is what is placed on an arm, and so what is counted: requests, or users that stay."""

    name: str
    steps: tuple[Step, ...] = ()
    analysis: Analysis = Analysis()
    scale_down_delay: float = 300.0
    strategy: str = "canary"
    sticky: Sticky | None = None
    matches: tuple[Match, ...] = ()
    test: Test | None = None
    shadow: Shadow | None = None
    watch: Watch | None = None
    unit: str = "requests"

    def next_weight(self, index: int) -> int:
        """The weight that follows step `index`: the next setWeight, or 100."""
        return next((step.weight for step in self.steps[index + 1 :] if step.kind == "setWeight"), 100)

    def held_at(self, percent: int) -> Rollout:
        """The same with one step: the new revision gets `percent` of the traffic until somebody promotes it."""
        return replace(self, steps=(Step("setWeight", weight=percent), Step("pause")))

    def mirrored(self, index: int) -> int:
        """The percentage of requests that are mirrored while the rollout stands at step `index`."""
        done = [step.weight for step in self.steps[:index] if step.kind == "mirror"]
        return done[-1] if done else 0

    def matched(self, index: int) -> tuple[Match, ...]:
        """The matches in force while the rollout stands at step `index`."""
        return self.matches if any(step.kind == "match" for step in self.steps[:index]) else ()

    @property
    def metrics_alpha(self) -> float:
        """What the metrics of the analysis share: alpha, less what the answers of a shadow take, as one metric more."""
        total = sum(metric.weight for metric in self.analysis.metrics)
        return self.analysis.alpha * total / (total + 1) if self.shadow else self.analysis.alpha

    @property
    def counted_metrics(self) -> tuple[Metric, ...]:
        """What is counted window by window: the metrics of the analysis, and those of the watch after it."""
        names = {metric.name for metric in self.analysis.metrics}
        return (*self.analysis.metrics, *(one for one in self.watched_on_both if one.name not in names))

    @property
    def watched_on_both(self) -> tuple[Metric, ...]:
        """Metrics of the watch for which both revisions answered requests, at the same time."""
        watched = self.watch.metrics if self.watch and self.strategy != "blueGreen" else ()
        return tuple(metric for metric in watched if metric.name == "labels")

    @property
    def watched_alone(self) -> tuple[Metric, ...]:
        """Metrics of the watch that are judged by what the new revision answers after the promotion."""
        both = self.watched_on_both
        return tuple(metric for metric in (self.watch.metrics if self.watch else ()) if metric not in both)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Rollout:
        """The inverse of `to_dict`, also after JSON; what an older document does not say has its default."""
        analysis = data["analysis"]
        watch, sticky, test, shadow = (data.get(name) for name in ("watch", "sticky", "test", "shadow"))
        return cls(
            name=data["name"],
            steps=tuple(
                Step(**{**step, "metrics": tuple(map(analysis_template.from_dict, step.get("metrics", ())))})
                for step in data["steps"]
            ),
            analysis=Analysis(**{**analysis, "metrics": _metrics_from(analysis)}),
            scale_down_delay=data["scale_down_delay"],
            strategy=data.get("strategy", "canary"),
            sticky=Sticky(**sticky) if sticky else None,
            matches=tuple(Match(**match) for match in data.get("matches", ())),
            test=Test(**test) if test else None,
            shadow=Shadow(**shadow) if shadow else None,
            watch=Watch(watch["duration"], _metrics_from(watch)) if watch else None,
            unit=data.get("unit", "requests"),
        )


def _metrics_from(data: Mapping[str, Any]) -> tuple[Metric, ...]:
    return tuple(Metric(**metric) for metric in data["metrics"])
