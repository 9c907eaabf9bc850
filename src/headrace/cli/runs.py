"""`headrace runs`"""

from __future__ import annotations

import getpass
import time
from pathlib import Path

import click

from headrace.cli import follow, output
from headrace.cli.main import debugging
from headrace.cli.run import parameters
from headrace.contracts import pipeline_spec
from headrace.errors import UsageError
from headrace.project import load, wiring
from headrace.runs import browse, queries, transitions
from headrace.runs.abandoned import requeue_abandoned
from headrace.runs.browse import Wanted
from headrace.runs.logs import LogReader
from headrace.runs.rerun import rerun

_STATES = click.Choice(["PENDING", "RUNNING", "PAUSED", "SUCCEEDED", "FAILED", "CANCELING", "CANCELED"])
_json = click.option("--json", "json_", is_flag=True, help="Print JSON.")
FOLLOW_SECONDS = 0.2


@click.group()
def command() -> None:
    """See, resume, retry, rerun and cancel what ran. A run's id may be shortened."""


@command.command("list")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many, newest first.")
@click.option("--state", type=_STATES, help="Only these.")
@_json
def list_(limit: int, state: str | None, json_: bool) -> None:
    """Runs, newest first."""
    runs = browse.newest(_platform().database, Wanted(state=state or ""), limit=limit).runs
    if json_:
        output.as_json(runs)
        return
    output.table(
        ["run", "pipeline", "state", "started", "took", "why"],
        [
            (
                run["run_id"], run["pipeline"], run["state"], f"{output.ago(run['created_at'])} ago", _took(run),
                run["reason"][:60],
            )
            for run in runs
        ],
        empty=f"No run is {state}." if state else "Nothing has run yet: headrace run PIPELINE.",
    )  # fmt: skip


@command.command()
@click.argument("run")
@_json
def show(run: str, json_: bool) -> None:
    """One run: its tasks, their states and times, its outputs."""
    found = queries.run_json(_platform().database, run)
    if json_:
        output.as_json(found)
        return
    output.pairs(
        {
            "run": found["run_id"],
            "pipeline": found["pipeline"],
            "state": output.coloured(found["state"]),
            "why": found["reason"],
            "by": found["actor"],
            "commit": found["commit"] or "none",
            "took": _took(found),
        }
    )
    click.echo()
    output.table(
        ["task", "state", "took", "attempts"],
        [
            (
                task["task_id"], task["state"],
                "from cache" if task["cached"] else output.span(task["start_time"], task["end_time"]), task["attempts"],
            )
            for task in found["run_details"]["task_details"]
        ],
        empty="No task has started.",
    )  # fmt: skip
    if found["error"]:
        click.echo(f"\n{output.coloured('failed', 'error')}: {found['error']['message']}")


@command.command()
@click.argument("run")
@click.argument("task", required=False)
@click.option("-f", "--follow", "follow_", is_flag=True, help="Go on until the run ends.")
@_json
def logs(run: str, task: str | None, follow_: bool, json_: bool) -> None:
    """What the tasks of RUN printed; of TASK only, when it is given."""
    if follow_ and json_:
        raise UsageError("--follow and --json do not go together", remedy="Leave one of them out.")
    platform = wiring.build()
    run_id = queries.find(platform.database, run)["id"]
    if json_:
        found = queries.attempts(platform.database, platform.home, run_id, task)
        output.as_json([{"task_id": path, "attempt": n, "file": log, "text": _text(log)} for path, n, log in found])
        return
    if not follow_:
        queries.attempts(platform.database, platform.home, run_id, task)
    reader = LogReader(platform.database, platform.home, run_id, task)
    while True:
        pieces, ended = reader.read()
        for is_title, text in reader.titled(pieces):
            click.secho(text, dim=is_title, nl=False)
        if ended or (not follow_ and not pieces):
            return
        if follow_:
            time.sleep(FOLLOW_SECONDS)


@command.command()
@click.argument("run")
@_json
def resume(run: str, json_: bool) -> int:
    """Go on with a run whose process died, or that waited at a gate, and watch it."""
    platform = wiring.build()
    run_id = queries.find(platform.database, run)["id"]
    follow.watch(platform, run_id, quiet=json_)
    return follow.report(platform, run_id, json_=json_)


@command.command()
@click.argument("run")
@click.option("--reason", "-m", default="", help="Why; kept in the record.")
@_json
def retry(run: str, reason: str, json_: bool) -> int:
    """Run the failed tasks of a run again, and what comes after them; what succeeded stays."""
    platform = wiring.build()
    run_id = queries.find(platform.database, run)["id"]
    transitions.retry_run(
        platform.database, run_id, actor=f"user:{getpass.getuser()}", reason=reason, at=platform.clock.now()
    )
    follow.watch(platform, run_id, quiet=json_)
    return follow.report(platform, run_id, json_=json_)


@command.command("rerun")
@click.argument("run")
@click.option("--from", "begin", multiple=True, metavar="TASK", help="Run TASK again, and all that comes after it.")
@click.option("-p", "values", multiple=True, metavar="NAME=VALUE", help="A parameter that differs from RUN's.")
@click.option("--code", metavar="PIPELINE", help="Other code: what `headrace run` takes; else that of RUN.")
@click.option("--reason", "-m", default="", help="Why; kept in the record.")
@_json
def rerun_(
    run: str, begin: tuple[str, ...], values: tuple[str, ...], code: str | None, reason: str, json_: bool
) -> int:
    """Start a new run that keeps what RUN has done, as far as it holds.

    What had not succeeded runs again, with all that comes after it. So do tasks whose inputs differ now.
    """
    platform = _platform()
    source = load.pipeline_source(platform.project, code, show_traceback=debugging()) if code else None
    root = platform.project.root if platform.project else None
    run_id = rerun(
        platform.database, platform.home, run, begin=begin, parameters=parameters(values), reason=reason,
        document=pipeline_spec.parse(source.text, source.file) if source else None,
        commit=load.commit_of(root) if source and root else None,
        actor=f"user:{getpass.getuser()}", at=platform.clock.now(),
    )  # fmt: skip
    if not json_:
        click.echo(f"Run {run_id} goes on from {queries.find(platform.database, run)['id']}")
    follow.watch(platform, run_id, quiet=json_)
    return follow.report(platform, run_id, json_=json_)


@command.command()
@click.argument("run")
@click.option("--reason", "-m", default="", help="Why; kept in the record.")
@_json
def cancel(run: str, reason: str, json_: bool) -> None:
    """Stop a run and every process of it."""
    platform = wiring.build()
    run_id = queries.find(platform.database, run)["id"]
    transitions.request_cancel(
        platform.database, run_id, actor=f"user:{getpass.getuser()}", reason=reason, at=platform.clock.now()
    )
    # Whoever drives the run stops it; where nobody does, this process ends it.
    state = follow.watch(platform, run_id, quiet=True)
    if json_:
        output.as_json(queries.run_json(platform.database, run_id))
    else:
        click.echo(f"Run {run_id} is {output.coloured(state)}.")


def _platform() -> wiring.Platform:
    """The platform, on which no run says that it runs while nothing of it does."""
    platform = wiring.build()
    requeue_abandoned(platform.database, platform.home, platform.clock.now())
    return platform


def _took(run: dict[str, str | None]) -> str:
    return output.span(run["started_at"], run["finished_at"])


def _text(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
