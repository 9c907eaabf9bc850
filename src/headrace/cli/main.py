"""The command line. Commands are imported when they are called, so that `--help` is quick."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Mapping
from importlib import import_module

import click

import headrace
from headrace.errors import HeadraceError

# name: (module below headrace.cli, the line in --help)
COMMANDS: Mapping[str, tuple[str, str]] = {
    "init": ("init", "Make a new project, under git, ready to run."),
    "run": ("run", "Run a pipeline and watch it."),
    "check": ("check", "Say what of a pipeline or service cannot run here, before it runs."),
    "runs": ("runs", "See, resume, retry and cancel what ran."),
    "approvals": ("approvals", "See and decide the gates that wait for a person."),
    "deploy": ("deploy", "Start a rollout of a service to a new model."),
    "rollouts": ("rollouts", "See and steer rollouts."),
    "rollback": ("rollback", "Put the previous revision of a service back."),
    "labels": ("labels", "Record what was right, for predictions made before."),
    "lineage": ("lineage", "Show what something came from, and what came of it."),
    "tokens": ("tokens", "Make, list and revoke what people and programs sign in with."),
    "up": ("up", "Start the server: gateway, rollouts, triggers, MLflow."),
    "doctor": ("doctor", "Say what works on this machine, and the remedy for what does not."),
    "demo": ("demo", "See the whole way on real flight data."),
}


class _LazyGroup(click.Group):
    """Knows its commands' names and help lines without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"headrace.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f' Did you mean "{near[0]}"?' if near else ""
            raise click.UsageError(f'no command is called "{args[0]}".{hint}', ctx) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(headrace.__version__, prog_name="headrace")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def cli(debug: bool) -> None:
    """Carry models safely to production and keep them good there.

    Headrace runs KFP v2 pipelines, serves KServe InferenceServices behind Envoy and moves traffic to a new
    model step by step; a bad one is rolled back by itself. State lives in .headrace/ beside headrace.toml
    (HEADRACE_HOME moves it).

    Exit codes: 0 done, 1 failed, 2 wrong usage or document, 3 waiting at a gate.
    """
    if debug:
        os.environ["HEADRACE_DEBUG"] = "1"


def debugging() -> bool:
    """Whether the user asked for tracebacks."""
    return os.environ.get("HEADRACE_DEBUG") == "1"


def main() -> None:
    """The entry point: runs a command and turns errors into a message and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal without UTF-8 shows `?` for ✓; a run does not end over it.
            stream.reconfigure(errors="replace")
    try:
        outcome = cli.main(standalone_mode=False, prog_name="headrace")
        code = outcome if isinstance(outcome, int) else 0
    except click.exceptions.Abort:
        code = 130
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except HeadraceError as error:
        code = _report(error)
    except KeyboardInterrupt:
        code = 130
    except Exception as error:
        if debugging():
            raise
        click.echo(f"error: {type(error).__name__}: {error}", err=True)
        click.echo(f"  {_remedy_of(error)}", err=True)
        code = 1
    sys.exit(code)


def _remedy_of(error: Exception) -> str:
    """What to do about an error that nobody foresaw: a disk that does not take any more is no defect."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS):
        return "Free space on this disk, or set HEADRACE_HOME to a folder on another one."
    return "This is a defect of Headrace. Run again with `headrace --debug …` and report it."


def _report(error: HeadraceError) -> int:
    if debugging():
        import traceback

        traceback.print_exception(error)
    first, *rest = str(error).splitlines() or [""]
    click.echo(f"{click.style('error', fg='red', bold=True)}: {first}", err=True)
    for line in rest:
        click.echo(f"  {line}", err=True)
    return error.exit_code


if __name__ == "__main__":
    main()
