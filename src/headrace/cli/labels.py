"""`headrace labels`"""

from __future__ import annotations

from pathlib import Path

import click

from headrace.cli import output
from headrace.control.rollouts import queries
from headrace.project import wiring
from headrace.serving import payload_log


@click.command()
@click.argument("service")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
def command(service: str, file: Path, json_: bool) -> int:
    """Record late labels of SERVICE: what FILE, a Parquet file with the columns id and value, says was right.

    `id` is the prediction's, as the answer's header x-headrace-prediction-id told it. The first label of an id stays.
    """
    platform = wiring.build()
    queries.service_json(platform.database, service)
    labels = payload_log.labels_of_parquet(file.read_bytes())
    known = payload_log.record_labels(platform.home, service, labels, at=platform.clock.now())
    if json_:
        output.as_json({"received": len(labels), "known": known})
    else:
        click.echo(
            f"{len(labels)} labels of {service} recorded; {known} of them are of predictions that are known by now."
        )
    return 0
