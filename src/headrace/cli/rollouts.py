"""`headrace rollouts`"""

from __future__ import annotations

import getpass
import sys
import time
from collections.abc import Callable
from typing import Any

import click

from headrace.cli import output
from headrace.control.rollouts import actions, queries
from headrace.project import wiring
from headrace.project.wiring import Platform
from headrace.quality.analysis.ratio import times
from headrace.store.locks import holder

WATCH_SECONDS = 0.3
_json = click.option("--json", "json_", is_flag=True, help="Print JSON.")
_reason = click.option("--reason", "-m", default="", help="Why; kept in the record.")


@click.group()
def command() -> None:
    """See and steer rollouts."""


@command.command("list")
@click.option("--service", help="Only those of one service.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many, newest first.")
@_json
def list_(service: str | None, limit: int, json_: bool) -> None:
    """Rollouts, newest first."""
    found = queries.list_rollouts(wiring.build().database, service=service, limit=limit)
    if json_:
        output.as_json(found)
        return
    output.table(
        ["rollout", "state", "weight", "to", "model", "since", "message"],
        [
            (
                one["id"], one["state"], f"{one['weight']} %", one["to"]["id"], one["to"]["model"],
                f"{output.ago(one['created_at'])} ago", (one["doing"] or one["message"])[:80],
            )
            for one in found
        ],
        empty="No rollout yet: headrace deploy SERVICE --model URI.",
    )  # fmt: skip


@command.command()
@click.argument("rollout")
@click.option("--watch", "-w", is_flag=True, help="Stay until it has ended; exit code 1 when it is rolled back.")
@_json
def show(rollout: str, watch: bool, json_: bool) -> int:
    """One rollout: where it stands, what was counted, what was judged. With -w live on a terminal."""
    platform = wiring.build()
    if watch:
        return follow(platform, rollout, json_=json_)
    found = queries.rollout_json(platform.database, rollout)
    if json_:
        output.as_json(found)
    else:
        tell(found)
    return 0


@command.command()
@click.argument("rollout")
@_json
def verify(rollout: str, json_: bool) -> int:
    """Compute every stored verdict again from the stored counts; exit code 1 when one comes out otherwise."""
    from headrace.control.rollouts.verification import verify as computed_again

    found = computed_again(wiring.build().database, rollout)
    same = all(one["same"] for one in found)
    if json_:
        output.as_json(found)
        return 0 if same else 1
    for one in found:
        word = click.style("the same", fg="green") if one["same"] else click.style("OTHERWISE", fg="red")
        click.echo(f"{word}  {output.coloured(one['outcome'])} ({one['kind']}, {one['at']}): {one['summary']}")
        if not one["same"] and one["again"]:
            click.echo(f"  now {one['again']['outcome']}: {one['again']['summary']}")
    if not found:
        click.echo("No verdict has moved this rollout yet.")
    return 0 if same else 1


@command.command()
@click.argument("rollout")
@_reason
@_json
def promote(rollout: str, reason: str, json_: bool) -> None:
    """Go on: end a pause, or skip the analysis it waits for."""
    _act(actions.promote, rollout, reason, json_)


@command.command()
@click.argument("rollout")
@_reason
@_json
def pause(rollout: str, reason: str, json_: bool) -> None:
    """Hold the weights where they are; a failed verdict still rolls back."""
    _act(actions.pause, rollout, reason, json_)


@command.command()
@click.argument("rollout")
@_reason
@_json
def abort(rollout: str, reason: str, json_: bool) -> None:
    """Give all traffic back to the revision that served before."""
    _act(actions.abort, rollout, reason, json_)


def _act(action: Callable[..., None], rollout: str, reason: str, json_: bool) -> None:
    platform = wiring.build()
    action(platform.database, rollout, actor=f"user:{getpass.getuser()}", reason=reason, at=platform.clock.now())
    found = queries.rollout_json(platform.database, rollout)
    if json_:
        output.as_json(found)
    else:
        click.echo(f"Rollout {rollout} is {output.coloured(found['state'])}.")
        say_who_acts(platform)


def say_who_acts(platform: Platform) -> None:
    """Tell a person that nothing moves while no server runs."""
    if holder(platform.home.server_lock) is None:
        click.echo("No server runs here: `headrace up` carries it out.")


def follow(platform: Platform, rollout_id: str, *, json_: bool) -> int:
    """Show a rollout until it has ended; exit code 0 when it is healthy, 1 when not. Live on a terminal, else a line
    for each change."""
    if sys.stdout.isatty() and not json_:
        return _follow_live(platform, rollout_id)
    last = ""
    while True:
        found = queries.rollout_json(platform.database, rollout_id)
        line = f"{found['state']} {found['weight']} % {found['doing']}"
        if line != last and not json_:
            click.echo(f"  {output.coloured(found['state'])}  {found['weight']:>3} %  {found['doing']}")
            last = line
        if found["finished_at"]:
            break
        time.sleep(WATCH_SECONDS)
    if json_:
        output.as_json(found)
    elif found["message"]:
        click.echo(f"  {found['message']}")
    return 0 if found["state"] == "Healthy" else 1


def _follow_live(platform: Platform, rollout_id: str) -> int:
    from rich.console import Console

    from headrace.cli import live

    def read() -> tuple[dict[str, Any], list[dict[str, Any]]]:
        windows = queries.windows_json(platform.database, rollout_id, newest=live.WIDTH)
        return queries.rollout_json(platform.database, rollout_id), windows

    found = live.watch(read, Console())
    return 0 if found["state"] == "Healthy" else 1


def tell(found: dict[str, Any]) -> None:
    """Print a rollout for a person."""
    output.pairs(
        {
            "rollout": found["id"],
            "service": found["service"],
            "state": output.coloured(found["state"]),
            "weight": f"{found['weight']} % to {found['to']['id']} ({found['to']['model']})",
            **({"mirrored": f"{found['mirrored']} % of the requests"} if found["mirrored"] else {}),
            **({"model": found["to"]["message"]} if found["to"]["message"] else {}),
            "from": f"{found['from']['id']} ({found['from']['model']})" if found["from"] else "nothing",
            "doing": found["doing"] or "-",
            "why": found["reason"] or "-",
            "message": found["message"] or "-",
        }
    )
    if found["counts"]:
        ratios = _ratios(found["latest_verdict"])
        click.echo()
        output.table(
            ["metric", "new: bad of", "requests", "stable: bad of", "requests", "ratio of rates"],
            [
                (
                    name, arms["canary"]["events"], arms["canary"]["requests"], arms["stable"]["events"],
                    arms["stable"]["requests"], ratios.get(name) or "-",
                )
                for name, arms in found["counts"].items()
            ],
            empty="",
        )  # fmt: skip
    took = {word: found["latency"][arm] for word, arm in (("new", "canary"), ("stable", "stable"))}
    if any(took.values()):
        click.echo()
        output.table(
            ["latency", "requests", "p50", "p90", "p99"],
            [
                (word, one["requests"], *(f"{one[name]:.1f} ms" for name in ("p50", "p90", "p99")))
                for word, one in took.items()
                if one
            ],
            empty="",
        )
    if found["measurements"]:
        click.echo()
        output.table(
            ["measured", "template", "phase", "value", "message"],
            [
                (one["metric"], one["template"], one["phase"], _value(one["value"]), one["message"][:60])
                for one in found["measurements"]
            ],
            empty="",
        )
    for verdict in found["verdicts"]:
        head = f"{output.coloured(verdict['outcome'])} at {verdict['weight']} %"
        click.echo(f"\n{head}: {verdict['summary']}")


def _ratios(verdict: dict[str, Any] | None) -> dict[str, str]:
    """The ratio of both arms' rates by metric, where the newest verdict has one."""
    judged = (verdict or {}).get("evidence", {}).get("metrics", [])
    return {metric["name"]: times(metric["ratio_interval"]) for metric in judged if "ratio_interval" in metric}


def _value(value: Any) -> str:
    return "-" if value is None else value if isinstance(value, str) else f"[{', '.join(value)}]"
