"""`headrace check`"""

from __future__ import annotations

from dataclasses import asdict

import click

from headrace.cli import output
from headrace.cli.main import debugging
from headrace.contracts import pipeline_spec
from headrace.contracts.inference_service import InferenceService
from headrace.project import load
from headrace.runs.gaps import Gap, gaps

_CANNOT, _DIFFERENT = "cannot run", "runs, differently"


@click.command()
@click.argument("pipeline")
@click.option("--engine", type=click.Choice(["embedded"]), default="embedded", help="Where it is to run.")
@click.option("--run-on-host", is_flag=True, help="As `headrace run --run-on-host` would run it.")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
def command(pipeline: str, engine: str, run_on_host: bool, json_: bool) -> int:
    """Say what an engine cannot do for PIPELINE, or does differently, each with its remedy.

    PIPELINE is a name in headrace.toml, file.py[:function] or a compiled .yaml; or a service there, or the .yaml of an
    InferenceService. Nothing runs. Exit code: 0 it can run, 1 it cannot, 2 wrong usage or document.
    """
    project = load.find()
    service = load.service_source(project, pipeline)
    if service is not None:
        return _service(service, json_)
    source = load.pipeline_source(project, pipeline, show_traceback=debugging())
    document = pipeline_spec.parse(source.text, source.file)
    found = gaps(document, run_on_host=run_on_host)
    if json_:
        output.as_json([asdict(gap) for gap in found])
    else:
        _tell(document.name, engine, found)
    return int(any(gap.fatal for gap in found))


def _service(service: InferenceService, json_: bool) -> int:
    """List the fields of a service that are left unused; one that would change its answers was refused already."""
    unused = [*service.unused, *(service.canary.unused if service.canary else ())]
    if json_:
        output.as_json([asdict(one) for one in unused])
    elif not unused:
        click.echo(f"{service.name}: the embedded engine carries all of it out.")
    for one in () if json_ else unused:
        click.echo(f"not used: {one.field}" + (f" (line {one.line})" if one.line else "") + f"\n    {one.why}")
    return 0


def _tell(name: str, engine: str, found: list[Gap]) -> None:
    if not found:
        click.echo(f"{name}: the {engine} engine runs all of it.")
        return
    for gap in sorted(found, key=lambda gap: not gap.fatal):
        click.echo(f"{_CANNOT if gap.fatal else _DIFFERENT}: {gap}\n    {gap.remedy}")
