"""`headrace rollback`"""

from __future__ import annotations

import getpass

import click

from headrace.cli import output, rollouts
from headrace.control.rollouts import actions, queries
from headrace.project import wiring


@click.command()
@click.argument("service")
@click.option("--reason", "-m", default="", help="Why; kept in the record.")
@click.option("--json", "json_", is_flag=True, help="Print the rollout as JSON.")
def command(service: str, reason: str, json_: bool) -> None:
    """Put the revision before back: abort the rollout under way, else move to the previous revision at once."""
    platform = wiring.build()
    rollout_id = actions.rollback(
        platform.database, service, actor=f"user:{getpass.getuser()}", reason=reason, at=platform.clock.now()
    )
    if json_:
        output.as_json(queries.rollout_json(platform.database, rollout_id))
    else:
        click.echo(f"Rollback of {service}: rollout {rollout_id}.")
        rollouts.say_who_acts(platform)
