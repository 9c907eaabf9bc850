"""Write docs/cli.md from the commands' own help: `python scripts/make_cli_reference.py docs/cli.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from headrace.cli.main import cli

HEAD = """\
# The command line

Made from `--help` by `make docs`. Exit codes: 0 done, 1 failed, 2 wrong usage or document, 3 waiting at a gate.
"""
WIDTH = 100


def reference() -> str:
    """The whole page."""
    return HEAD + "".join(
        _sections(cli, click.Context(cli, info_name="headrace", terminal_width=WIDTH, **cli.context_settings))
    )


def _sections(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f"\n## {context.command_path}\n\n```\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _sections(
                inner, click.Context(inner, parent=context, info_name=name, terminal_width=WIDTH)
            )  # fmt: skip


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference(), encoding="utf-8")
