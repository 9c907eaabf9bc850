"""Run a model server in this process until SIGTERM, on a socket that listens already."""

from __future__ import annotations

import os
import socket
from typing import Any

import uvicorn

from headrace.serving.runtime.app import ModelServer
from headrace.serving.runtime.slow_clients import PunctualProtocol, end_late

DRAIN_SECONDS = 10
KEEP_ALIVE_SECONDS = 75  # above that of the gateway, so that a connection is never closed as it is used
BACKLOG = 2048


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises OSError."""
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
        made.listen(BACKLOG)
    except OSError:
        made.close()
        raise
    return made


def serve(server: ModelServer, listener: socket.socket, *, parent: int = 0) -> None:
    """Answer until SIGTERM or SIGINT, or until the process `parent` is gone; then finish the running requests."""
    seconds = server.served.settings.client_seconds

    async def look() -> None:
        end_late(running.server_state.connections, seconds)
        if parent and os.getppid() != parent:
            running.should_exit = True

    config = uvicorn.Config(
        server, loop="auto", lifespan="on", http=PunctualProtocol, ws="none", log_level="warning", access_log=False,
        server_header=False, date_header=False, timeout_graceful_shutdown=DRAIN_SECONDS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS, callback_notify=look, timeout_notify=1, backlog=BACKLOG,
    )  # fmt: skip
    running: Any = uvicorn.Server(config)
    running.run(sockets=[listener])
