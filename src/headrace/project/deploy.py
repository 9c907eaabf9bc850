"""Ask for the move of a service to another model: one function behind the command line and the console."""

from __future__ import annotations

import secrets
from pathlib import Path

from headrace.catalog.registry import ModelRegistry
from headrace.contracts.inference_service import InferenceService
from headrace.control.rollouts.request import Model, request
from headrace.control.rollouts.resplit import resplit
from headrace.errors import UsageError
from headrace.project.load import Project
from headrace.project.wiring import Platform


def deploy(platform: Platform, service: str, model: str, *, actor: str, reason: str) -> tuple[str, str]:
    """Ask for a rollout of a project's service, which the running server carries out; its id and the model's URI.

    Args:
        model: models:/NAME/VERSION, models:/NAME@ALIAS, or a path; "" for the manifest's storageUri.

    Raises:
        UsageError: there is no project, no such service or model, or another rollout is under way.
    """
    project = platform.project
    if project is None:
        raise UsageError("no project here", remedy="Go to the folder of headrace.toml.")
    wanted, steps = project.manifest(service).newest, project.rollout(service)
    to, at = _model(platform.registry, project, wanted, model), platform.clock.now()
    # A canary of this very model that is there already gets the share that the manifest says now.
    rollout_id = resplit(
        platform.database, service=service, model_uri=to.uri, settings=wanted.settings(),
        percent=wanted.canary_percent, actor=actor, reason=reason, at=at,
    ) or request(
        platform.database, service=wanted, rollout=steps, model=to, key=f"deploy:{secrets.token_hex(8)}", actor=actor,
        reason=reason, at=at,
    )  # fmt: skip
    return rollout_id, to.uri


def _model(registry: ModelRegistry, project: Project, wanted: InferenceService, given: str) -> Model:
    """The model that is asked for, else the manifest's, where its files are; a Python class may do without any."""
    if not given and not wanted.storage_uri:
        return Model(wanted.model_class, str(project.root))
    if not given:
        given = project.storage(wanted.storage_uri)
    uri = project.storage(given if ":/" in given else str(Path(given).resolve()))
    if uri.startswith("models:/"):
        registry.check()
        uri = registry.pinned(uri)
    return Model(uri, str(registry.folder(uri)))
