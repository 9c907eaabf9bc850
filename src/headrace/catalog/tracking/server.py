"""MLflow's own server over the embedded store: its pages, and its API for other tools."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

import psutil

from headrace.ports import require_free
from headrace.processes import alive, created, end_started_with, kill_session
from headrace.store.home import Home

STOP_SECONDS = 5.0
# Job execution would start eight more processes of 250 MB each, for judging LLM traces.
_LEAN = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true",
}  # fmt: skip


class TrackingServer:
    """One MLflow server for one home, on 127.0.0.1:`port`. Every method is idempotent."""

    def __init__(self, home: Home, port: int) -> None:
        self.home = home
        self.port = port
        self._record = home.path / "mlflow.json"
        # Words that nobody else's MLflow is started with, though it be on the same store.
        self._words = (
            "-P", "-W", "ignore", "-m", "mlflow", "server",
            "--backend-store-uri", home.mlflow_uri,
            "--default-artifact-root", str(home.path / "mlruns"),
        )  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def require_port(self, option: str) -> None:
        """Refuse a port that somebody else listens on; `option` is what the user would change. Raises UsageError."""
        if not self._runs_at(self._told()):
            self.stop()
            require_free(self.port, option)

    def start(self) -> None:
        """Start it, or find the one that a server before us left running. Its tables must be there already."""
        if self._process is not None:
            self._process.poll()
        told = self._told()
        if self._runs_at(told):
            return
        self.stop()
        command = [
            sys.executable, *self._words,
            "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1",
        ]  # fmt: skip
        with (self.home.logs / "mlflow.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, **_LEAN},
            )  # fmt: skip
        pid = self._process.pid
        self._record.write_text(json.dumps({"pid": pid, "created": created(pid), "port": self.port}))

    def stop(self) -> None:
        """End it, and what it left behind when it was killed."""
        told = self._told()
        if told and alive(told["pid"], told["created"]):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(told["pid"], signal.SIGTERM)
            deadline = time.monotonic() + STOP_SECONDS
            while alive(told["pid"], told["created"]) and time.monotonic() < deadline:
                if self._process is not None:
                    self._process.poll()
                time.sleep(0.05)
            kill_session(told["pid"], told["created"])
        if self._process is not None:
            self._process.wait()
            self._process = None
        if told and not psutil.pid_exists(told["pid"]):
            # The process that listens is a child of the one that was started, and outlives it.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(told["pid"], signal.SIGKILL)
        # One that was started just before the server was killed is in no record.
        end_started_with(*self._words)
        self._record.unlink(missing_ok=True)

    def _runs_at(self, told: dict[str, Any] | None) -> bool:
        return bool(told and alive(told["pid"], told["created"]) and told["port"] == self.port)

    def _told(self) -> dict[str, Any] | None:
        try:
            told: dict[str, Any] = json.loads(self._record.read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        return told
