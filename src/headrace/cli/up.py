"""`headrace up`"""

from __future__ import annotations

import asyncio
import time

import click

from headrace.cli import output
from headrace.cli.main import debugging
from headrace.errors import HeadraceError
from headrace.project import wiring
from headrace.store.events import Event

# Steps of a run are for `headrace runs logs`; a server's terminal shows what a person wants to know of.
_SHOWN = ("push.", "run.", "gate.", "rollout.", "revision.failed", "recurring-run.failed")
_HIDDEN = ("run.recovered", "run.paused", "run.resumed")
_PORT = click.IntRange(1, 65535)


@click.command()
@click.option("--port", type=_PORT, default=8080, show_default=True, help="The API.")
@click.option("--gateway-port", type=_PORT, default=8081, show_default=True, help="Predictions.")
@click.option(
    "--mlflow-port", type=_PORT, default=8082, show_default=True, help="MLflow's pages, for the embedded MLflow."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address that API and console listen on.")
@click.option("--sign-in", is_flag=True, help="Ask for a token (headrace tokens) before anything is shown or done.")
@click.option(
    "--name", "names", multiple=True, help="A name that browsers reach this server by, as headrace.example.com."
)
@click.option("-e", "environment", help="The environment in headrace.toml (default: dev).")
def command(
    port: int,
    gateway_port: int,
    mlflow_port: int,
    host: str,
    sign_in: bool,
    names: tuple[str, ...],
    environment: str | None,
) -> None:
    """Start the server: API and console, gateway, rollout controller, triggers, MLflow.

    It listens on 127.0.0.1 and asks nobody who they are. For a team: --sign-in, behind a proxy that speaks TLS
    (docs/security.md). Predictions and MLflow stay on 127.0.0.1.

    Ctrl-C or SIGTERM ends it and everything that it started. If it dies in another way, predictions go on, and
    `headrace up` takes over runs and rollouts where they were.
    """
    from headrace.server.access import Entrance
    from headrace.server.serve import Ports, Told, serve

    platform = wiring.build(environment=environment)
    ports = Ports(port, gateway_port, mlflow_port)
    entrance = Entrance(host, sign_in, frozenset(names))

    def ready() -> None:
        embedded = platform.tracking_uri == platform.home.mlflow_uri
        name = platform.project.file.name if platform.project else "without a project"
        click.echo(f"Headrace is up: {name}. Ctrl-C ends it.")
        output.pairs(
            {
                "  console": f"http://{f'[{host}]' if ':' in host else host}:{port}"
                + (", console and API, with sign-in" if sign_in else ""),
                "  predictions": f"http://127.0.0.1:{gateway_port}",
                "  MLflow": f"http://127.0.0.1:{mlflow_port} (in some seconds)" if embedded else platform.tracking_uri,
                "  state": platform.home.path,
            }
        )

    asyncio.run(serve(platform, ports, Told(ready, _show_event, _show_failure), entrance))
    click.echo("Headrace has ended.")


def _show_event(event: Event) -> None:
    if event.kind.startswith(_SHOWN) and event.kind not in _HIDDEN:
        moment = time.strftime("%H:%M:%S", time.localtime(event.at))
        detail = f"{event.data['weight']} %" if event.kind == "rollout.weight" else event.reason
        click.echo(f"{click.style(moment, dim=True)}  {event.kind:<18} {event.subject}  {detail}".rstrip())


def _show_failure(loop: str, error: Exception) -> None:
    if debugging():
        import traceback

        traceback.print_exception(error)
    told = str(error) if isinstance(error, HeadraceError) else f"{type(error).__name__}: {error}"
    click.echo(f"{click.style('problem', fg='yellow')} in {loop}: {told}  (it is tried again)", err=True)
