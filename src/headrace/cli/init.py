"""`headrace init`"""

from __future__ import annotations

from pathlib import Path

import click

from headrace.project import load
from headrace.project.scaffold import create as scaffold
from headrace.project.scaffold.remote import create_remote
from headrace.store.home import PROJECT_FILE, Home


@click.command()
@click.argument("directory", default=".", type=click.Path(path_type=Path))
@click.option(
    "--template", type=click.Choice(scaffold.TEMPLATES), default="blank", show_default=True, help="What to start with."
)
@click.option("--remote", type=click.Path(path_type=Path), help="Make a bare repository there whose pushes start runs.")
def command(directory: Path, template: str, remote: Path | None) -> None:
    """Make a new project in DIRECTORY, under git, ready to run.

    For a project that exists already, --remote adds the repository whose pushes start runs.
    """
    existing = (directory / PROJECT_FILE).is_file()
    if existing and remote is not None:
        load.load(directory)
    else:
        scaffold.create(directory, template)
        scaffold.commit_all(directory, "Start the project")
        click.echo(f"Made {directory.resolve()} from the template {template}.")
    if remote is not None:
        bare = create_remote(remote, directory.resolve(), Home.locate(directory))
        click.echo(f"Made {bare}: `git push origin main` starts the pipelines that watch what changed.")
    project = load.load(directory)
    first = next(iter(project.file.pipelines), None)
    click.echo("Next:")
    if directory.resolve() != Path.cwd():
        click.echo(f"  cd {directory}")
    if first:
        click.echo(f"  headrace run {first}")
    click.echo("  headrace up")
