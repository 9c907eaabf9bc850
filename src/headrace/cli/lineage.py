"""`headrace lineage`"""

from __future__ import annotations

import click

from headrace.cli import output
from headrace.project import lineage, wiring


@click.command()
@click.argument("start", metavar="START", required=False)
@click.option(
    "--direction", type=click.Choice(lineage.DIRECTIONS), default="up", show_default=True,
    help="up: what it came from; down: what came of it.",
)  # fmt: skip
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
def command(start: str | None, direction: str, json_: bool) -> None:
    """Show what START came from, or what came of it: from a prediction back to the data and the commit.

    START is prediction:ID, revision:ID, model:NAME@VERSION, run:ID, artifact:DIGEST, dataset:NAME (a file that a
    run has imported) or column:NAME (an input of a deployed model). Without START: some that exist here.
    """
    platform = wiring.build()
    if start is None:
        _show_examples(platform, json_)
        return
    found = lineage.lineage(platform, start, direction)
    if json_:
        output.as_json(found.to_dict())
        return
    for way, words in (("up", "What it came from"), ("down", "What came of it")):
        if direction in (way, "both"):
            click.secho(f"{words}:", dim=True)
            _show_tree(found, way)
    for note in found.notes:
        click.echo(note, err=True)


def _show_examples(platform: wiring.Platform, json_: bool) -> None:
    known = lineage.examples(platform)
    if json_:
        output.as_json(known)
        return
    click.echo("\n".join(f"headrace lineage {one}" for one in known) or "Nothing has run here yet.")


def _show_tree(found: lineage.Lineage, way: str) -> None:
    for line in lineage.tree(found, way):
        kind = "" if line.node.kind == "more" else f"{line.node.kind.replace('_', ' ')} "
        label = click.style(f" ({line.label})", dim=True) if line.label else ""
        known = click.style(" [same content]", fg="yellow") if line.by == "content" else ""
        detail = click.style("  as above" if line.again else f"  {line.node.detail}", dim=True)
        click.echo(f"{'  ' * line.depth}{kind}{click.style(line.node.label, bold=True)}{label}{known}{detail}".rstrip())
