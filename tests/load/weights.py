"""How exactly Envoy keeps weights and users: small servers behind a real gateway, as many requests as it takes."""

import asyncio
import threading
from collections import Counter
from dataclasses import replace

from headrace.contracts.rollout import Sticky
from headrace.ports import free_port
from headrace.serving.gateway import CANARY, Arm, Gateway, Route
from headrace.store.home import Home

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
ASK = "POST /v1/models/delay:predict HTTP/1.1\r\nhost: a\r\nx-user-id: {}\r\ncontent-length: 2\r\n\r\n{{}}"
CONNECTIONS = 16


class Backends:
    """Two servers that answer every request, on an event loop of their own."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.ports = [free_port(), free_port()]
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self._servers = [
            asyncio.run_coroutine_threadsafe(asyncio.start_server(self._serve, "127.0.0.1", port), self.loop).result()
            for port in self.ports
        ]

    async def _serve(self, reader, writer):
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(2)
                writer.write(ANSWER)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def close(self):
        for server in self._servers:
            self.loop.call_soon_threadsafe(server.close)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()


def measure(folder, requests=10_000, users=2_000):
    """The share in percent that the canary got at each weight, and of how many users the arm changed against the rule.

    Raises AssertionError when the gateway does not take a route.
    """
    gateway, backends = Gateway(Home(folder).create(), free_port()), Backends()
    arms = (Arm("delay-00001", backends.ports[0], 99), Arm("delay-00002", backends.ports[1], 1, name=CANARY))
    route = Route("delay", "default", "delay", arms, 5.0)
    try:
        gateway.start()
        shares = {}
        for weight in (1, 10, 90):
            assert gateway.apply([_at(route, weight)])
            seen = asyncio.run(_ask(gateway.port, range(requests)))
            shares[weight] = 100 * Counter(seen.values())["canary"] / requests
        by_user = []
        for weight in (10, 10, 50):
            assert gateway.apply([_at(replace(route, sticky=Sticky(header="x-user-id")), weight)])
            by_user.append(asyncio.run(_ask(gateway.port, range(users))))
        first, again, more = by_user
        changed = sum(first[user] != again[user] for user in first)
        lost = sum(first[user] == "canary" != more[user] for user in first)
        return shares, {"users": users, "changed": changed, "lost": lost}
    finally:
        gateway.stop()
        backends.close()


def _at(route, weight):
    stable, canary = route.arms
    return replace(route, arms=(replace(stable, weight=100 - weight), replace(canary, weight=weight)))


async def _ask(port, numbers):
    """The arm that answers each numbered user."""
    seen = {}
    turns = iter(numbers)

    async def client():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in turns:
            writer.write(ASK.format(f"user-{number}").encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            await reader.readexactly(2)
            assert head.startswith("http/1.1 200"), head
            seen[number] = head.split("x-headrace-arm: ")[1].split("\r\n")[0]
        writer.close()

    await asyncio.gather(*(client() for _ in range(CONNECTIONS)))
    return seen
