"""How the command line prints: JSON for programs, tables for people."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import click

from headrace.clock import lasting
from headrace.server.json_text import json_text

_COLOURS = {
    "SUCCEEDED": "green", "Healthy": "green", "approved": "green", "passed": "green", "ready": "green", "ok": "green",
    "FAILED": "red", "Degraded": "red", "rejected": "red", "failed": "red", "missing": "red",
    "PAUSED": "yellow", "Paused": "yellow", "waiting": "yellow", "inconclusive": "yellow", "Aborted": "yellow",
    "RUNNING": "cyan", "Progressing": "cyan", "starting": "cyan",
}  # fmt: skip


def as_json(value: object) -> None:
    """Print one JSON document and nothing else."""
    click.echo(json_text(value, indent=2))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
    """Print rows under headings, each column as wide as it needs; `empty` when there are none."""
    lines = [[str(cell) for cell in row] for row in rows]
    if not lines:
        click.echo(empty)
        return
    widths = [max(len(line[i]) for line in [list(columns), *lines]) for i in range(len(columns) - 1)] + [0]
    click.secho("  ".join(c.upper().ljust(w) for c, w in zip(columns, widths, strict=True)).rstrip(), dim=True)
    for line in lines:
        cells = [coloured(cell, cell.ljust(width)) for cell, width in zip(line, widths, strict=True)]
        click.echo("  ".join(cells).rstrip())


def coloured(word: str, text: str | None = None) -> str:
    """A state word in its colour."""
    return click.style(text or word, fg=_COLOURS.get(word))


def pairs(values: Mapping[str, Any]) -> None:
    """Print names and values, aligned."""
    width = max((len(name) for name in values), default=0)
    for name, value in values.items():
        click.echo(f"{click.style(name.ljust(width), dim=True)}  {value}")


def ago(moment: str | None, now: float | None = None) -> str:
    """How long ago an RFC 3339 time was: `12 s`, `5 min 3 s`, `3 h`, `2 d 4 h`; "" for None."""
    if not moment:
        return ""
    return lasting((time.time() if now is None else now) - datetime.fromisoformat(moment).timestamp())


def span(start: str | None, end: str | None) -> str:
    """The time between two RFC 3339 moments, up to now when there is no end; "" without a start."""
    if not start:
        return ""
    finish = datetime.fromisoformat(end).timestamp() if end else time.time()
    return lasting(finish - datetime.fromisoformat(start).timestamp())
