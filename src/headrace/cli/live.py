"""A rollout while it goes on, on a terminal: weights, counts, evidence against its limit, what the verdict says."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from rich.bar import Bar
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from headrace.quality.analysis.ratio import times

SECONDS = 0.5
WIDTH = 32
_LEVELS = "▁▂▃▄▅▆▇█"
_COLOURS = {"Healthy": "green", "Degraded": "red", "Progressing": "cyan", "Paused": "yellow", "Aborted": "yellow"}


def watch(
    read: Callable[[], tuple[dict[str, Any], list[dict[str, Any]]]], console: Console, seconds: float = SECONDS
) -> dict[str, Any]:
    """Show what `read` gives (a rollout, its windows) until it has ended; the last of it."""
    with Live(console=console, auto_refresh=False, transient=False) as live:
        while True:
            found, windows = read()
            live.update(view(found, windows), refresh=True)
            if found["finished_at"]:
                return found
            time.sleep(seconds)


def view(found: dict[str, Any], windows: Sequence[dict[str, Any]]) -> Group:
    """One moment of a rollout as something to print."""
    head = Text.assemble(
        (found["id"], "bold"), "  ", (found["state"], _COLOURS.get(found["state"], "")), "  ",
        f"step {min(found['step'] + 1, found['step_count'])} of {found['step_count']}  " if found["step_count"] else "",
        found["doing"],
    )  # fmt: skip
    verdict = found["latest_verdict"] or {}
    said = found["message"] or verdict.get("summary", "")
    word = verdict.get("outcome", "") if not found["message"] else ""
    end = Text(f"{word}: {said}" if word else said, style=_said_colour(found, word))
    return Group(head, _weights(found), _metrics(found, windows), end)


def sparkline(values: Sequence[float], width: int = WIDTH) -> str:
    """The last values as a line of blocks, the lowest and the highest of them its bottom and top."""
    shown = [value for value in values[-width:] if math.isfinite(value)]
    if not shown:
        return ""
    low, high = min(shown), max(shown)
    span = (high - low) or 1.0
    return "".join(_LEVELS[round((value - low) / span * (len(_LEVELS) - 1))] for value in shown)


def _weights(found: dict[str, Any]) -> Table:
    table = Table.grid(padding=(0, 1))
    arms = [("stable", found["from"], 100 - found["weight"], "green"), ("new", found["to"], found["weight"], "cyan")]
    for name, revision, weight, colour in arms:
        if revision is not None:
            bar = Bar(100, 0, weight, width=WIDTH, color=colour)
            share = f"copies of {found['mirrored']} %" if name == "new" and found["mirrored"] else f"{weight} %"
            table.add_row(name, revision["id"], bar, share, Text(revision["model"], style="dim"))
    return table


def _metrics(found: dict[str, Any], windows: Sequence[dict[str, Any]]) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="dim", title_justify="left")
    for column in ("metric", "new: bad of", "stable: bad of", "ratio of rates", "evidence", "limit", "over time"):
        table.add_column(column)
    for name, arms in found["counts"].items():
        seen = [window for window in windows if window["metric"] == name]
        limit = seen[-1]["limit"] if seen else None
        # The evidence multiplies, so its logarithm is what moves evenly.
        values = [math.log(max(window["e_value"], 1e-6)) for window in seen] if limit else _rates(seen)
        table.add_row(
            name, _arm(arms["canary"]), _arm(arms["stable"]),
            (times(seen[-1]["ratio_interval"]) if limit else "") or "-",
            f"{seen[-1]['e_value']:.3g}" if limit else "-", f"{limit:.3g}" if limit else "-", sparkline(values),
        )  # fmt: skip
    for name, measured in _measured(found).items():
        good = sum(one["phase"] == "Successful" for one in measured)
        table.add_row(name, f"{good} of {len(measured)} good", "-", "-", "-", "-", sparkline(_values(measured)))
    return table


def _arm(arm: dict[str, Any]) -> str:
    return f"{arm['events']} of {arm['requests']}"


def _rates(windows: Sequence[dict[str, Any]]) -> list[float]:
    arms = [window["canary"] for window in windows]
    return [arm["events"] / arm["requests"] for arm in arms if arm["requests"]]


def _measured(found: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    measured: dict[str, list[dict[str, Any]]] = {}
    for one in found["measurements"]:
        measured.setdefault(one["metric"], []).append(one)
    return measured


def _values(measured: Sequence[dict[str, Any]]) -> list[float]:
    first = [one["value"] if isinstance(one["value"], str) else (one["value"] or ["nan"])[0] for one in measured]
    return [float(value) for value in first]


def _said_colour(found: dict[str, Any], word: str) -> str:
    if found["state"] == "Degraded" or word == "failed":
        return "red"
    return "green" if word == "passed" else ""
