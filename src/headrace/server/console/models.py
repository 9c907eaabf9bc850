"""Models: versions and what is known of each, who serves where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headrace.catalog.registry import cards
from headrace.catalog.registry.cards import Card, RegisteredModel
from headrace.control.rollouts import queries
from headrace.errors import HeadraceError, NotFoundError
from headrace.project.wiring import Platform
from headrace.server.console.pages import Page
from headrace.server.requests import Call


@dataclass(frozen=True)
class ModelsPage:
    """`problem`: why the registry does not tell; "" when it does."""

    models: list[RegisteredModel]
    serving: Mapping[str, list[str]]
    problem: str


@dataclass(frozen=True)
class ModelPage:
    """`metrics`: the names of all metrics; `best`: the largest value of each. `serving`: services by version."""

    name: str
    versions: list[Card]
    metrics: list[str]
    best: Mapping[str, float]
    serving: Mapping[int, list[str]]


@dataclass(frozen=True)
class VersionPage:
    """`services`: those of the project, to deploy to. `run`: the pipeline run that registered it, "" when unknown."""

    card: Card
    serving: list[str]
    rollouts: list[Mapping[str, Any]]
    run: str
    services: list[str]
    mlflow: str


class Models:
    """The data of the pages."""

    def __init__(self, platform: Platform, about: Mapping[str, Any]) -> None:
        self.platform = platform
        self.mlflow = str(about.get("mlflow_pages", ""))

    def listed(self, call: Call) -> ModelsPage:
        try:
            found, problem = cards.models(self.platform.registry), ""
        except HeadraceError as error:
            found, problem = [], error.problem
        serving: dict[str, list[str]] = {}
        for uri, services in self._serving().items():
            serving.setdefault(uri.removeprefix("models:/").rpartition("/")[0], []).extend(services)
        return ModelsPage(found, serving, problem)

    def model(self, call: Call) -> ModelPage:
        name = call.path["name"]
        versions = cards.versions(self.platform.registry, name)
        names = sorted({metric for one in versions for metric in one.metrics})
        best = {metric: max(one.metrics[metric] for one in versions if metric in one.metrics) for metric in names}
        serving = self._serving()
        return ModelPage(
            name, versions, names, best, {one.version: serving[one.uri] for one in versions if one.uri in serving}
        )

    def version(self, call: Call) -> VersionPage:
        name, number = call.path["name"], call.path["version"]
        if not number.isdecimal():
            raise NotFoundError(f"{number} is no version of {name}", remedy="The page of the model lists them.")
        card = cards.card(self.platform.registry, name, int(number))
        project = self.platform.project
        moved: list[Mapping[str, Any]] = [
            one for one in queries.list_rollouts(self.platform.database) if one["to"]["model"] == card.uri
        ]
        return VersionPage(
            card, self._serving().get(card.uri, []), moved, card.tags.get("headrace.run", ""),
            sorted(project.file.services) if project else [],
            f"{self.mlflow}/#/models/{name}/versions/{number}" if self.mlflow else "",
        )  # fmt: skip

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
