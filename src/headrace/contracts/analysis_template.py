"""AnalysisTemplate as Argo Rollouts writes it, with the provider `prometheus`.

Source: https://argo-rollouts.readthedocs.io/en/stable/features/analysis/ and its CRD analysistemplates.argoproj.io.

apiVersion: argoproj.io/v1alpha1
kind: AnalysisTemplate
metadata: {name: success-rate}
spec:
  args: [{name: service}]
  dryRun: [{metricName: latency.*}]        # measured and shown, without a say
  metrics:
  - name: success-rate
    interval: 10s
    count: 5
    initialDelay: 5s
    successCondition: len(result) > 0 && result[0] >= 0.95
    failureLimit: 1                        # so many may fail
    provider:
      prometheus: {address: "http://127.0.0.1:9090", query: 'up{job="{{args.service}}"}'}
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headrace.contracts import argo_condition, quantities
from headrace.contracts.marked_yaml import MarkedDocument, Path, dotted
from headrace.errors import UnsupportedError

API_VERSION = "argoproj.io/v1alpha1"
KINDS = ("AnalysisTemplate", "ClusterAnalysisTemplate")
CONSECUTIVE_ERRORS = 4
ERROR_RETRY_SECONDS = 10.0
# What stands for a revision's id in an argument's value until the rollout is known.
REVISIONS = {"Latest": "{{revisions.latest}}", "Stable": "{{revisions.stable}}"}
_ARGUMENT = re.compile(r"\{\{\s*args\.([\w.-]+)\s*\}\}")
_METRIC = (
    "name", "interval", "count", "initialDelay", "successCondition", "failureCondition", "failureLimit",
    "inconclusiveLimit", "consecutiveErrorLimit", "provider",
)  # fmt: skip


@dataclass(frozen=True)
class TemplateMetric:
    """One metric with its arguments filled in. Durations are in seconds; `count` None means without an end."""

    template: str
    name: str
    address: str
    query: str
    timeout: float = 30.0
    headers: tuple[tuple[str, str], ...] = ()
    interval: float | None = None
    count: int | None = 1
    initial_delay: float = 0.0
    success: str = ""
    failure: str = ""
    failure_limit: int = 0
    inconclusive_limit: int = 0
    error_limit: int = CONSECUTIVE_ERRORS
    dry_run: bool = False


def metrics(document: MarkedDocument, given: Mapping[str, str], user: str) -> tuple[TemplateMetric, ...]:
    """The metrics of a template for one analysis, its arguments filled in; `user` is who refers to it.

    Raises:
        DocumentError: a wrong field, or an argument without a value.
        UnsupportedError: a provider other than prometheus.
    """
    document.only((), ("apiVersion", "kind", "metadata", "spec"))
    document.only(("spec",), ("args", "metrics", "dryRun", "measurementRetention"))
    arguments = _arguments(document, given, user)
    count = len(document.typed(("spec", "metrics"), list, []))
    if count == 0:
        raise document.error(("spec", "metrics"), "must name a metric at least")
    found = [_metric(document, ("spec", "metrics", index), arguments) for index in range(count)]
    names = [metric.name for metric in found]
    twice = next((index for index, name in enumerate(names) if name in names[:index]), None)
    if twice is not None:
        raise document.error(
            ("spec", "metrics", twice, "name"), f"{names[twice]!r} is the name of another metric here, too",
            "Measurements are kept by name: rename one.",
        )  # fmt: skip
    return tuple(found)


def name_of(document: MarkedDocument) -> str:
    """What a template is called. Raises DocumentError when it has no name."""
    name = document.typed(("metadata", "name"), str, "")
    if not name:
        raise document.error(("metadata", "name"), "is missing")
    return str(name)


def _arguments(document: MarkedDocument, given: Mapping[str, str], user: str) -> dict[str, str]:
    values = {}
    for index in range(len(document.typed(("spec", "args"), list, []))):
        path: Path = ("spec", "args", index)
        document.only(path, ("name", "value"))
        name = document.typed((*path, "name"), str, "")
        value = given.get(name, document.get((*path, "value")))
        if value is None:
            raise document.error(path, f'"{name}" has no value', f"Give it one in the args of {user}.")
        values[name] = str(value)
    unknown = sorted(set(given) - set(values))
    if unknown:
        raise document.error(
            ("spec", "args"),
            f'has no argument "{unknown[0]}"',
            f"{user} gives it one; declare it here, or leave it out.",
        )
    return values


def _metric(document: MarkedDocument, path: Path, arguments: Mapping[str, str]) -> TemplateMetric:
    document.only(path, _METRIC)
    name = document.typed((*path, "name"), str, "")
    if not name:
        raise document.error((*path, "name"), "is missing")
    reader = _Reader(document, path, arguments)
    interval = reader.seconds("interval")
    count = reader.number("count", 1 if interval is None else None)
    if count is not None and count > 1 and interval is None:
        raise document.error((*path, "interval"), f"is needed for a count of {count}", "Write interval: 10s.")
    limit = reader.number("failureLimit", 0)
    for word in ("failureLimit", "inconclusiveLimit"):
        most = reader.number(word, 0)
        if count is not None and most is not None and most >= count > 0 and document.get((*path, word)) is not None:
            raise document.error((*path, word), f"must be less than the count of {count}")
    assert limit is not None
    return TemplateMetric(
        template=name_of(document), name=name, **_provider(reader),
        interval=interval, count=count, initial_delay=reader.seconds("initialDelay") or 0.0,
        success=reader.condition("successCondition"), failure=reader.condition("failureCondition"),
        failure_limit=limit, inconclusive_limit=reader.number("inconclusiveLimit", 0) or 0,
        error_limit=_or(reader.number("consecutiveErrorLimit", None), CONSECUTIVE_ERRORS),
        dry_run=_is_dry(document, name),
    )  # fmt: skip


def _or(value: int | None, default: int) -> int:
    return default if value is None else value


def _provider(reader: _Reader) -> dict[str, Any]:
    document, path = reader.document, (*reader.path, "provider")
    kinds = list(document.table(path, required=True))
    other = next((kind for kind in kinds if kind != "prometheus"), None)
    if other is not None:
        raise _unsupported(document, (*path, other), f'the provider "{other}" is not carried out')
    path = (*path, "prometheus")
    for refused in ("authentication", "rangeQuery", "insecure"):
        if document.get((*path, refused)):
            raise _unsupported(document, (*path, refused), "is not carried out")
    document.only(path, ("address", "query", "timeout", "headers"))
    address = reader.text(("provider", "prometheus", "address"))
    if not re.match(r"https?://[^/]", address):
        raise document.error((*path, "address"), f"must be a URL, not {address!r}", "As in: http://127.0.0.1:9090.")
    headers = document.typed((*path, "headers"), list, [])
    for index in range(len(headers)):
        document.only((*path, "headers", index), ("key", "value"))
    return {
        "address": address.rstrip("/"),
        "query": reader.text(("provider", "prometheus", "query")),
        "timeout": float(document.typed((*path, "timeout"), int, 30)),
        "headers": tuple(
            (reader.filled(str(one.get("key", ""))), reader.filled(str(one.get("value", "")))) for one in headers
        ),
    }


def _unsupported(document: MarkedDocument, path: Path, problem: str) -> UnsupportedError:
    line = document.lines.get(path)
    where = document.file if line is None else f"{document.file}:{line}"
    return UnsupportedError(
        f"{dotted(path)}: {problem}", where=where, remedy="Measure it with provider.prometheus: address and query."
    )


def _is_dry(document: MarkedDocument, name: str) -> bool:
    patterns = []
    for index in range(len(document.typed(("spec", "dryRun"), list, []))):
        path: Path = ("spec", "dryRun", index)
        document.only(path, ("metricName",))
        pattern = document.typed((*path, "metricName"), str, "")
        try:
            patterns.append(re.compile(pattern))
        except re.error as error:
            raise document.error((*path, "metricName"), f"is no regular expression: {error}") from error
    return any(pattern.search(name) for pattern in patterns)


@dataclass(frozen=True)
class _Reader:
    """Reads the fields of one metric; arguments may stand in each."""

    document: MarkedDocument
    path: Path
    arguments: Mapping[str, str]

    def filled(self, text: str, path: Path = ()) -> str:
        for name in _ARGUMENT.findall(text):
            if name not in self.arguments:
                raise self.document.error(
                    path or self.path,
                    f"refers to {{{{args.{name}}}}}, which is no argument",
                    "Declare it in spec.args.",
                )
        return _ARGUMENT.sub(lambda found: self.arguments[found[1]], text)

    def text(self, field: Path) -> str:
        path = (*self.path, *field)
        value = self.document.typed(path, str, "")
        if not value.strip():
            raise self.document.error(path, "is missing")
        return self.filled(value, path).strip()

    def number(self, field: str, default: int | None) -> int | None:
        path = (*self.path, field)
        value = self.document.get(path)
        if value is None:
            return default
        text = self.filled(str(value), path)
        if not re.fullmatch(r"\d+", text):
            raise self.document.error(path, f"must be a whole number from 0, not {text!r}")
        return int(text)

    def seconds(self, field: str) -> float | None:
        path = (*self.path, field)
        value = self.document.get(path)
        try:
            return None if value is None else quantities.seconds(self.filled(str(value), path))
        except ValueError as error:
            raise self.document.error(path, str(error)) from error

    def condition(self, field: str) -> str:
        path = (*self.path, field)
        text = self.filled(self.document.typed(path, str, ""), path)
        try:
            if text:
                argo_condition.check(text)
        except argo_condition.ConditionError as error:
            raise self.document.error(path, str(error)) from error
        return text


def from_dict(data: Mapping[str, Any]) -> TemplateMetric:
    """The inverse of `dataclasses.asdict`, also after JSON."""
    return TemplateMetric(**{**data, "headers": tuple((key, value) for key, value in data["headers"])})
