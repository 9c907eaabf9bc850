"""`headrace up`: one process that holds the API and the loops; Envoy and model servers are processes of their own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import uvicorn

from headrace.catalog.tracking import TrackingServer
from headrace.control.loop import repeat
from headrace.control.rollouts.controller import RolloutController
from headrace.errors import UsageError
from headrace.ports import listen
from headrace.project.wiring import Platform
from headrace.server.access import Entrance
from headrace.server.application import application
from headrace.serving.gateway import Gateway
from headrace.serving.revisions import RevisionServers
from headrace.serving.traffic import Traffic
from headrace.store import events
from headrace.store.events import Event
from headrace.store.locks import FileLock, holder

TRACKING_SECONDS = 2.0
STOP_SECONDS = 12.0


@dataclass(frozen=True)
class Ports:
    """Where the server listens: its API and console, and on 127.0.0.1 the gateway and MLflow's pages."""

    api: int = 8080
    gateway: int = 8081
    mlflow: int = 8082


@dataclass(frozen=True)
class Told:
    """What the server tells whoever started it: that it is up, what happens, what goes wrong in a loop."""

    ready: Callable[[], None]
    event: Callable[[Event], None]
    failure: Callable[[str, Exception], None]


async def serve(platform: Platform, ports: Ports, told: Told, entrance: Entrance) -> None:
    """Serve until SIGTERM or SIGINT, then end what was started. Killed harder, the next one takes over.

    Raises:
        UsageError: others could reach it and nobody would have to sign in, or nobody could.
        UsageError: another server runs on this home, a port is in use, MLflow does not answer, there is no Envoy.
    """
    entrance.check(platform.database, platform.clock.now())
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    embedded = platform.tracking_uri == platform.home.mlflow_uri
    platform.mlflow_runs.pages = f"http://127.0.0.1:{ports.mlflow}" if embedded else platform.tracking_uri.rstrip("/")
    _refuse_shared(ports, embedded)
    with _only_one(platform, ports), listen(ports.api, "--port", entrance.host) as listener:
        await asyncio.to_thread(RevisionServers(platform.home, platform.database, platform.clock).sweep)
        await asyncio.to_thread(platform.registry.check)
        controller = platform.rollouts(ports.gateway)
        tracking = TrackingServer(platform.home, ports.mlflow) if embedded else None
        if tracking is not None:
            tracking.require_port("--mlflow-port")
        await asyncio.to_thread(controller.traffic.start)
        try:
            traffic = Traffic(controller.traffic, platform.clock)
            async with _api(platform, ports, entrance, listener, stop, traffic):
                told.ready()
                await _loops(platform, controller, tracking, traffic, stop, told)
        finally:
            await asyncio.to_thread(_end, platform, ports, tracking)


def _refuse_shared(ports: Ports, embedded: bool) -> None:
    wanted = {"--port": ports.api, "--gateway-port": ports.gateway}
    if embedded:
        wanted["--mlflow-port"] = ports.mlflow
    options: dict[int, str] = {}
    for option, port in wanted.items():
        if port in options:
            raise UsageError(
                f"{options[port]} and {option} are both {port}", remedy=f"Choose another port with {option}."
            )
        options[port] = option


@contextlib.contextmanager
def _only_one(platform: Platform, ports: Ports):  # type: ignore[no-untyped-def]
    path = platform.home.server_lock
    lock = FileLock(path)
    about = {"port": ports.api, "gateway_port": ports.gateway}
    if not lock.acquire(about):
        other = holder(path) or {}
        raise UsageError(
            f"a server runs here already: process {other.get('pid')}, port {other.get('port')}",
            where=str(platform.home.path),
            remedy="Use that one, stop it, or set HEADRACE_HOME for another project.",
        )
    try:
        yield
    finally:
        lock.release()


@contextlib.asynccontextmanager
async def _api(
    platform: Platform, ports: Ports, entrance: Entrance, listener: socket.socket, stop: asyncio.Event, traffic: Traffic
) -> AsyncIterator[None]:  # fmt: skip
    about = {
        "project": platform.project.file.name if platform.project else "",
        "home": str(platform.home.path),
        "gateway": f"http://127.0.0.1:{ports.gateway}",
        "mlflow": platform.tracking_uri,
        "mlflow_pages": platform.mlflow_runs.pages,
    }
    made = application(platform, about, stop.is_set, entrance, traffic)
    config = uvicorn.Config(
        made, host=entrance.host, port=ports.api,
        log_level="warning",
        access_log=False, lifespan="off", timeout_graceful_shutdown=3,
        # A proxy on this machine says whether a browser came by https, and from where; nobody else is believed.
        proxy_headers=True, forwarded_allow_ips="127.0.0.1",
    )  # fmt: skip
    server = uvicorn.Server(config)
    # Signals are ours: uvicorn's own handling would end the API before the loops.
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn has a flag, and no event
        await asyncio.sleep(0.01)
    # A daemon: a registry that does not answer must not hold up the server's end.
    threading.Thread(target=made.state.warm_up, name="warm-up", daemon=True).start()
    try:
        yield
    finally:
        server.should_exit = True
        await serving


async def _loops(
    platform: Platform,
    controller: RolloutController,
    tracking: TrackingServer | None,
    traffic: Traffic,
    stop: asyncio.Event,
    told: Told,
) -> None:
    """Everything that repeats, side by side, until `stop`."""
    passes: dict[str, Callable[[], float]] = {
        "rollouts": controller.look,
        "traffic": traffic.one_pass,
        "triggers": platform.triggers().one_pass,
        "recurring runs": platform.recurring().one_pass,
        "deleted runs": platform.deleted_runs().one_pass,
        "mlflow runs": platform.mlflow_runs.one_pass,
        "registry": platform.announcer().one_pass,
        "events": _Tail(platform, told.event).one_pass,
    }
    if tracking is not None:
        passes["mlflow"] = lambda: _keep_tracking(platform, tracking)
    async with asyncio.TaskGroup() as group:
        group.create_task(platform.engine().serve(stop))
        for name, one_pass in passes.items():
            group.create_task(repeat(name, one_pass, stop=stop, report=told.failure))


def _keep_tracking(platform: Platform, tracking: TrackingServer) -> float:
    # The client makes the tables first, alone: MLflow's migrations do not bear company.
    _ = platform.registry.client
    tracking.start()
    return TRACKING_SECONDS


class _Tail:
    """Hands on each new event of the log."""

    def __init__(self, platform: Platform, tell: Callable[[Event], None]) -> None:
        self.database = platform.database
        self.tell = tell
        newest = self.database.one("SELECT coalesce(max(seq), 0) AS seq FROM event")
        self.seen = int(newest["seq"]) if newest else 0

    def one_pass(self) -> float:
        for event in events.read(self.database, after=self.seen):
            self.tell(event)
            self.seen = event.seq
        return 0.3


def _end(platform: Platform, ports: Ports, tracking: TrackingServer | None) -> None:
    """A stop that was asked for leaves no process behind. Nobody is routed to a server that has gone."""
    Gateway(platform.home, ports.gateway).stop()
    if tracking is not None:
        tracking.stop()
    servers = RevisionServers(platform.home, platform.database, platform.clock)
    running = servers.running()
    with contextlib.suppress(sqlite3.Error):
        for revision in running:
            servers.stop(revision.id)
    servers.await_end([revision.id for revision in running], seconds=STOP_SECONDS)
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
