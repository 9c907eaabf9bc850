"""`headrace demo`"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import click

from headrace.errors import UsageError


@click.command()
@click.option("--keep", is_flag=True, help="Leave the project and the server up for a look.")
@click.option("--directory", type=click.Path(path_type=Path), help="Where to make the project (default: a new folder).")
@click.option(
    "--report", type=click.Path(path_type=Path, dir_okay=False), default=Path("report.html"), show_default=True,
    help="Where to write the report.",
)  # fmt: skip
@click.option("--json", "json_", is_flag=True, help="Print the report as JSON, and nothing else.")
def command(keep: bool, directory: Path | None, report: Path, json_: bool) -> int:
    """See the whole way on real flight data, in about four minutes.

    New months are pushed, a pipeline validates, trains and judges, a canary takes live traffic behind Envoy step by
    step, two bad models are rolled back by themselves, and a corrupted month is stopped. Exit code 0 only if all of
    that was seen to happen.
    """
    from headrace.cli import output
    from headrace.cli.demo.narrator import Narrator
    from headrace.cli.demo.report import html, tell
    from headrace.cli.demo.stage import Stage
    from headrace.cli.demo.story import Story

    folder = _new_folder(directory)
    _require_writable(report)
    narrator = Narrator(quiet=json_)
    stage = Stage(folder, narrator)
    story = Story(stage, narrator)
    held = False
    try:
        story.tell()
        told = story.report()
        report.write_text(html(told), encoding="utf-8")
        held = told.held
        if json_:
            output.as_json(told.to_dict())
        else:
            tell(told, report.resolve())
    finally:
        narrator.clear()
        if not (keep and stage.is_up()):
            stage.close()
        if keep:
            stage.tell_addresses()
        elif held and directory is None:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            narrator.note(f"The project is left in {folder}.")
    return 0 if held else 1


def _new_folder(directory: Path | None) -> Path:
    if directory is None:
        return Path(tempfile.mkdtemp(prefix="headrace-demo-"))
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UsageError("is not an empty folder", where=str(directory), remedy="Give a new one with --directory.")
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"cannot be made: {error.strerror}", where=str(directory), remedy="Give another one with --directory."
        ) from error
    return directory.resolve()


def _require_writable(report: Path) -> None:
    """Better now than after four minutes."""
    try:
        with report.open("a", encoding="utf-8"):
            pass
    except OSError as error:
        raise UsageError(
            f"the report cannot be written: {error.strerror}", where=str(report), remedy="Give another --report FILE."
        ) from error
