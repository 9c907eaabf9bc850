"""`headrace approvals`: gates that wait for a person."""

from __future__ import annotations

import getpass
import json
from typing import Any

import click

from headrace.cli import output
from headrace.clock import SystemClock
from headrace.errors import UsageError
from headrace.governance import approvals
from headrace.project.wiring import open_database
from headrace.store.home import Home


@click.group()
def command() -> None:
    """See and decide the gates that wait for a person."""


@command.command("list")
@click.option("--all", "everything", is_flag=True, help="Decided gates, too.")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
def list_(everything: bool, json_: bool) -> None:
    """Gates that wait, oldest first."""
    database = open_database(Home.locate())
    gates = [gate.to_dict() for gate in approvals.gates(database, None if everything else "waiting")]
    if json_:
        output.as_json(gates)
        return
    output.table(
        ["gate", "state", "since", "question", "about"],
        [(g["id"], g["state"], output.ago(g["opened_at"]), g["question"], g["subject"]) for g in gates],
        empty="Nothing waits for a person.",
    )


@command.command()
@click.argument("gate")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
def show(gate: str, json_: bool) -> None:
    """One gate: what is asked, the evidence, who decided."""
    found = approvals.gate(open_database(Home.locate()), gate).to_dict()
    if json_:
        output.as_json(found)
        return
    output.pairs(
        {
            "gate": found["id"],
            "state": output.coloured(found["state"]),
            "question": found["question"],
            "about": found["subject"],
            "needs": f"{found['required']} approval(s)",
        }
    )
    for name, value in found["evidence"].items():
        click.echo(f"\n{name}\n{value if isinstance(value, str) else json.dumps(value, indent=2)}")
    for name, wanted in found["parameters"].items():
        click.echo(f"\n{name} ({_asked(name, wanted, found['values'])})")
    for decision in found["decisions"]:
        word = "approved" if decision["approved"] else "rejected"
        why = f": {decision['reason']}" if decision["reason"] else ""
        click.echo(f"\n{output.coloured(word)} by {decision['actor']} at {decision['at']}{why}")


def _asked(name: str, wanted: dict[str, Any], given: dict[str, Any]) -> str:
    """What a gate asks a person for: the value that was given, or how to give one."""
    if name in given:
        return f"given: {json.dumps(given[name])}"
    told = [str(wanted["description"])] if wanted.get("description") else []
    if wanted.get("enum"):
        told.append(f"one of {json.dumps(wanted['enum'])}")
    if "default" in wanted:
        told.append(f"without -p {name}=VALUE: {json.dumps(wanted['default'])}")
    return "; ".join(told) or f"give it with -p {name}=VALUE"


def _decide(gate: str, approve: bool, reason: str, actor: str | None, values: tuple[str, ...], json_: bool) -> None:
    decided = approvals.decide(
        open_database(Home.locate()),
        gate,
        at=SystemClock().now(),
        actor=f"user:{actor or getpass.getuser()}",
        approve=approve,
        reason=reason,
        values=_values(values),
    )
    if json_:
        output.as_json(decided.to_dict())
    else:
        waits = " (more approvals are needed)" if decided.state == "waiting" else ""
        click.echo(f"Gate {gate} is {output.coloured(decided.state)}{waits}.")


@command.command()
@click.argument("gate")
@click.option("--reason", "-m", default="", help="Why; kept in the record.")
@click.option("--actor", help="Who decides (default: you).")
@click.option("-p", "values", multiple=True, metavar="NAME=VALUE", help="A value that the gate asks for.")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
def approve(gate: str, reason: str, actor: str | None, values: tuple[str, ...], json_: bool) -> None:
    """Let the run or rollout behind GATE go on."""
    _decide(gate, True, reason, actor, values, json_)


@command.command()
@click.argument("gate")
@click.option("--reason", "-m", required=True, help="Why; kept in the record.")
@click.option("--actor", help="Who decides (default: you).")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
def reject(gate: str, reason: str, actor: str | None, json_: bool) -> None:
    """Stop the run or rollout behind GATE."""
    _decide(gate, False, reason, actor, (), json_)


def _values(pairs: tuple[str, ...]) -> dict[str, Any]:
    values = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise UsageError(f"-p {pair} is not NAME=VALUE")
        try:
            values[name] = json.loads(text)
        except ValueError:
            values[name] = text
    return values
