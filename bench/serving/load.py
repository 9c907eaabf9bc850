"""Load: connections that each ask again as soon as they are answered. wrk where it is installed, else asyncio."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from bench.serving.tools import Ask

_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


@dataclass(frozen=True)
class Load:
    """What came of it: answers a second, ms within which half and 99 of 100 came, and answers that were no 200.

    A percentile is None where there were too few answers for it.
    """

    rate: float
    p50: float | None
    p99: float | None
    failed: int


def run(port: int, ask: Ask, *, connections: int, seconds: float, folder: Path, host: str = "") -> Load:
    """Ask the server at `port` for some seconds; `host` is the Host header."""
    headers = {**ask.headers, **({"Host": host} if host else {})}
    if shutil.which("wrk"):
        return _wrk(port, ask, headers, connections, seconds, folder)
    return asyncio.run(_asked(port, ask, headers, connections, seconds))


def _wrk(
    port: int, ask: Ask, headers: dict[str, str], connections: int, seconds: float, folder: Path
) -> Load:  # fmt: skip
    body, script = folder / "body", folder / "ask.lua"
    body.write_bytes(ask.body)
    lines = [f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in headers.items()]
    script.write_text(
        "\n".join(["wrk.method = 'POST'", f"wrk.body = io.open({json.dumps(str(body))}, 'rb'):read('*a')", *lines])
    )
    done = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "30s", "--latency", "-s",
         str(script), f"http://127.0.0.1:{port}{ask.path}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    told = done.stdout
    failed = sum(int(n) for n in re.findall(r"Non-2xx or 3xx responses: (\d+)", told))
    failed += sum(int(n) for line in re.findall(r"Socket errors: .*", told) for n in re.findall(r"\d+", line))
    rate = re.search(r"Requests/sec:\s+([\d.]+)", told)
    # wrk corrects its percentiles for what it could not ask meanwhile; with few answers it has none to tell.
    return Load(float(rate[1]) if rate else 0.0, _percentile(told, 50), _percentile(told, 99), failed)


def _percentile(told: str, which: int) -> float | None:
    found = re.search(rf"^\s+{which}%\s+([\d.]+)(us|ms|s|m)$", told, re.MULTILINE)
    value = float(found[1]) * _UNITS[found[2]] if found else 0.0
    return value or None


async def _asked(port: int, ask: Ask, headers: dict[str, str], connections: int, seconds: float) -> Load:
    head = [f"POST {ask.path} HTTP/1.1", *(f"{name}: {value}" for name, value in {"Host": "bench", **headers}.items())]
    sent = "\r\n".join([*head, f"content-length: {len(ask.body)}", "", ""]).encode() + ask.body
    end = time.perf_counter() + seconds
    took: list[float] = []
    failed = 0

    async def one() -> None:
        nonlocal failed
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() < end:
            start = time.perf_counter()
            writer.write(sent)
            told = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", told)
            await reader.readexactly(int(length[1]) if length else 0)
            took.append((time.perf_counter() - start) * 1000)
            failed += not told.startswith(b"HTTP/1.1 200")
        writer.close()

    begun = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(connections)))
    took.sort()
    return Load(
        len(took) / (time.perf_counter() - begun), took[len(took) // 2], took[int(len(took) * 0.99)], failed
    )  # fmt: skip
