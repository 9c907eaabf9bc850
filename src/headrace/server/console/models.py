"""Models: versions and what is known of each, who serves where."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headrace.catalog.registry import cards
from headrace.catalog.registry.cards import Card, RegisteredModel
from headrace.control.rollouts import queries
from headrace.errors import HeadraceError, NotFoundError, UsageError
from headrace.project import lineage
from headrace.project.lineage_facts import Node
from headrace.project.wiring import Platform
from headrace.server.console.pages import Page
from headrace.server.console.patience import Patience
from headrace.server.requests import Call

# The tag of a version with the id of the pipeline run that registered it (components/register.py).
RUN_TAG = "headrace.run"


@dataclass(frozen=True)
class ModelsPage:
    """`problem`: why the registry does not tell; "" when it does."""

    models: list[RegisteredModel]
    serving: Mapping[str, list[str]]
    problem: str


@dataclass(frozen=True)
class Point:
    """A version in a chart, in the chart's coordinates: 0 to 100 from left to right, 0 (the highest) to 40."""

    version: int
    value: float
    x: float
    y: float


@dataclass(frozen=True)
class Curve:
    """A metric over the versions that have it, the oldest first."""

    metric: str
    lowest: float
    highest: float
    points: list[Point]


@dataclass(frozen=True)
class ModelPage:
    """`metrics`: the names of all metrics; `best`: the largest value of each; `curves`: those of several versions.

    `parameters`: by name, what each version has, where that is not the same for all; `fixed`: the others. `serving`:
    services by version; `actors`: who started the run that registered a version, by the run's id.
    """

    name: str
    versions: list[Card]
    metrics: list[str]
    best: Mapping[str, float]
    curves: list[Curve]
    parameters: Mapping[str, list[str | None]]
    fixed: Mapping[str, str]
    serving: Mapping[int, list[str]]
    actors: Mapping[str, str]


@dataclass(frozen=True)
class VersionPage:
    """`services`: those of the project, to deploy to. `run`: the pipeline run that registered it, "" when unknown;
    `actor`: who started that. `data`: the files that it came of, by the lineage."""

    card: Card
    serving: list[str]
    rollouts: list[Mapping[str, Any]]
    run: str
    actor: str
    data: list[Node]
    services: list[str]
    mlflow: str


class Models:
    """The data of the pages."""

    def __init__(self, platform: Platform, about: Mapping[str, Any]) -> None:
        self.platform = platform
        self.patience = Patience(platform.registry)
        self.mlflow = str(about.get("mlflow_pages", ""))

    def listed(self, call: Call) -> ModelsPage:
        try:
            found, problem = self.patience.ask(cards.models), ""
        except HeadraceError as error:
            found, problem = [], error.problem
        serving: dict[str, list[str]] = {}
        for uri, services in self._serving().items():
            serving.setdefault(uri.removeprefix("models:/").rpartition("/")[0], []).extend(services)
        return ModelsPage(found, serving, problem)

    def model(self, call: Call) -> ModelPage:
        name = call.path["name"]
        versions = self.patience.ask(lambda registry: cards.versions(registry, name))
        names = sorted({metric for one in versions for metric in one.metrics})
        best = {metric: max(one.metrics[metric] for one in versions if metric in one.metrics) for metric in names}
        parameters = {key: [one.parameters.get(key) for one in versions] for key in sorted(_parameters(versions))}
        fixed = {key: values[0] or "" for key, values in parameters.items() if len(set(values)) == 1}
        serving = self._serving()
        return ModelPage(
            name=name, versions=versions, metrics=names, best=best,
            curves=[curve for metric in names if (curve := _curve(metric, versions))],
            parameters={key: values for key, values in parameters.items() if key not in fixed}, fixed=fixed,
            serving={one.version: serving[one.uri] for one in versions if one.uri in serving},
            actors=self._actors([one.tags.get(RUN_TAG, "") for one in versions]),
        )  # fmt: skip

    def version(self, call: Call) -> VersionPage:
        name, number = call.path["name"], call.path["version"]
        if not number.isdecimal():
            raise NotFoundError(f"{number} is no version of {name}", remedy="The page of the model lists them.")
        card, data = self.patience.ask(lambda _: self._card(name, int(number)))
        project = self.platform.project
        moved: list[Mapping[str, Any]] = [
            one for one in queries.list_rollouts(self.platform.database) if one["to"]["model"] == card.uri
        ]
        run = card.tags.get(RUN_TAG, "")
        return VersionPage(
            card, self._serving().get(card.uri, []), moved, run, self._actors([run]).get(run, ""), data,
            sorted(project.file.services) if project else [],
            f"{self.mlflow}/#/models/{name}/versions/{number}" if self.mlflow else "",
        )  # fmt: skip

    def _card(self, name: str, number: int) -> tuple[Card, list[Node]]:
        """A version and the files that it came of, as far as they are on record."""
        card = cards.card(self.platform.registry, name, number)
        try:
            found = lineage.lineage(self.platform, f"model:{name}@{number}")
        except UsageError:
            return card, []
        return card, [node for node in found.nodes if node.kind == "dataset"]

    def _actors(self, runs: list[str]) -> dict[str, str]:
        """Who started each of the runs that are here."""
        marks = ", ".join("?" * len(runs))
        rows = self.platform.database.query(f"SELECT id, actor FROM run WHERE id IN ({marks})", tuple(runs))
        return {row["id"]: row["actor"] for row in rows}

    def _serving(self) -> dict[str, list[str]]:
        """The services that each model URI serves."""
        found: dict[str, list[str]] = {}
        for service in queries.list_services(self.platform.database):
            if service["stable"]:
                found.setdefault(service["stable"]["model"], []).append(service["name"])
        return found


def pages(platform: Platform, about: Mapping[str, Any]) -> list[Page]:
    """The pages below /models."""
    models = Models(platform, about)
    return [
        Page("/models", "models.html", models.listed, live=True),
        Page("/models/{name}/{version}", "model_version.html", models.version),
        Page("/models/{name}", "model.html", models.model, live=True),
    ]


def _parameters(versions: list[Card]) -> set[str]:
    return {name for one in versions for name in one.parameters}


def _curve(metric: str, versions: list[Card]) -> Curve | None:
    """A metric's chart; None when fewer than two versions have a number for it."""
    known = [(one.version, one.metrics[metric]) for one in reversed(versions) if metric in one.metrics]
    known = [(version, value) for version, value in known if math.isfinite(value)]
    if len(known) < 2:
        return None
    values = [value for _, value in known]
    lowest, highest = min(values), max(values)
    step = 100 / (len(known) - 1)
    points = [
        Point(version, value, round(number * step, 2), round(40 - 40 * _share(value, lowest, highest), 2))
        for number, (version, value) in enumerate(known)
    ]
    return Curve(metric, lowest, highest, points)


def _share(value: float, lowest: float, highest: float) -> float:
    """Where a value lies between two; in the middle when they are the same."""
    return (value - lowest) / (highest - lowest) if highest > lowest else 0.5
