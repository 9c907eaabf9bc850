"""What kfp.local prints of a run: each task with its output, its end and what it gave."""

from __future__ import annotations

import logging
import textwrap
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from headrace.local.outputs import task_name

INDENT = "    "


class Terminal:
    """Prints tasks in the words of kfp.local. One at a time is followed while it runs, the others when they end."""

    def __init__(self) -> None:
        self._announced: set[str] = set()
        self._followed = ""
        self._read: Counter[Path] = Counter()

    def running(self, task: Mapping[str, Any], logs: list[Path]) -> None:
        """Print what a task has written since, if it is the one that is followed."""
        self._followed = self._followed or task["path"]
        if self._followed == task["path"]:
            self._announce(task)
            self._stream(logs, ended=False)

    def ended(self, task: Mapping[str, Any], logs: list[Path], outputs: Mapping[str, Any]) -> None:
        """Print the rest of it."""
        from kfp.local import logging_utils, status

        if self._followed == task["path"]:
            self._followed = ""
        name = logging_utils.format_task_name(task_name(task))
        if not task["cached"]:
            self._announce(task)
            self._stream(logs, ended=True)
        done = task["state"] == "SUCCEEDED"
        if not done and not any(task["message"] in _text(log) for log in logs):
            click.echo(textwrap.indent(task["message"], INDENT) + "\n")
        outcome = logging_utils.format_status(status.Status.SUCCESS if done else status.Status.FAILURE)
        told = f"Task {name} {'is a cache hit' if task['cached'] else f'finished with status {outcome}'}"
        say(told, logging.INFO if done else logging.ERROR)
        if done and outputs:
            say("\n".join([f"Task {name} outputs:", *logging_utils.make_log_lines_for_outputs(outputs)]))
        elif done:
            say(f"Task {name} has no outputs")
        line()

    def _announce(self, task: Mapping[str, Any]) -> None:
        from kfp.local import logging_utils

        if task["path"] not in self._announced:
            self._announced.add(task["path"])
            say(f"Executing task {logging_utils.format_task_name(task_name(task))}")
            say("Streamed logs:\n")

    def _stream(self, logs: list[Path], *, ended: bool) -> None:
        """Print what is new in the logs of all attempts, in whole lines."""
        for log in logs:
            if not log.exists():
                continue
            with log.open("rb") as stream:
                stream.seek(self._read[log])
                new = stream.read()
            if not ended:
                new = new[: new.rfind(b"\n") + 1]
            self._read[log] += len(new)
            click.echo(textwrap.indent(new.decode(errors="replace"), INDENT), nl=False)
        if ended:
            click.echo()


def _text(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""


def say(text: str, level: int = logging.INFO) -> None:
    """Log to stdout as kfp.local does."""
    from kfp.local import logging_utils

    with logging_utils.local_logger_context():
        logging.log(level, text)


def line() -> None:
    """What kfp.local prints between tasks."""
    from kfp.local import logging_utils

    logging_utils.print_horizontal_line()
