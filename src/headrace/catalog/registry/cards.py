"""What the registry knows of models, for people to read: versions, metrics, parameters, signatures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from headrace.catalog.registry.models import ModelRegistry
from headrace.clock import rfc3339
from headrace.errors import HeadraceError, NotFoundError

MOST = 100


@dataclass(frozen=True)
class Card:
    """A version of a registered model. `inputs` and `outputs`: name and type of each column of its signature."""

    name: str
    version: int
    uri: str
    aliases: list[str]
    description: str
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    parameters: Mapping[str, str]
    run_id: str
    created_at: str
    source: str
    inputs: list[tuple[str, str]]
    outputs: list[tuple[str, str]]


@dataclass(frozen=True)
class RegisteredModel:
    """A registered model with its newest versions. `aliases`: the version that each names."""

    name: str
    description: str
    aliases: Mapping[str, int]
    versions: int
    updated_at: str


def models(registry: ModelRegistry) -> list[RegisteredModel]:
    """All registered models, by name.

    Raises:
        HeadraceError: MLflow does not answer, or fails.
    """
    with _told(registry):
        found = registry.client.search_registered_models(max_results=MOST, order_by=["name ASC"])
        return [
            RegisteredModel(
                one.name, one.description or "", {alias: int(version) for alias, version in one.aliases.items()},
                max((int(version.version) for version in one.latest_versions), default=0),
                _time(one.last_updated_timestamp),
            )
            for one in found
        ]  # fmt: skip


def versions(registry: ModelRegistry, name: str) -> list[Card]:
    """The newest versions of a model, newest first, without their signatures.

    Raises:
        NotFoundError: no such model.
        HeadraceError: MLflow does not answer, or fails.
    """
    with _told(registry):
        found = registry.client.search_model_versions(
            f"name = '{_quoted(name)}'", max_results=MOST, order_by=["version_number DESC"]
        )
        if not found:
            raise NotFoundError(f"the registry has no model {name}", remedy="The page Models shows what there is.")
        aliases = registry.client.get_registered_model(name).aliases
        runs = _runs(registry, [one.run_id for one in found if one.run_id])
        return [_card(one, aliases, runs.get(one.run_id)) for one in sorted(found, key=lambda one: -int(one.version))]


def card(registry: ModelRegistry, name: str, version: int) -> Card:
    """A version with its signature.

    Raises:
        NotFoundError: no such version.
        HeadraceError: MLflow does not answer, or fails.
    """
    registry.version(f"models:/{name}/{version}")
    with _told(registry):
        found = registry.client.get_model_version(name, str(version))
        aliases = registry.client.get_registered_model(name).aliases
        data = _runs(registry, [found.run_id]).get(found.run_id) if found.run_id else None
        return _card(found, aliases, data, _signature(registry, found))


def _runs(registry: ModelRegistry, ids: list[str]) -> dict[str, Any]:
    """The data of MLflow's runs by their ids, without those that are gone. One question for all of an experiment."""
    import mlflow

    found: dict[str, Any] = {}
    for one in dict.fromkeys(ids):
        if one in found:
            continue
        try:
            run = registry.client.get_run(one)
        except mlflow.MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            continue
        found[one] = run.data
        rest = ", ".join(f"'{other}'" for other in dict.fromkeys(ids) if other not in found)
        if rest:
            experiment = [run.info.experiment_id]
            beside = registry.client.search_runs(experiment, f"attributes.run_id IN ({rest})", max_results=MOST)
            found.update({other.info.run_id: other.data for other in beside})
    return found


def _card(
    told: Any, aliases: Mapping[str, Any], data: Any,
    signature: tuple[list[tuple[str, str]], list[tuple[str, str]]] = ([], []),
) -> Card:  # fmt: skip
    inputs, outputs = signature
    return Card(
        told.name, int(told.version), f"models:/{told.name}/{told.version}",
        [alias for alias, version in aliases.items() if int(version) == int(told.version)],
        told.description or "", dict(told.tags), dict(data.metrics) if data else {}, dict(data.params) if data else {},
        told.run_id or "", _time(told.creation_timestamp), told.source or "", inputs, outputs,
    )  # fmt: skip


def _signature(registry: ModelRegistry, told: Any) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    import mlflow

    try:
        signature = mlflow.models.Model.load(str(registry.folder(f"models:/{told.name}/{told.version}"))).signature
    except (HeadraceError, mlflow.MlflowException, OSError):
        return [], []
    sides = (signature.inputs, signature.outputs) if signature else (None, None)
    return _columns(sides[0]), _columns(sides[1])


def _columns(schema: Any) -> list[tuple[str, str]]:
    if schema is None:
        return []
    return [(str(one.name or ""), str(getattr(one.type, "name", one.type))) for one in schema.inputs]


@contextmanager
def _told(registry: ModelRegistry) -> Iterator[None]:
    """MLflow's problems as ours."""
    registry.check()
    import mlflow

    try:
        yield
    except mlflow.MlflowException as error:
        raise HeadraceError(f"MLflow fails: {error}", where=registry.tracking_uri) from error


def _time(milliseconds: int | None) -> str:
    return rfc3339(milliseconds / 1000) if milliseconds else ""


def _quoted(name: str) -> str:
    return name.replace("'", "")
