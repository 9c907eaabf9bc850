"""`serving/rollout.yaml`: how a service moves from one revision to the next, in Argo Rollouts' words.

Source: https://argo-rollouts.readthedocs.io/en/stable/features/specification/ ; `spec.analysis`, the built-in
sequential analysis, is Headrace's own and described in `headrace.quality.analysis`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from headrace.contracts import marked_yaml, quantities
from headrace.contracts.marked_yaml import MarkedDocument, Path
from headrace.errors import UnsupportedError

API_VERSION = "headrace.dev/v1alpha1"
DEFAULT_SCALE_DOWN_DELAY_SECONDS = 120.0
_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_NOT_BUILT = ("blueGreen", "abTest", "shadow")


class OnInconclusive(StrEnum):
    """What happens when an analysis has not come to a verdict after its `maxDuration`."""

    HOLD = "hold"
    PROMOTE = "promote"
    ROLLBACK = "rollback"


@dataclass(frozen=True)
class Metric:
    """One kind of bad event that is counted on both arms.

    `weight` is its share of alpha. A canary fails when its rate is surely above `tolerance` times stable's and at
    least `min_effect` above it. It passes when its rate is surely below `margin` times stable's, or when the next
    step would surely cost less than `budget` (a share of all requests). `threshold_seconds` is only for `latency`.
    """

    name: str
    weight: float
    tolerance: float
    margin: float
    min_effect: float
    budget: float
    threshold_seconds: float | None = None


@dataclass(frozen=True)
class Analysis:
    """The built-in analysis. `alpha`: the chance that a healthy revision is rolled back, in the whole rollout."""

    alpha: float
    interval_seconds: float
    warmup_seconds: float
    on_inconclusive: OnInconclusive
    metrics: tuple[Metric, ...]

    def share(self, metric: Metric) -> float:
        """The part of alpha that belongs to one metric."""
        return self.alpha * metric.weight / sum(other.weight for other in self.metrics)


@dataclass(frozen=True)
class SetWeight:
    """Send `weight` percent of the requests to the new revision."""

    weight: int


@dataclass(frozen=True)
class Pause:
    """Wait `seconds`; None waits for a person (`headrace rollouts promote`)."""

    seconds: float | None


@dataclass(frozen=True)
class AnalysisStep:
    """Hold until the analysis has passed; after `max_seconds` (None: no limit) do what `on_inconclusive` says."""

    min_seconds: float
    max_seconds: float | None
    min_requests: int
    on_inconclusive: OnInconclusive


Step = SetWeight | Pause | AnalysisStep


@dataclass(frozen=True)
class Rollout:
    """A canary strategy. After the last step the new revision gets every request."""

    name: str
    steps: tuple[Step, ...]
    analysis: Analysis
    scale_down_delay_seconds: float

    def next_weight(self, index: int) -> int:
        """The weight in percent that follows once step `index` has passed."""
        later = [step.weight for step in self.steps[index + 1 :] if isinstance(step, SetWeight)]
        return later[0] if later else 100

    def analyses(self) -> int:
        """How many analysis steps there are."""
        return sum(isinstance(step, AnalysisStep) for step in self.steps)

    def to_document(self) -> dict[str, Any]:
        """The document again, with every default written out; `parse` of its JSON gives an equal Rollout."""
        return {
            "apiVersion": API_VERSION,
            "kind": "Rollout",
            "metadata": {"name": self.name},
            "spec": {
                "strategy": {
                    "canary": {
                        "steps": [_step_document(step) for step in self.steps],
                        "scaleDownDelaySeconds": self.scale_down_delay_seconds,
                    }
                },
                "analysis": {
                    "alpha": self.analysis.alpha,
                    "interval": self.analysis.interval_seconds,
                    "warmup": self.analysis.warmup_seconds,
                    "onInconclusive": self.analysis.on_inconclusive.value,
                    "metrics": [_metric_document(metric) for metric in self.analysis.metrics],
                },
            },
        }


# Errors weigh twice: they are what clients see first. The budgets are what a step may cost in the worst case.
DEFAULTS: Mapping[str, Metric] = MappingProxyType(
    {
        "errors": Metric("errors", weight=2, tolerance=1.0, margin=1.5, min_effect=0.01, budget=0.05),
        "latency": Metric(
            "latency", weight=1, tolerance=1.2, margin=1.5, min_effect=0.02, budget=0.05, threshold_seconds=0.5
        ),
        "labels": Metric("labels", weight=1, tolerance=1.1, margin=1.5, min_effect=0.05, budget=0.10),
    }
)
DEFAULT_METRICS = (DEFAULTS["errors"], DEFAULTS["latency"])


def parse(text: str, file: str) -> Rollout:
    """The rollout in `text`; `file` is only named in errors.

    Raises:
        DocumentError: a wrong document; says line, field and remedy.
        UnsupportedError: a strategy that is not built yet.
    """
    document = marked_yaml.parse(text, file)
    _check_head(document)
    document.only(("spec",), ("strategy", "analysis"))
    _check_strategy(document)
    canary: Path = ("spec", "strategy", "canary")
    document.only(canary, ("steps", "scaleDownDelaySeconds"))
    analysis = _analysis(document)
    return Rollout(
        name=document.typed(("metadata", "name"), str, ""),
        steps=_steps(document, (*canary, "steps"), analysis.on_inconclusive),
        analysis=analysis,
        scale_down_delay_seconds=_number(
            document, (*canary, "scaleDownDelaySeconds"), DEFAULT_SCALE_DOWN_DELAY_SECONDS, low=0.0
        ),
    )


def _check_head(document: MarkedDocument) -> None:
    document.only((), ("apiVersion", "kind", "metadata", "spec"))
    if document.get(("apiVersion",)) != API_VERSION:
        raise document.error(("apiVersion",), f"must be {API_VERSION}")
    if document.get(("kind",)) != "Rollout":
        raise document.error(("kind",), "must be Rollout")
    document.only(("metadata",), ("name", "labels", "annotations"))
    name = document.typed(("metadata", "name"), str, "")
    if not _NAME.fullmatch(name):
        raise document.error(
            ("metadata", "name"), f"{name!r} is not a name: lower-case letters, digits and -", "As in: delay."
        )


def _check_strategy(document: MarkedDocument) -> None:
    path: Path = ("spec", "strategy")
    for name in _NOT_BUILT:
        if document.get((*path, name)) is not None or name in document.table(path, required=True):
            error = document.error((*path, name), "this strategy is not built yet", "Use strategy.canary.")
            raise UnsupportedError(error.problem, where=error.where, remedy=error.remedy)
    document.only(path, ("canary",))
    if "canary" not in document.table(path):
        raise document.error((*path, "canary"), "is missing", "Write strategy: {canary: {steps: […]}}.")


def _steps(document: MarkedDocument, path: Path, default: OnInconclusive) -> tuple[Step, ...]:
    return tuple(
        _step(document, (*path, index), default) for index, _ in enumerate(document.typed(path, list, []))
    )


def _step(document: MarkedDocument, path: Path, default: OnInconclusive) -> Step:
    step = document.get(path)
    if not isinstance(step, dict) or len(step) != 1:
        raise document.error(path, "must have exactly one of setWeight, pause, analysis", "As in: - setWeight: 5")
    document.only(path, ("setWeight", "pause", "analysis"))
    if "setWeight" in step:
        weight = document.typed((*path, "setWeight"), int)
        if weight is None or not 0 <= weight <= 100:
            raise document.error((*path, "setWeight"), f"must be a whole number from 0 to 100, not {weight}")
        return SetWeight(weight)
    if "pause" in step:
        document.only((*path, "pause"), ("duration",))
        return Pause(_seconds(document, (*path, "pause", "duration"), None))
    inner: Path = (*path, "analysis")
    document.only(inner, ("minDuration", "maxDuration", "minRequests", "onInconclusive"))
    least = _seconds(document, (*inner, "minDuration"), 0.0) or 0.0
    most = _seconds(document, (*inner, "maxDuration"), None)
    if most is not None and most < least:
        raise document.error((*inner, "maxDuration"), "must not be shorter than minDuration")
    requests = document.typed((*inner, "minRequests"), int, 0)
    if requests < 0:
        raise document.error((*inner, "minRequests"), f"must not be negative, not {requests}")
    return AnalysisStep(least, most, requests, _on_inconclusive(document, inner, default))


def _analysis(document: MarkedDocument) -> Analysis:
    path: Path = ("spec", "analysis")
    document.only(path, ("alpha", "interval", "onInconclusive", "warmup", "metrics"))
    interval = _seconds(document, (*path, "interval"), 1.0)
    assert interval is not None
    if interval < 0.1:
        raise document.error((*path, "interval"), f"must be at least 100ms, not {interval:g}s")
    return Analysis(
        alpha=_number(document, (*path, "alpha"), 0.05, low=0.0, high=0.5, above=True),
        interval_seconds=interval,
        warmup_seconds=_seconds(document, (*path, "warmup"), 2.0) or 0.0,
        on_inconclusive=_on_inconclusive(document, path, OnInconclusive.HOLD),
        metrics=_metrics(document, (*path, "metrics")),
    )


def _metrics(document: MarkedDocument, path: Path) -> tuple[Metric, ...]:
    listed = document.typed(path, list)
    if listed is None:
        return DEFAULT_METRICS
    if not listed:
        raise document.error(path, "must name at least one metric", "Leave it out for errors and latency.")
    metrics = tuple(_metric(document, (*path, index)) for index, _ in enumerate(listed))
    for index, metric in enumerate(metrics):
        if metric.name in [earlier.name for earlier in metrics[:index]]:
            raise document.error((*path, index, "name"), f"{metric.name!r} is there already", "Name it once.")
    return metrics


def _metric(document: MarkedDocument, path: Path) -> Metric:
    name = document.typed((*path, "name"), str, "") if isinstance(document.get(path), dict) else ""
    if name not in DEFAULTS:
        raise document.error(
            (*path, "name"), f"{name!r} is not a metric that Headrace counts", f"Metrics: {', '.join(DEFAULTS)}."
        )
    default = DEFAULTS[name]
    known = ["name", "weight", "tolerance", "margin", "minEffect", "budget"]
    document.only(path, [*known, "threshold"] if default.threshold_seconds is not None else known)
    tolerance = _number(document, (*path, "tolerance"), default.tolerance, low=1.0, high=32.0)
    margin = _number(document, (*path, "margin"), max(default.margin, 1.25 * tolerance), low=1.0, high=64.0)
    if margin <= tolerance:
        raise document.error((*path, "margin"), f"must be above the tolerance, {tolerance:g}")
    threshold = _seconds(document, (*path, "threshold"), default.threshold_seconds)
    if threshold == 0.0:
        raise document.error((*path, "threshold"), "must be above 0")
    return Metric(
        name=name,
        weight=_number(document, (*path, "weight"), default.weight, low=0.0, above=True),
        tolerance=tolerance,
        margin=margin,
        min_effect=_number(document, (*path, "minEffect"), default.min_effect, low=0.0, high=1.0),
        budget=_number(document, (*path, "budget"), default.budget, low=0.0, high=1.0, above=True),
        threshold_seconds=threshold,
    )


def _on_inconclusive(document: MarkedDocument, path: Path, default: OnInconclusive) -> OnInconclusive:
    word = document.typed((*path, "onInconclusive"), str, default.value)
    if word not in list(OnInconclusive):
        raise document.error((*path, "onInconclusive"), f"must be hold, promote or rollback, not {word!r}")
    return OnInconclusive(word)


def _number(
    document: MarkedDocument, path: Path, default: float, *, low: float, high: float = 1e9, above: bool = False
) -> float:
    value: float = document.typed(path, float, default)
    if not low <= value <= high or (above and value == low):
        words = f"above {low:g}" if above else f"at least {low:g}"
        raise document.error(path, f"must be {words}{f' and at most {high:g}' if high < 1e9 else ''}, not {value:g}")
    return value


def _seconds(document: MarkedDocument, path: Path, default: float | None) -> float | None:
    value = document.get(path)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise document.error(path, f"must be a duration such as 10s, not {value!r}")
    try:
        seconds = quantities.seconds(value)
    except ValueError as error:
        raise document.error(path, str(error)) from error
    if not 0 <= seconds < 1e9:
        raise document.error(path, f"must not be negative or without end, not {value!r}")
    return seconds


def _step_document(step: Step) -> dict[str, Any]:
    if isinstance(step, SetWeight):
        return {"setWeight": step.weight}
    if isinstance(step, Pause):
        return {"pause": {} if step.seconds is None else {"duration": step.seconds}}
    inner: dict[str, Any] = {
        "minDuration": step.min_seconds,
        "minRequests": step.min_requests,
        "onInconclusive": step.on_inconclusive.value,
    }
    return {"analysis": inner if step.max_seconds is None else {**inner, "maxDuration": step.max_seconds}}


def _metric_document(metric: Metric) -> dict[str, Any]:
    document: dict[str, Any] = {
        "name": metric.name,
        "weight": metric.weight,
        "tolerance": metric.tolerance,
        "margin": metric.margin,
        "minEffect": metric.min_effect,
        "budget": metric.budget,
    }
    return document if metric.threshold_seconds is None else {**document, "threshold": metric.threshold_seconds}
