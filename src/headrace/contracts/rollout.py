"""The rollout document: how traffic moves to a new revision, and what it is judged by. Words as in Argo Rollouts.

apiVersion: headrace.dev/v1alpha1
kind: Rollout
metadata: {name: delay}
spec:
  strategy:
    canary:
      steps:
      - setWeight: 5
      - analysis: {minRequests: 30}        # holds until the analysis has passed
      - setWeight: 50
      - pause: {duration: 10s}             # pause: {} waits for `headrace rollouts promote`
      - analysis: {}
  analysis:                                # the built-in sequential analysis
    alpha: 0.05                            # chance to roll a healthy revision back, over the whole rollout
    interval: 1s
    warmup: 2s                             # first seconds of the new revision that do not count
    maxDuration: 30m                       # of one analysis step; then onInconclusive
    onInconclusive: hold                   # or promote, or rollback
    metrics:
    - {name: errors, weight: 2, minEffect: 0.01, budget: 0.05}
    - {name: latency, threshold: 100ms, minEffect: 0.05, budget: 0.1}
    - {name: labels, minEffect: 0.02, budget: 0.1}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from headrace.contracts import marked_yaml, quantities
from headrace.contracts.marked_yaml import MarkedDocument, Path

API_VERSION = "headrace.dev/v1alpha1"
# For a service without a rollout document: everything at once, as soon as the new revision is ready.
DIRECT = f"apiVersion: {API_VERSION}\nkind: Rollout\nspec: {{strategy: {{canary: {{steps: []}}}}}}\n"
METRICS = ("errors", "latency", "labels")
ON_INCONCLUSIVE = ("hold", "promote", "rollback")


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
    """One step: `weight` (percent), `pause` (seconds, or until promoted when None), or `analysis`."""

    kind: str
    weight: int = 0
    seconds: float | None = None
    min_requests: int = 30


@dataclass(frozen=True)
class Rollout:
    """A rollout document."""

    name: str
    steps: tuple[Step, ...] = ()
    analysis: Analysis = Analysis()
    scale_down_delay: float = 300.0

    def next_weight(self, index: int) -> int:
        """The weight that follows step `index`: the next setWeight, or 100."""
        return next((step.weight for step in self.steps[index + 1 :] if step.kind == "setWeight"), 100)

    def held_at(self, percent: int) -> Rollout:
        """The same with one step: the new revision gets `percent` of the traffic until somebody promotes it."""
        return replace(self, steps=(Step("setWeight", weight=percent), Step("pause")))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Rollout:
        """The inverse of `to_dict`."""
        analysis = data["analysis"]
        metrics = tuple(Metric(**metric) for metric in analysis["metrics"])
        return cls(
            name=data["name"],
            steps=tuple(Step(**step) for step in data["steps"]),
            analysis=Analysis(**{**analysis, "metrics": metrics}),
            scale_down_delay=data["scale_down_delay"],
        )


def parse(text: str, file: str) -> Rollout:
    """The rollout in `text`; `file` is only named in errors.

    Raises:
        DocumentError: a wrong document, or a strategy that is not carried out.
    """
    document = marked_yaml.parse(text, file)
    if document.get(("apiVersion",)) != API_VERSION:
        raise document.error(("apiVersion",), f"must be {API_VERSION}")
    if document.get(("kind",)) != "Rollout":
        raise document.error(("kind",), "must be Rollout")
    document.only((), ("apiVersion", "kind", "metadata", "spec"))
    document.only(("metadata",), ("name", "labels", "annotations"))
    document.only(("spec",), ("strategy", "analysis"))
    strategy: Path = ("spec", "strategy")
    document.only(strategy, ("canary",))
    canary: Path = (*strategy, "canary")
    document.table(canary, required=True)
    document.only(canary, ("steps", "scaleDownDelaySeconds"))
    steps = tuple(
        _step(document, (*canary, "steps", index)) for index in range(len(document.typed((*canary, "steps"), list, [])))
    )
    return Rollout(
        name=document.typed(("metadata", "name"), str, ""),
        steps=steps,
        analysis=_analysis(document, ("spec", "analysis")),
        scale_down_delay=document.typed((*canary, "scaleDownDelaySeconds"), float, 300.0),
    )


def _step(document: MarkedDocument, path: Path) -> Step:
    step = document.table(path)
    document.only(path, ("setWeight", "pause", "analysis"))
    if len(step) != 1:
        raise document.error(path, "must be one of setWeight, pause, analysis")
    (kind,) = step
    if kind == "setWeight":
        weight = document.typed((*path, kind), int)
        if weight is None or not 0 <= weight <= 100:
            raise document.error((*path, kind), f"must be a percentage from 0 to 100, not {weight!r}")
        return Step(kind, weight=weight)
    if kind == "pause":
        document.only((*path, kind), ("duration",))
        return Step(kind, seconds=_seconds(document, (*path, kind, "duration"), None))
    document.only((*path, kind), ("minRequests",))
    return Step(kind, min_requests=document.typed((*path, kind, "minRequests"), int, 30))


def _analysis(document: MarkedDocument, path: Path) -> Analysis:
    default = Analysis()
    document.only(path, ("alpha", "interval", "warmup", "maxDuration", "onInconclusive", "metrics"))
    alpha = document.typed((*path, "alpha"), float, default.alpha)
    if not 0 < alpha < 1:
        raise document.error((*path, "alpha"), f"must lie between 0 and 1, not {alpha}")
    choice = document.typed((*path, "onInconclusive"), str, default.on_inconclusive)
    if choice not in ON_INCONCLUSIVE:
        raise document.error((*path, "onInconclusive"), f"must be one of {', '.join(ON_INCONCLUSIVE)}")
    count = len(document.typed((*path, "metrics"), list, []))
    metrics = tuple(_metric(document, (*path, "metrics", index)) for index in range(count))
    return Analysis(
        alpha=alpha,
        interval=_seconds(document, (*path, "interval"), default.interval) or default.interval,
        warmup=_seconds(document, (*path, "warmup"), default.warmup) or 0.0,
        max_duration=_seconds(document, (*path, "maxDuration"), default.max_duration) or default.max_duration,
        on_inconclusive=choice,
        metrics=metrics or default.metrics,
    )


def _metric(document: MarkedDocument, path: Path) -> Metric:
    document.only(path, ("name", "weight", "minEffect", "budget", "margin", "threshold"))
    name = document.typed((*path, "name"), str, "")
    if name not in METRICS:
        raise document.error((*path, "name"), f"{name!r} is not a built-in metric", f"Known: {', '.join(METRICS)}.")
    threshold = _seconds(document, (*path, "threshold"), None)
    if (name == "latency") != (threshold is not None):
        problem = "is needed: a slower request counts" if name == "latency" else "belongs to latency only"
        raise document.error((*path, "threshold"), problem, "Write threshold: 100ms.")
    numbers = {
        field: document.typed((*path, key), float, default)
        for field, key, default in (
            ("weight", "weight", 1.0), ("min_effect", "minEffect", 0.01), ("budget", "budget", 0.05),
            ("margin", "margin", 1.5),
        )
    }  # fmt: skip
    for key, field in (("weight", "weight"), ("margin", "margin")):
        if not numbers[field] > 0:
            raise document.error((*path, key), f"must be above 0, not {numbers[field]}")
    return Metric(name, **numbers, threshold_ms=(threshold or 0.0) * 1000)


def _seconds(document: MarkedDocument, path: Path, default: float | None) -> float | None:
    value = document.get(path)
    if value is None:
        return default
    try:
        return quantities.seconds(value)
    except ValueError as error:
        raise document.error(path, str(error)) from error
