"""uvicorn's connection, which also ends clients whose request does not come (408) or whose head has no end (431)."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD = 64 * 1024


class PunctualProtocol(HttpToolsProtocol):
    """Knows since when it waits for the rest of a request; 0.0 while it does not."""

    waits_since = 0.0
    head_bytes = 0
    in_head = True

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.waits_since = self.loop.time()

    def data_received(self, data: bytes) -> None:
        if self.in_head:
            self.head_bytes += len(data)
            if self.head_bytes > MAX_HEAD + len(data):  # what came before is all head
                self._refuse(b"431 Request Header Fields Too Large", f"The head is larger than {MAX_HEAD} bytes")
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.waits_since = self.loop.time()
        self.in_head, self.head_bytes = True, 0

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self.in_head = False

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self.waits_since = 0.0

    def end_if_late(self, before: float, seconds: float) -> None:
        """End the connection when its request began before `before` (the loop's time) and is not whole yet."""
        if not 0.0 < self.waits_since < before or self.pipeline or self.transport.is_closing():
            return
        cycle = self.cycle
        answered = cycle is not None and cycle.response_started and not cycle.response_complete
        if answered:
            self.transport.close()
        else:
            self._refuse(b"408 Request Timeout", f"The request did not come within {seconds:g} seconds")

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP, in the form of the protocol."""
        self._refuse(b"400 Bad Request", msg)

    def _refuse(self, status: bytes, message: str) -> None:
        body = orjson.dumps({"error": message})
        head = b"HTTP/1.1 " + status + b"\r\ncontent-type: application/json\r\nconnection: close\r\n"
        self.transport.write(head + b"content-length: %d\r\n\r\n" % len(body) + body)
        self.transport.close()


def end_late(connections: Any, seconds: float) -> None:
    """End all that have waited for longer."""
    before = asyncio.get_running_loop().time() - seconds
    for connection in list(connections):
        if isinstance(connection, PunctualProtocol):
            connection.end_if_late(before, seconds)
