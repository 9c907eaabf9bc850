"""uvicorn's connection, which also ends clients whose request does not come: 408 after some seconds."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class PunctualProtocol(HttpToolsProtocol):
    """Knows since when it waits for the rest of a request; 0.0 while it does not."""

    waits_since = 0.0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.waits_since = self.loop.time()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.waits_since = self.loop.time()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self.waits_since = 0.0

    def end_if_late(self, before: float, seconds: float) -> None:
        """End the connection when its request began before `before` (the loop's time) and is not whole yet."""
        if not 0.0 < self.waits_since < before or self.pipeline or self.transport.is_closing():
            return
        cycle = self.cycle
        answered = cycle is not None and cycle.response_started and not cycle.response_complete
        if not answered:
            body = orjson.dumps({"error": f"The request did not come within {seconds:g} seconds"})
            head = b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\nconnection: close\r\n"
            self.transport.write(head + b"content-length: %d\r\n\r\n" % len(body) + body)
        self.transport.close()


def end_late(connections: Any, seconds: float) -> None:
    """End all that have waited for longer."""
    before = asyncio.get_running_loop().time() - seconds
    for connection in list(connections):
        if isinstance(connection, PunctualProtocol):
            connection.end_if_late(before, seconds)
