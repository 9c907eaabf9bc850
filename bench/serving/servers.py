"""A server that is measured: started, ready, its memory, ended."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil

from bench.serving.tools import Tool
from headrace.ports import free_port

START_SECONDS = 120.0
IDLE_SECONDS = 1.0
ROOT = Path(__file__).parents[2]


class Server:
    """A process of a tool, ready. `seconds` is from its start until it said so.

    Raises:
        RuntimeError: it does not get ready; the end of what it wrote.
    """

    def __init__(self, tool: Tool, python: str, path: Path, model: str, folder: Path) -> None:
        self.port = free_port()
        self.log = folder / "log"
        environment = {
            **os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "DO_NOT_TRACK": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONPATH": "" if tool.peer else str(ROOT),
        }  # fmt: skip
        environment["PATH"] = f"{Path(python).parent}{os.pathsep}{environment['PATH']}"
        begun = time.perf_counter()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                tool.command(python, path, model, self.port, folder), stdout=log, stderr=log, cwd=folder,
                env=environment, start_new_session=True,
            )  # fmt: skip
        self._await(tool.ready)
        self.seconds = time.perf_counter() - begun

    def _await(self, path: str) -> None:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as told:
                    if told.status == 200:
                        return
            except (urllib.error.URLError, OSError):
                time.sleep(0.01)
        self.end()
        raise RuntimeError("does not get ready: " + " ".join(self.log.read_text(errors="replace").split())[-300:])

    def memory(self) -> float:
        """MB of the whole tree of processes, each shared page counted in parts (PSS), after a moment of quiet."""
        time.sleep(IDLE_SECONDS)
        own = psutil.Process(self.process.pid)
        return float(sum(one.memory_full_info().pss for one in [own, *own.children(recursive=True)]) / 2**20)

    def end(self) -> None:
        """End it and all that it started."""
        try:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait(15)
        except ProcessLookupError:
            pass
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
