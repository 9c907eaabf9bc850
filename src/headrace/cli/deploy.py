"""`headrace deploy`"""

from __future__ import annotations

import getpass

import click

from headrace.cli import output, rollouts
from headrace.control.rollouts import queries
from headrace.project import wiring
from headrace.project.deploy import deploy


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
    rollout_id, uri = deploy(platform, service, model or "", actor=f"user:{getpass.getuser()}", reason=reason)
    if watch:
        return rollouts.follow(platform, rollout_id, json_=json_)
    if json_:
        output.as_json(queries.rollout_json(platform.database, rollout_id))
    else:
        click.echo(f"Rollout {rollout_id} of {service} to {uri} has been asked for.")
        rollouts.say_who_acts(platform)
    return 0
