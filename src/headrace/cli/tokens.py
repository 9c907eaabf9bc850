"""`headrace tokens`: what people and programs sign in with."""

from __future__ import annotations

import getpass

import click

from headrace.cli import output
from headrace.clock import SystemClock
from headrace.contracts import quantities
from headrace.errors import UsageError
from headrace.governance import tokens
from headrace.governance.rbac import Role
from headrace.project.wiring import open_database
from headrace.store.home import Home


@click.group()
def command() -> None:
    """Make, list and revoke the tokens that `headrace up --sign-in` asks for.

    A token is one person or one program: the event log knows what they do as user:NAME. Roles: viewer reads;
    operator acts on runs, pipelines and rollouts; approver decides gates, and promotes, aborts and rolls back;
    admin may everything. docs/security.md tells more.
    """


@command.command()
@click.argument("name")
@click.option(
    "--role", "roles", multiple=True, required=True, type=click.Choice([role.value for role in Role]),
    help="What it may do; more than once for more.",
)  # fmt: skip
@click.option("--expires", metavar="DURATION", help="When it ends, as in 90d or 12h (default: never).")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
def create(name: str, roles: tuple[str, ...], expires: str | None, json_: bool) -> None:
    """Make a token for NAME and print its secret, once: only a digest of it is kept."""
    now = SystemClock().now()
    token, secret = tokens.create(
        open_database(Home.locate()), name, [Role(role) for role in roles], at=now, actor=f"user:{getpass.getuser()}",
        expires_at=None if expires is None else now + _seconds(expires),
    )  # fmt: skip
    told = token.to_dict(now)
    if json_:
        output.as_json({**told, "token": secret})
        return
    click.echo(secret)
    click.echo(f"{name} signs in with it, as {', '.join(told['roles'])}. It is not shown again.", err=True)


@command.command("list")
@click.option("--all", "everything", is_flag=True, help="Revoked ones, too.")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
def list_(everything: bool, json_: bool) -> None:
    """Tokens, oldest first."""
    now = SystemClock().now()
    found = [token.to_dict(now) for token in tokens.tokens(open_database(Home.locate()))]
    found = [token for token in found if everything or token["state"] != "revoked"]
    if json_:
        output.as_json(found)
        return
    output.table(
        ["name", "state", "roles", "created", "by", "expires"],
        [
            (t["name"], t["state"], ", ".join(t["roles"]), output.ago(t["created_at"]), t["created_by"],
             (t["expires_at"] or "never")[:10])
            for t in found
        ],
        empty="There are no tokens: headrace tokens create NAME --role admin",
    )  # fmt: skip


@command.command()
@click.argument("name")
@click.option("--reason", "-m", default="", help="Why; kept in the record.")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
def revoke(name: str, reason: str, json_: bool) -> None:
    """End the token of NAME, and every session that began with it, at once."""
    now = SystemClock().now()
    token = tokens.revoke(
        open_database(Home.locate()), name, at=now, actor=f"user:{getpass.getuser()}", reason=reason
    )  # fmt: skip
    if json_:
        output.as_json(token.to_dict(now))
    else:
        click.echo(f"The token of {name} is revoked, and its sessions have ended.")


def _seconds(text: str) -> float:
    try:
        return quantities.seconds(text)
    except ValueError as error:
        raise UsageError(str(error), where="--expires", remedy="Write it as in 90d or 12h.") from error
