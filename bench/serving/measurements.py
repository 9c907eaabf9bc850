"""What is measured of each server, row by row."""

from __future__ import annotations

import shutil
import sys
import tempfile
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import environments
from bench.serving import load, models
from bench.serving.servers import Server
from bench.serving.tools import Ask, Tool
from headrace.ports import free_port
from headrace.serving.gateway import Arm, Gateway, Route
from headrace.serving.runtime import conversion
from headrace.store.home import Home

ROWS = ("single", "gateway", "alone", "alone-gateway", "batch", "binary", "many")
PEERS = Path(__file__).parent / "peers.toml"
BATCH_ROWS = 1000


@dataclass(frozen=True)
class Sizes:
    """How long each load goes on, and how many times it is measured; the median counts."""

    seconds: float = 5.0
    repeat: int = 3


@dataclass(frozen=True)
class Case:
    """One row of the tables: what is asked of which model over how many connections; `own`: of no peer."""

    row: str
    model: str
    connections: int
    rows: int = 1
    gateway: bool = False
    binary: bool = False
    own: bool = False


CASES = (
    Case("single", "iris", 16), Case("single", "flights", 16), Case("gateway", "iris", 16, gateway=True),
    Case("gateway", "flights", 16, gateway=True), Case("alone", "iris", 1, own=True),
    Case("alone-gateway", "iris", 1, gateway=True, own=True), Case("batch", "iris", 2, BATCH_ROWS),
    Case("batch", "flights", 2, BATCH_ROWS), Case("binary", "iris", 2, BATCH_ROWS, binary=True),
    Case("many", "iris", 64), Case("many", "flights", 64),
)  # fmt: skip


class Bench:
    """The models, the environments and the gateway of one measuring."""

    def __init__(self, folder: Path, tools: list[Tool], sizes: Sizes) -> None:
        self.folder = folder
        self.sizes = sizes
        self.rows = models.make(folder)
        # MLServer wants its own name for the file that both read.
        shutil.copy(folder / "iris" / "model.pkl", folder / "iris" / "model.joblib")
        self.faster = {name: conversion.make(folder / name) for name in self.rows}
        self.environments = {
            tool.name: environments.make(tool.peer, PEERS)
            if tool.peer
            else environments.Environment(Path(sys.executable))
            for tool in tools
        }  # fmt: skip
        self.tools = tools

    def measure(self, tool: Tool, model: str, rows: list[str]) -> dict[str, Any]:
        """A tool's figures with a model: ready, memory, and of each case; or what went wrong."""
        environment = self.environments[tool.name]
        if environment.problem:
            return {"problem": environment.problem}
        own = Path(tempfile.mkdtemp(dir=self.folder))
        try:
            server = Server(tool, str(environment.python), self.folder / model, model, own)
        except RuntimeError as error:
            return {"problem": str(error)}
        try:
            found: dict[str, Any] = {"ready": server.seconds, "memory": server.memory(), "cases": {}}
            for case in CASES:
                if case.model == model and case.row in rows and not (case.own and tool.peer):
                    found["cases"][case.row] = self._case(tool, case, server, own)
            return found
        finally:
            server.end()

    def _case(self, tool: Tool, case: Case, server: Server, own: Path) -> dict[str, Any]:
        make = tool.binary if case.binary else (tool.many if case.row == "batch" else None) or tool.ask
        if make is None:
            return {"problem": "takes no binary tensors"}
        ask = make(case.model, self.rows[case.model][: case.rows])
        try:
            _once(server.port, ask)
        except OSError as error:
            return {
                "problem": f"answers {error}: " + getattr(error, "read", lambda: b"")().decode(errors="replace")[:200]
            }
        if not case.gateway:
            return self._load(server.port, ask, case, own)
        gateway = Gateway(Home(own / "home").create(), free_port())
        gateway.start()
        try:
            arm = Arm("model-00001", server.port, 100)
            gateway.apply(
                [Route(service="model", namespace="default", model_name="model", arms=(arm,), timeout_seconds=30.0)]
            )
            return self._load(gateway.port, ask, case, own, "model.default.example.com")
        finally:
            gateway.stop()

    def _load(self, port: int, ask: Ask, case: Case, own: Path, host: str = "") -> dict[str, Any]:
        load.run(port, ask, connections=case.connections, seconds=1, folder=own, host=host)
        seconds, several = self.sizes.seconds, self.sizes.repeat
        taken = [
            load.run(port, ask, connections=case.connections, seconds=seconds, folder=own, host=host)
            for _ in range(several)
        ]
        return {**asdict(sorted(taken, key=lambda one: one.rate)[len(taken) // 2]), "rows": case.rows}


def _once(port: int, ask: Ask) -> None:
    """See that a request is answered with 200. Raises OSError."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{ask.path}", data=ask.body, headers=dict(ask.headers), method="POST"
    )
    with urllib.request.urlopen(request, timeout=60):
        pass
