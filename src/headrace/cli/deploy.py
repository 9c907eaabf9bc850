"""`headrace deploy`"""

from __future__ import annotations

import getpass
import secrets

import click

from headrace.cli import output, rollouts
from headrace.contracts import inference_service
from headrace.contracts import rollout as rollout_document
from headrace.control.rollouts import queries
from headrace.control.rollouts.request import Model, request
from headrace.errors import DocumentError, UsageError
from headrace.project import wiring


@click.command()
@click.argument("service")
@click.option("--model", required=True, help="models:/NAME/VERSION, models:/NAME@ALIAS, or a folder with an MLmodel.")
@click.option("-e", "environment", help="The environment in headrace.toml (default: dev).")
@click.option("--reason", "-m", default="", help="Why; kept in the record.")
@click.option("--watch", is_flag=True, help="Stay until the rollout has ended; exit code 1 when it is rolled back.")
@click.option("--json", "json_", is_flag=True, help="Print the rollout as JSON.")
def command(service: str, model: str, environment: str | None, reason: str, watch: bool, json_: bool) -> int:
    """Start a rollout of SERVICE (a name in headrace.toml) to a new model.

    The running server (`headrace up`) carries it out, step by step.
    """
    platform = wiring.build(environment=environment)
    if platform.project is None:
        raise UsageError("no project here", remedy="Go to the folder of headrace.toml.")
    entry = platform.project.service(service)
    manifest = platform.project.read(entry.manifest, f"services.{service}.manifest")
    steps = (
        platform.project.read(entry.rollout, f"services.{service}.rollout")
        if entry.rollout
        else rollout_document.DIRECT
    )
    root = platform.project.root
    wanted = inference_service.parse(manifest, str(root / entry.manifest))
    if wanted.name != service:
        raise DocumentError(
            f'is "{wanted.name}", and headrace.toml calls the service "{service}"', file=str(root / entry.manifest),
            field="metadata.name", remedy="Give it the same name in both.",
        )  # fmt: skip
    platform.registry.check()
    uri = platform.registry.pinned(model)
    folder = str(platform.registry.folder(uri))
    if ":/" not in uri:
        uri = folder  # a path means the same from every folder
    rollout_id = request(
        platform.database,
        service=wanted,
        rollout=rollout_document.parse(steps, str(root / (entry.rollout or "headrace.toml"))),
        model=Model(uri, folder),
        key=f"deploy:{secrets.token_hex(8)}",
        actor=f"user:{getpass.getuser()}",
        reason=reason,
        at=platform.clock.now(),
    )
    if watch:
        return rollouts.follow(platform, rollout_id, json_=json_)
    if json_:
        output.as_json(queries.rollout_json(platform.database, rollout_id))
    else:
        click.echo(f"Rollout {rollout_id} of {service} to {uri} has been asked for.")
        rollouts.say_who_acts(platform)
    return 0
