"""Show what a run does while it does it."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import time
from collections.abc import Callable
from typing import Any

import click

from headrace.cli import output
from headrace.clock import lasting
from headrace.governance import approvals
from headrace.project.wiring import Platform
from headrace.runs import queries
from headrace.store.locks import holder

POLL_SECONDS = 0.1
LOG_LINES = 15
# By how much the machine's clock may be put back without a task being missed.
CLOCK_STEP_SECONDS = 60.0
_SIGNS = {"SUCCEEDED": "✓", "FAILED": "✗", "CANCELED": "-", "PAUSED": "?"}
_FINAL = ("SUCCEEDED", "FAILED", "CANCELED")


class Progress:
    """Prints each task once when it ends; on a terminal the last line tells what runs now.

    A task of a loop has one line for all its iterations, as `loop/*/task`, once something after it ends; what fails in
    one has a line of its own.
    """

    def __init__(self, platform: Platform, run_id: str, *, quiet: bool) -> None:
        self.platform = platform
        self.run_id = run_id
        self.quiet = quiet
        self.live = sys.stdout.isatty() and not quiet
        self._shown: dict[str, str] = {}
        # When the last of the tasks that were read had ended, in unix seconds: earlier ones need not be read again.
        self._ended = 0.0
        self._folded: dict[str, list[dict[str, Any]]] = {}

    def update(self) -> None:
        """Print what is new."""
        if self.quiet:
            return
        rows = self.platform.database.query(
            "SELECT path, display_name, state, cached, started_at, finished_at FROM task WHERE run_id = ?"
            " AND (state IN ('RUNNING', 'PAUSED') OR finished_at >= ?)"
            " ORDER BY coalesce(finished_at, 1e12), started_at",
            (self.run_id, self._ended - CLOCK_STEP_SECONDS),
        )
        self._clear()
        for row in rows:
            self._ended = max(self._ended, row["finished_at"] or 0.0)
            if row["state"] in _SIGNS and self._shown.get(row["path"]) != row["state"]:
                self._shown[row["path"]] = row["state"]
                self._show(dict(row))
        if self.live:
            self._status([dict(row) for row in rows if row["state"] == "RUNNING"])

    def finish(self) -> None:
        """Print what is left to print, and leave the terminal clean."""
        self.update()
        self.close()
        self._unfold()

    def close(self) -> None:
        """Leave the terminal clean."""
        self._clear()

    def _show(self, row: dict[str, Any]) -> None:
        folded = _folded(row["path"])
        if folded != row["path"] and row["state"] == "SUCCEEDED":
            self._folded.setdefault(folded, []).append(row)
            return
        self._unfold(before=row["started_at"])
        click.echo(_line(row))

    def _unfold(self, before: float | None = None) -> None:
        """Print the loops' lines; only of those that had ended before a moment."""
        for path, rows in list(self._folded.items()):
            if before is None or max(row["finished_at"] for row in rows) <= before:
                click.echo(_loop_line(path, self._folded.pop(path)))

    def _status(self, running: list[dict[str, Any]]) -> None:
        now = time.time()
        since: dict[str, float] = {}
        for row in running:
            since.setdefault(_folded(row["path"]), row["started_at"])
        doing = [f"{path.rpartition('/')[2]}{self._done(path)} {lasting(now - t)}" for path, t in since.items()]
        width = shutil.get_terminal_size().columns
        if doing:
            click.secho(f"  … {', '.join(doing)}"[: width - 1], nl=False, dim=True)

    def _done(self, path: str) -> str:
        done = len(self._folded.get(path, ()))
        return f" ({done} done)" if done else ""

    def _clear(self) -> None:
        if self.live:
            click.echo("\r\x1b[2K", nl=False)


def _folded(path: str) -> str:
    """A task's path with `*` for the numbers of iterations."""
    return "/".join("*" if part.isdecimal() else part for part in path.split("/"))


def _line(row: dict[str, Any]) -> str:
    if row["state"] == "PAUSED":
        took = "waits for a person"
    elif row["cached"]:
        took = "from cache"
    elif row["started_at"] is None:
        took = "not started"
    else:
        took = lasting(row["finished_at"] - row["started_at"])
    return _told(row["path"], row, took)


def _loop_line(path: str, rows: list[dict[str, Any]]) -> str:
    cached = sum(row["cached"] for row in rows)
    took = lasting(max(row["finished_at"] for row in rows) - min(row["started_at"] for row in rows))
    return _told(path, rows[0], f"{len(rows)} times, {took}" + (f", {cached} from cache" if cached else ""))


def _told(path: str, row: dict[str, Any], took: str) -> str:
    called = path if row["display_name"] == path.rpartition("/")[2] else f"{path} ({row['display_name']})"
    return f"  {output.coloured(row['state'], _SIGNS[row['state']])} {called:<50} {took}".rstrip()


def watch(platform: Platform, run_id: str, *, quiet: bool, interrupted: Callable[[], bool] = lambda: False) -> str:
    """Drive a run here, or follow whoever drives it, until it ends or waits; returns its state.

    `interrupted`: whether to stop as at Ctrl-C, which only a program's first thread is told of.
    """
    progress = Progress(platform, run_id, quiet=quiet)
    try:
        asyncio.run(_watch(platform, run_id, progress, interrupted))
    except KeyboardInterrupt:
        progress.close()
        served = holder(platform.home.server_lock) is not None
        onward = "the server goes on with it" if served else f"headrace runs resume {run_id} goes on with it"
        click.echo(f"\nRun {run_id} is not finished: {onward}, headrace runs cancel {run_id} ends it.", err=True)
        raise
    finally:
        progress.close()
    progress.finish()
    return _state(platform, run_id)


async def _watch(platform: Platform, run_id: str, progress: Progress, interrupted: Callable[[], bool]) -> None:
    while True:
        if holder(platform.home.server_lock) is None:
            # Comes back at once when another process drives it.
            await _drive(platform, run_id, progress, interrupted)
        if _rests(platform, run_id):
            return
        if interrupted():
            raise KeyboardInterrupt
        progress.update()
        await asyncio.sleep(POLL_SECONDS)


async def _drive(platform: Platform, run_id: str, progress: Progress, interrupted: Callable[[], bool]) -> None:
    work = asyncio.create_task(platform.engine().drive(run_id))
    while not work.done():
        if interrupted():
            raise KeyboardInterrupt
        progress.update()
        await asyncio.wait([work], timeout=POLL_SECONDS)
    await work


def _rests(platform: Platform, run_id: str) -> bool:
    """Whether a run is finished, or waits for a person who has not decided yet."""
    state = _state(platform, run_id)
    if state != "PAUSED":
        return state in _FINAL
    paused = platform.database.query("SELECT path FROM task WHERE run_id = ? AND state = 'PAUSED'", (run_id,))
    gates = [approvals.gate_of(platform.database, f"run/{run_id}/task/{row['path']}") for row in paused]
    return all(gate is None or gate.state == "waiting" for gate in gates)


def _state(platform: Platform, run_id: str) -> str:
    return str(queries.find(platform.database, run_id)["state"])


def report(platform: Platform, run_id: str, *, json_: bool) -> int:
    """Say how a run stands, and the exit code for it: 0 succeeded, 1 failed, 3 waiting at a gate."""
    run = queries.run_json(platform.database, run_id)
    if json_:
        output.as_json(run)
    else:
        _tell(platform, run)
    return {"SUCCEEDED": 0, "PAUSED": 3}.get(run["state"], 1)


def _tell(platform: Platform, run: dict[str, Any]) -> None:
    click.echo(f"Run {run['run_id']} {output.coloured(run['state'])}")
    if run["state"] == "PAUSED":
        for gate in approvals.gates(platform.database, "waiting"):
            if gate.subject.startswith(f"run/{run['run_id']}/"):
                click.echo(f"It waits at gate {gate.id}: {gate.question}")
                for name, value in gate.evidence.items():
                    click.echo(f"  {name}: {value if isinstance(value, str) else json.dumps(value)}")
                click.echo(f"Then: headrace approvals approve {gate.id} && headrace runs resume {run['run_id']}")
    for name, value in run["outputs"].items():
        click.echo(f"  {name} = {json.dumps(value)}")
    if run["error"]:
        for task in run["run_details"]["task_details"]:
            if task["state"] == "FAILED":
                _tell_failure(platform, run["run_id"], task)


def _tell_failure(platform: Platform, run_id: str, task: dict[str, Any]) -> None:
    click.echo(f"\n{output.coloured('failed', task['task_id'])}: {task['error']['message']}")
    attempts = queries.attempts(platform.database, platform.home, run_id)
    logs = [path for name, _, path in attempts if name == task["task_id"]]
    if not logs or not logs[-1].exists():
        return
    lines = logs[-1].read_text(encoding="utf-8", errors="replace").splitlines()
    if lines:
        click.secho(f"  the end of its log ({logs[-1]}):", dim=True)
    for line in lines[-LOG_LINES:]:
        click.echo(f"  │ {line}")
