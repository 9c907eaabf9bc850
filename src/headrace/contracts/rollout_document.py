"""The rollout document, as people write it. Words as in Argo Rollouts.

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
  watch: {duration: 1h}                    # after promotion: late labels, or errors, may still roll back

The other strategies: `blueGreen`, `abTest`, `shadow`; see docs/rollouts.md. All of them become steps. AnalysisTemplates
that steps refer to follow as further YAML documents of the same file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from headrace.contracts import analysis_template, marked_yaml, quantities
from headrace.contracts.analysis_template import TemplateMetric
from headrace.contracts.marked_yaml import MarkedDocument, Path
from headrace.contracts.rollout import Analysis, Match, Metric, Rollout, Shadow, Step, Sticky, Test, Watch

API_VERSION = "headrace.dev/v1alpha1"
# For a service without a rollout document: everything at once, as soon as the new revision is ready.
DIRECT = f"apiVersion: {API_VERSION}\nkind: Rollout\nspec: {{strategy: {{canary: {{steps: []}}}}}}\n"
METRICS = ("errors", "latency", "labels")
RESERVED = ("disagreement", "epoch")
ON_INCONCLUSIVE = ("hold", "promote", "rollback")
STRATEGIES = ("canary", "blueGreen", "abTest", "shadow")
TEST_KINDS = ("conversion", "mean")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # a header's or a cookie's name: RFC 9110, section 5.6.2


def parse(text: str, file: str) -> Rollout:
    """The rollout in `text`; `file` is only named in errors.

    Raises:
        DocumentError: a wrong document, or a strategy that is not carried out.
        UnsupportedError: a provider of metrics that is not carried out.
    """
    documents = marked_yaml.parse_all(text, file)
    document = next((one for one in documents if one.get(("kind",)) not in analysis_template.KINDS), documents[0])
    templates = _templates([one for one in documents if one is not document])
    if document.get(("apiVersion",)) != API_VERSION:
        raise document.error(("apiVersion",), f"must be {API_VERSION}")
    if document.get(("kind",)) != "Rollout":
        raise document.error(("kind",), "must be Rollout")
    document.only((), ("apiVersion", "kind", "metadata", "spec"))
    document.only(("metadata",), ("name", "labels", "annotations"))
    document.only(("spec",), ("strategy", "analysis", "watch"))
    strategy: Path = ("spec", "strategy")
    document.only(strategy, STRATEGIES)
    kinds = list(document.table(strategy, required=True))
    if len(kinds) != 1:
        raise document.error(strategy, f"must be one of {', '.join(STRATEGIES)}")
    reader = _StrategyReader(document, (*strategy, kinds[0]), templates)
    document.table(reader.path, required=True)
    found = Rollout(
        name=document.typed(("metadata", "name"), str, ""),
        analysis=_analysis(document, ("spec", "analysis")),
        scale_down_delay=document.typed((*reader.path, "scaleDownDelaySeconds"), float, 300.0),
        strategy=kinds[0],
        watch=_watch(document, ("spec", "watch"), () if kinds[0] == "blueGreen" else (Metric("labels"),)),
    )
    return {"canary": reader.canary, "blueGreen": reader.blue_green, "abTest": reader.ab_test, "shadow": reader.shadow}[
        kinds[0]
    ](found)


def _templates(documents: list[MarkedDocument]) -> dict[str, MarkedDocument]:
    """AnalysisTemplates by name."""
    found: dict[str, MarkedDocument] = {}
    for document in documents:
        if document.get(("kind",)) not in analysis_template.KINDS:
            raise document.error(("kind",), "must be AnalysisTemplate", "A file holds one rollout and its templates.")
        if document.get(("apiVersion",)) != analysis_template.API_VERSION:
            raise document.error(("apiVersion",), f"must be {analysis_template.API_VERSION}")
        name = analysis_template.name_of(document)
        if name in found:
            raise document.error(("metadata", "name"), f'there are two templates called "{name}"')
        found[name] = document
    return found


@dataclass(frozen=True)
class _StrategyReader:
    """Reads what stands below `spec.strategy.<name>`, and makes steps of it."""

    document: MarkedDocument
    path: Path
    templates: Mapping[str, MarkedDocument]

    def canary(self, found: Rollout) -> Rollout:
        self.document.only(self.path, ("steps", "sticky", "scaleDownDelaySeconds"))
        count = len(self.document.typed((*self.path, "steps"), list, []))
        steps = tuple(self.step((*self.path, "steps", index)) for index in range(count))
        sticky = self.sticky()
        return replace(found, steps=steps, sticky=sticky, unit="users" if sticky else "requests")

    def blue_green(self, found: Rollout) -> Rollout:
        document, path = self.document, self.path
        document.only(
            path,
            (
                "autoPromotionEnabled", "autoPromotionSeconds", "prePromotionAnalysis", "postPromotionAnalysis",
                "scaleDownDelaySeconds",
            ),
        )  # fmt: skip
        by_itself = document.typed((*path, "autoPromotionEnabled"), bool, True)
        seconds = document.typed((*path, "autoPromotionSeconds"), float, 0.0)
        if seconds and not by_itself:
            raise document.error(
                (*path, "autoPromotionSeconds"), "has no effect while autoPromotionEnabled is false", "Leave out one."
            )
        watch = found.watch or Watch(found.scale_down_delay, ())
        if not watch.metrics:
            watch = replace(watch, metrics=found.analysis.metrics)
        waits = [] if by_itself and not seconds else [Step("pause", seconds=seconds if by_itself else None)]
        steps = [
            *self.promotion_analysis("prePromotionAnalysis"),
            *waits,
            Step("setWeight", weight=100),
            *self.promotion_analysis("postPromotionAnalysis"),
        ]
        return replace(found, steps=tuple(steps), watch=watch if watch.duration > 0 else None)

    def promotion_analysis(self, field: str) -> list[Step]:
        path = (*self.path, field)
        if self.document.get(path) is None:
            return []
        self.document.only(path, ("templates", "args"))
        return [Step("analysis", metrics=self.measured(path))]

    def ab_test(self, found: Rollout) -> Rollout:
        document, path = self.document, self.path
        document.only(
            path,
            (
                "match", "sticky", "weight", "duration", "minSamples", "metric", "onInconclusive",
                "scaleDownDelaySeconds",
            ),
        )  # fmt: skip
        matches, sticky = self.matches(), self.sticky()
        if bool(matches) == (sticky is not None):
            raise document.error(path, "needs match or sticky, and not both", "As in: sticky: {header: x-user-id}.")
        weight = document.typed((*path, "weight"), int)
        if matches and weight is not None:
            raise document.error((*path, "weight"), "goes with sticky; who matches gets the new revision")
        weight = 50 if weight is None else weight
        if not 0 < weight < 100:
            raise document.error((*path, "weight"), f"must be a percentage between 0 and 100, not {weight}")
        duration = _seconds(document, (*path, "duration"), None)
        samples = document.typed((*path, "minSamples"), int)
        if duration is None and samples is None:
            raise document.error(path, "needs duration or minSamples: when the test ends")
        if samples is not None and samples < 1:
            raise document.error((*path, "minSamples"), "must be 1 at least")
        first = Step("match") if matches else Step("setWeight", weight=weight)
        return replace(
            found,
            steps=(first, Step("test")),
            sticky=sticky,
            unit="users" if sticky else "requests",
            matches=matches,
            test=self.test(duration, samples),
            analysis=replace(found.analysis, on_inconclusive=self.on_inconclusive(found)),
        )

    def on_inconclusive(self, found: Rollout) -> str:
        choice = self.document.typed((*self.path, "onInconclusive"), str, found.analysis.on_inconclusive)
        if choice not in ON_INCONCLUSIVE:
            raise self.document.error((*self.path, "onInconclusive"), f"must be one of {', '.join(ON_INCONCLUSIVE)}")
        return str(choice)

    def test(self, duration: float | None, samples: int | None) -> Test:
        document, path = self.document, (*self.path, "metric")
        document.table(path, required=True)
        document.only(path, ("name", "kind", "higherIsBetter", "minEffect", "alpha"))
        name, kind = document.typed((*path, "name"), str, ""), document.typed((*path, "kind"), str, "conversion")
        if not name:
            raise document.error((*path, "name"), "is missing", "As in: {name: purchase, kind: conversion}.")
        if name in (*METRICS, *RESERVED):
            raise document.error(
                (*path, "name"), f"{name!r} is the name of something else that is counted", "Choose another."
            )
        if kind not in TEST_KINDS:
            raise document.error((*path, "kind"), f"must be one of {', '.join(TEST_KINDS)}")
        effect = document.typed((*path, "minEffect"), float, 0.0)
        if effect < 0:
            raise document.error((*path, "minEffect"), f"must not be negative, and is {effect:g}")
        return Test(
            metric=name, kind=kind, higher_is_better=document.typed((*path, "higherIsBetter"), bool, True),
            min_effect=effect, alpha=_share(document, (*path, "alpha"), 0.05), duration=duration, min_samples=samples,
        )  # fmt: skip

    def shadow(self, found: Rollout) -> Rollout:
        document, path = self.document, self.path
        document.only(
            path, ("percent", "minRequests", "maxDisagreement", "tolerance", "promote", "scaleDownDelaySeconds")
        )
        percent = document.typed((*path, "percent"), int, 100)
        if not 0 < percent <= 100:
            raise document.error((*path, "percent"), f"must be a percentage from 1 to 100, not {percent}")
        if any(metric.name == "labels" for metric in found.analysis.metrics):
            raise document.error(
                ("spec", "analysis", "metrics"), "labels cannot be judged for a shadow, whose answers nobody gets",
                "Its answers are compared with those that were sent: maxDisagreement.",
            )  # fmt: skip
        if document.get(("spec", "watch")) is not None:
            raise document.error(("spec", "watch"), "needs requests that both revisions answered; a shadow sends none")
        tolerance = document.typed((*path, "tolerance"), float, 0.0)
        if tolerance < 0:
            raise document.error((*path, "tolerance"), f"must not be negative, and is {tolerance:g}")
        shadow = Shadow(
            max_disagreement=_share(document, (*path, "maxDisagreement"), 0.05), tolerance=tolerance,
            promote=document.typed((*path, "promote"), bool, False),
        )  # fmt: skip
        requests = document.typed((*path, "minRequests"), int, 30)
        steps = (Step("mirror", weight=percent), Step("analysis", min_requests=requests))
        return replace(found, steps=steps, shadow=shadow)

    def step(self, path: Path) -> Step:
        document, step = self.document, self.document.table(path)
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
        if document.get((*path, kind, "templates")) is not None:
            document.only((*path, kind), ("templates", "args"))
            return Step(kind, metrics=self.measured((*path, kind)))
        document.only((*path, kind), ("minRequests", "templates", "args"))
        if document.get((*path, kind, "args")) is not None:
            raise document.error((*path, kind, "args"), "go with templates")
        return Step(kind, min_requests=document.typed((*path, kind, "minRequests"), int, 30))

    def measured(self, path: Path) -> tuple[TemplateMetric, ...]:
        """The metrics of the templates that an analysis refers to, with its arguments."""
        document, names = self.document, []
        for index in range(len(document.typed((*path, "templates"), list, []))):
            one: Path = (*path, "templates", index)
            document.only(one, ("templateName", "clusterScope"))
            name = document.typed((*one, "templateName"), str, "")
            if name not in self.templates:
                known = ", ".join(sorted(self.templates)) or "none"
                raise document.error(
                    (*one, "templateName"), f'there is no AnalysisTemplate "{name}" in this file',
                    f"Add it as a further YAML document, after a line ---. Here: {known}.",
                )  # fmt: skip
            if name in names:
                raise document.error((*one, "templateName"), f'"{name}" is listed already', "Keep one of the two.")
            names.append(name)
        if not names:
            raise document.error((*path, "templates"), "must name a template at least")
        metrics: list[TemplateMetric] = []
        for name in names:
            declared = self.templates[name].typed(("spec", "args"), list, [])
            wanted = {one.get("name") for one in declared if isinstance(one, dict)}
            # Several templates share the args of the analysis: each takes its own.
            given = {key: value for key, value in self.arguments(path).items() if len(names) == 1 or key in wanted}
            metrics += analysis_template.metrics(self.templates[name], given, marked_yaml.dotted(path))
        endless = next((metric for metric in metrics if metric.count is None and not metric.dry_run), None)
        if endless is not None:
            raise document.error(
                path, f'the metric "{endless.name}" of {endless.template} runs without an end', "Give it a count."
            )
        return tuple(metrics)

    def arguments(self, path: Path) -> dict[str, str]:
        values = {}
        for index in range(len(self.document.typed((*path, "args"), list, []))):
            one: Path = (*path, "args", index)
            self.document.only(one, ("name", "value", "valueFrom"))
            self.document.only((*one, "valueFrom"), ("podTemplateHashValue",))
            revision = self.document.get((*one, "valueFrom", "podTemplateHashValue"))
            if revision is not None and revision not in analysis_template.REVISIONS:
                raise self.document.error((*one, "valueFrom", "podTemplateHashValue"), "must be Latest or Stable")
            value = self.document.get((*one, "value")) if revision is None else analysis_template.REVISIONS[revision]
            if value is None:
                raise self.document.error(one, "has no value")
            values[self.document.typed((*one, "name"), str, "")] = str(value)
        return values

    def sticky(self) -> Sticky | None:
        path = (*self.path, "sticky")
        if self.document.get(path) is None:
            return None
        self.document.only(path, ("header", "cookie"))
        if len(self.document.table(path)) != 1:
            raise self.document.error(path, "must name a header or a cookie", "As in: sticky: {header: x-user-id}.")
        return Sticky(**{kind: self.token((*path, kind)) for kind in self.document.table(path)})

    def token(self, path: Path) -> str:
        name = self.document.typed(path, str, "")
        if not _TOKEN.fullmatch(name):
            raise self.document.error(path, f"{name!r} is not a name that a header or cookie can have")
        return str(name)

    def matches(self) -> tuple[Match, ...]:
        count = len(self.document.typed((*self.path, "match"), list, []))
        return tuple(self.match((*self.path, "match", index)) for index in range(count))

    def match(self, path: Path) -> Match:
        kind = "cookie" if self.document.get((*path, "cookieName")) is not None else "header"
        name, value = f"{kind}Name", f"{kind}Value"
        self.document.only(path, (name, value))
        ways = self.document.table((*path, value), required=True)
        self.document.only((*path, value), ("exact", "prefix", "regex"))
        if len(ways) != 1:
            raise self.document.error((*path, value), "must be one of exact, prefix, regex")
        (how,) = ways
        text = self.document.typed((*path, value, how), str, "")
        if not text:
            raise self.document.error((*path, value, how), "is empty")
        try:
            re.compile(text if how == "regex" else "")
        except re.error as error:
            raise self.document.error((*path, value, how), f"is no regular expression: {error}") from error
        return Match(text, how, **{kind: self.token((*path, name))})


def _share(document: MarkedDocument, path: Path, default: float) -> float:
    value = document.typed(path, float, default)
    if not 0 < value < 1:
        raise document.error(path, f"must lie between 0 and 1, not {value:g}")
    return float(value)


def _watch(document: MarkedDocument, path: Path, default: tuple[Metric, ...]) -> Watch | None:
    if document.get(path) is None:
        return None
    document.only(path, ("duration", "metrics"))
    duration = _seconds(document, (*path, "duration"), None)
    if not duration:
        raise document.error((*path, "duration"), "is missing", "As in: watch: {duration: 1h}.")
    return Watch(duration, _metrics(document, (*path, "metrics")) or default)


def _analysis(document: MarkedDocument, path: Path) -> Analysis:
    default = Analysis()
    document.only(path, ("alpha", "interval", "warmup", "maxDuration", "onInconclusive", "metrics"))
    alpha = document.typed((*path, "alpha"), float, default.alpha)
    if not 0 < alpha < 1:
        raise document.error((*path, "alpha"), f"must lie between 0 and 1, not {alpha}")
    choice = document.typed((*path, "onInconclusive"), str, default.on_inconclusive)
    if choice not in ON_INCONCLUSIVE:
        raise document.error((*path, "onInconclusive"), f"must be one of {', '.join(ON_INCONCLUSIVE)}")
    return Analysis(
        alpha=alpha,
        interval=_seconds(document, (*path, "interval"), default.interval) or default.interval,
        warmup=_seconds(document, (*path, "warmup"), default.warmup) or 0.0,
        max_duration=_seconds(document, (*path, "maxDuration"), default.max_duration) or default.max_duration,
        on_inconclusive=choice,
        metrics=_metrics(document, (*path, "metrics")) or default.metrics,
    )


def _metrics(document: MarkedDocument, path: Path) -> tuple[Metric, ...]:
    """The metrics of a list, each once: two of one name would share counts and alpha, and tell two things of one."""
    metrics: list[Metric] = []
    for index in range(len(document.typed(path, list, []))):
        metric = _metric(document, (*path, index))
        first = next((i for i, one in enumerate(metrics) if one.name == metric.name), None)
        if first is not None:
            raise document.error(
                (*path, index, "name"), f"{metric.name!r} is listed already, as metric {first + 1}",
                "Keep one of the two.",
            )  # fmt: skip
        metrics.append(metric)
    return tuple(metrics)


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
