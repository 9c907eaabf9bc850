"""`headrace run`"""

from __future__ import annotations

import getpass
from typing import Any

import click

from headrace.cli import follow
from headrace.cli.main import debugging
from headrace.contracts import pipeline_spec
from headrace.errors import UsageError
from headrace.project import load, wiring
from headrace.runs.model import RunOptions
from headrace.runs.submit import create_run


@click.command()
@click.argument("pipeline")
@click.option("-p", "values", multiple=True, metavar="NAME=VALUE", help="A parameter (lists as JSON), or an artifact.")
@click.option("-e", "environment", help="The environment in headrace.toml (default: dev).")
@click.option("--json", "json_", is_flag=True, help="Print the run as JSON, and nothing else.")
@click.option("--no-cache", is_flag=True, help="Run every task, also those that ran before with the same inputs.")
@click.option("--run-on-host", is_flag=True, help="Run the commands of container components without a container.")
@click.option("--oss-parity", is_flag=True, help="Depart from KFP's specification where its open source backend does.")
def command(
    pipeline: str,
    values: tuple[str, ...],
    environment: str | None,
    json_: bool,
    no_cache: bool,
    run_on_host: bool,
    oss_parity: bool,
) -> int:
    """Run PIPELINE and watch it: a name in headrace.toml, file.py[:function] or a compiled .yaml.

    Exit code: 0 succeeded, 1 failed, 2 wrong usage or document, 3 waiting at a gate.
    """
    platform = wiring.build(environment=environment)
    source = load.pipeline_source(platform.project, pipeline, show_traceback=debugging())
    root = platform.project.root if platform.project else None
    platform.registry.check()
    run_id = create_run(
        platform.database,
        pipeline_spec.parse(source.text, source.file),
        pipeline=source.name,
        parameters={**source.parameters, **parameters(values)},
        environment=platform.environment.name,
        actor=f"user:{getpass.getuser()}",
        at=platform.clock.now(),
        reason="headrace run",
        source_dir=str(root) if root else "",
        commit=load.commit_of(root) if root else "",
        caching=not no_cache,
        options=RunOptions(run_on_host=run_on_host, oss_parity=oss_parity),
    )
    if not json_:
        click.echo(f"Run {run_id} of {source.name}")
    follow.watch(platform, run_id, quiet=json_)
    return follow.report(platform, run_id, json_=json_)


def parameters(pairs: tuple[str, ...]) -> dict[str, Any]:
    """`NAME=VALUE` pairs as a mapping; the pipeline's types say what a value is. Raises UsageError."""
    values = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"-p {pair} is not NAME=VALUE", remedy="As in: -p threshold=0.7")
        values[name] = text
    return values
