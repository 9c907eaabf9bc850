"""`headrace deploy`"""

from __future__ import annotations

import getpass
import secrets
from pathlib import Path

import click

from headrace.catalog.registry import ModelRegistry
from headrace.cli import output, rollouts
from headrace.contracts.inference_service import InferenceService
from headrace.control.rollouts import queries
from headrace.control.rollouts.request import Model, request
from headrace.control.rollouts.resplit import resplit
from headrace.errors import UsageError
from headrace.project import wiring
from headrace.project.load import Project


@click.command()
@click.argument("service")
@click.option(
    "--model", help="models:/NAME/VERSION, models:/NAME@ALIAS, or a path (default: the manifest's storageUri)."
)
@click.option("-e", "environment", help="The environment in headrace.toml (default: dev).")
@click.option("--reason", "-m", default="", help="Why; kept in the record.")
@click.option("--watch", is_flag=True, help="Stay until the rollout has ended; exit code 1 when it is rolled back.")
@click.option("--json", "json_", is_flag=True, help="Print the rollout as JSON.")
def command(service: str, model: str | None, environment: str | None, reason: str, watch: bool, json_: bool) -> int:
    """Start a rollout of SERVICE (a name in headrace.toml) to a new model.

    The running server (`headrace up`) carries it out, step by step.
    """
    platform = wiring.build(environment=environment)
    project = platform.project
    if project is None:
        raise UsageError("no project here", remedy="Go to the folder of headrace.toml.")
    wanted, steps = project.manifest(service).newest, project.rollout(service)
    to, actor, at = _model(platform.registry, project, wanted, model), f"user:{getpass.getuser()}", platform.clock.now()
    # A canary of this very model that is there already gets the share that the manifest says now.
    rollout_id = resplit(
        platform.database, service=service, model_uri=to.uri, settings=wanted.settings(),
        percent=wanted.canary_percent, actor=actor, reason=reason, at=at,
    ) or request(
        platform.database, service=wanted, rollout=steps, model=to, key=f"deploy:{secrets.token_hex(8)}", actor=actor,
        reason=reason, at=at,
    )  # fmt: skip
    if watch:
        return rollouts.follow(platform, rollout_id, json_=json_)
    if json_:
        output.as_json(queries.rollout_json(platform.database, rollout_id))
    else:
        click.echo(f"Rollout {rollout_id} of {service} to {to.uri} has been asked for.")
        rollouts.say_who_acts(platform)
    return 0


def _model(registry: ModelRegistry, project: Project, wanted: InferenceService, given: str | None) -> Model:
    """The model that is asked for, else the manifest's, where its files are; a Python class may do without any."""
    if not given and not wanted.storage_uri:
        return Model(wanted.model_class, str(project.root))
    uri = (
        given
        if given and ":/" in given
        else str(Path(given).resolve())
        if given
        else project.storage(wanted.storage_uri)
    )
    uri = project.storage(uri)
    if uri.startswith("models:/"):
        registry.check()
        uri = registry.pinned(uri)
    return Model(uri, str(registry.folder(uri)))
