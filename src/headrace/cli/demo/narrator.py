"""How the demo speaks: numbered acts, the commands that it types, what it has seen, one live line while it waits."""

from __future__ import annotations

import shutil
import sys
import time

import click

from headrace.clock import lasting


class Narrator:
    """Prints to the terminal; `quiet` prints nothing."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.live = sys.stdout.isatty() and not quiet
        self.started = time.monotonic()

    def act(self, number: int, title: str) -> None:
        """A heading."""
        self._say("")
        self._say(click.style(f"{number}  {title}", bold=True))

    def command(self, text: str) -> None:
        """A command line that is run now."""
        self._say(f"   {click.style('$ ' + text, fg='cyan')}")

    def saw(self, text: str, *, held: bool = True) -> None:
        """Something that was checked."""
        sign = click.style("✓", fg="green") if held else click.style("✗", fg="red", bold=True)
        self._say(f"   {sign} {text}")

    def note(self, text: str) -> None:
        """Something to know."""
        for line in text.splitlines():
            self._say(f"     {click.style(line, dim=True)}")

    def waiting(self, text: str) -> None:
        """The live line: what is waited for. Only on a terminal."""
        if self.live:
            width = shutil.get_terminal_size().columns
            elapsed = lasting(time.monotonic() - self.started)
            click.secho(f"\r\x1b[2K   … {text} · {elapsed}"[: width + 5], nl=False, dim=True)

    def clear(self) -> None:
        """Take the live line away."""
        if self.live:
            click.echo("\r\x1b[2K", nl=False)

    def _say(self, line: str) -> None:
        if not self.quiet:
            self.clear()
            click.echo(line)
