"""Revisions and the model server processes behind them. Processes outlive the server and are found again by it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from headrace.clock import Clock
from headrace.errors import NotFoundError
from headrace.ports import free_port
from headrace.processes import alive, created, kill_session, started_with
from headrace.serving import payload_log
from headrace.store import events
from headrace.store.database import Database
from headrace.store.home import Home

HEALTH_SECONDS = 1.0
MAX_STARTS = 3
START_SECONDS = 120.0
STEADY_SECONDS = 60.0
RESTART_SECONDS = 2.0
FAILED_SECONDS = 60.0
DRAIN_SECONDS = 15.0
_ACTOR = "system:serving"
_RUNTIME = "headrace.serving.runtime"


@dataclass(frozen=True)
class Revision:
    """One version of a service: what it serves and how its process is. Times are in unix seconds."""

    id: str
    service: str
    namespace: str
    number: int
    model_uri: str
    model_path: str
    settings: Mapping[str, Any]
    state: str
    pid: int | None
    process_created: float | None
    port: int | None
    starts: int
    message: str
    created_at: float
    updated_at: float
    grpc_port: int | None = None


def create(
    connection: sqlite3.Connection,
    *,
    service: str,
    namespace: str,
    model_uri: str,
    model_path: str,
    settings: Mapping[str, Any],
    at: float,
) -> str:
    """Add a service's next revision inside the caller's transaction and return its id, as in `delay-00003`."""
    row = connection.execute(
        "SELECT coalesce(max(number), 0) + 1 AS n FROM revision WHERE service = ?", (service,)
    ).fetchone()
    number = int(row["n"])
    revision_id = f"{service}-{number:05}"
    connection.execute(
        "INSERT INTO revision (id, service, namespace, number, model_uri, model_path, settings, state, created_at,"
        " updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, 'created', ?, ?)",
        (revision_id, service, namespace, number, model_uri, model_path, json.dumps(settings), at, at),
    )
    return revision_id


def get(database: Database, revision_id: str) -> Revision:
    """One revision. Raises NotFoundError."""
    row = database.one("SELECT * FROM revision WHERE id = ?", (revision_id,))
    if row is None:
        raise NotFoundError(f"no revision is called {revision_id}")
    return _revision(row)


def of_service(database: Database, service: str) -> list[Revision]:
    """All revisions of a service, the newest first."""
    rows = database.query("SELECT * FROM revision WHERE service = ? ORDER BY number DESC", (service,))
    return [_revision(row) for row in rows]


class RevisionServers:
    """Starts, watches and stops model servers. Every method is idempotent and returns at once."""

    def __init__(self, home: Home, database: Database, clock: Clock) -> None:
        self.home = home
        self.database = database
        self.clock = clock
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    def ensure(self, revision_id: str) -> Revision:
        """See that the revision's server runs: start it, find it again, or tell that it has failed.

        A server that dies is started again: at once the first time, then after a growing wait, at most `MAX_STARTS`
        times in a row; then it has failed, and is tried once more every `FAILED_SECONDS` for as long as it is wanted.
        One that was ready for `STEADY_SECONDS` starts a new row. One that takes more memory than it may is killed. One
        that is on its way out ends first.
        """
        revision = get(self.database, revision_id)
        self._reap()
        since = self.clock.now() - revision.updated_at
        if revision.state == "failed" and since < FAILED_SECONDS:
            return revision
        if alive(revision.pid, revision.process_created):
            if revision.state == "stopped":
                return self.stop(revision_id)
            return self._look(revision) if self._within_memory(revision) else self._killed(revision)
        if revision.state in ("starting", "ready"):
            steady = revision.state == "ready" and since > STEADY_SECONDS
            if revision.starts >= MAX_STARTS and not steady:
                return self._move(revision, "failed", message=self._last_words(revision))
            if revision.starts > 1 and not steady and since < RESTART_SECONDS * 2 ** (revision.starts - 2):
                return revision
            return self._start(revision, again=not steady)
        return self._start(revision, again=True)

    def stop(self, revision_id: str) -> Revision:
        """Ask the server to end after its running requests; kill it when it takes too long."""
        revision = get(self.database, revision_id)
        if alive(revision.pid, revision.process_created):
            assert revision.pid is not None
            overdue = revision.state == "stopped" and self.clock.now() - revision.updated_at > DRAIN_SECONDS
            with contextlib.suppress(ProcessLookupError):
                os.kill(revision.pid, signal.SIGKILL if overdue else signal.SIGTERM)
        self._reap()
        if revision.state in ("stopped", "failed"):
            return revision
        return self._move(revision, "stopped")

    def sweep(self) -> None:
        """End model servers of this home that no revision knows of: started just before the server was killed."""
        known = {row["pid"] for row in self.database.query("SELECT pid FROM revision WHERE pid IS NOT NULL")}
        for process in started_with("-m", _RUNTIME):
            with contextlib.suppress(psutil.Error):
                mine = any(Path(word).parent == self.home.payloads for word in process.cmdline())
                if mine and process.pid not in known:
                    kill_session(process.pid, created(process.pid))

    def running(self) -> list[Revision]:
        """The revisions whose process lives."""
        rows = self.database.query("SELECT * FROM revision WHERE pid IS NOT NULL")
        return [r for r in map(_revision, rows) if alive(r.pid, r.process_created)]

    def died(self, revision_id: str) -> bool:
        """Whether its server was ready and has ended without being asked to; until `ensure` starts it again."""
        revision = get(self.database, revision_id)
        self._reap()
        return revision.state == "ready" and not alive(revision.pid, revision.process_created)

    def await_end(self, revision_ids: Sequence[str], *, seconds: float) -> None:
        """Wait until these servers have ended; kill those that take longer."""
        deadline = time.monotonic() + seconds
        left = [get(self.database, name) for name in revision_ids]
        while left := [r for r in left if alive(r.pid, r.process_created)]:
            if time.monotonic() > deadline:
                for revision in left:
                    kill_session(revision.pid, revision.process_created)
            self._reap()
            time.sleep(0.05)

    def _within_memory(self, revision: Revision) -> bool:
        limit = revision.settings.get("memory_bytes") or 0
        if not limit:
            return True
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(revision.pid)
            return sum(one.memory_info().rss for one in (process, *process.children(recursive=True))) <= limit
        return True

    def _killed(self, revision: Revision) -> Revision:
        limit = revision.settings["memory_bytes"] / 1e6
        with self._log(revision).open("a", encoding="utf-8") as log:
            log.write(f"it took more memory than its limit of {limit:.0f} MB\n")
        kill_session(revision.pid, revision.process_created)
        return revision

    def _look(self, revision: Revision) -> Revision:
        if revision.state == "ready":
            return revision
        if _healthy(revision.port):
            return self._move(revision, "ready", message=_predicts_with(revision))
        if self.clock.now() - revision.updated_at > START_SECONDS:
            assert revision.pid is not None
            os.kill(revision.pid, signal.SIGKILL)
            return self._move(revision, "failed", message=f"not ready after {START_SECONDS:.0f} s")
        return revision

    def _start(self, revision: Revision, *, again: bool) -> Revision:
        port, grpc_port = free_port(), free_port()
        settings = revision.settings
        command = _command(revision, port, grpc_port, self.home)
        with self._log(revision).open("ab") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, **settings.get("environment", {})},
            )  # fmt: skip
        self._children[process.pid] = process
        born = created(process.pid)
        with self.database.transaction() as connection:
            connection.execute(
                "UPDATE revision SET state = 'starting', pid = ?, process_created = ?, port = ?, grpc_port = ?,"
                " starts = CASE state WHEN 'stopped' THEN 1 ELSE starts * ? + 1 END, updated_at = ? WHERE id = ?",
                (process.pid, born, port, grpc_port, int(again), self.clock.now(), revision.id),
            )
            events.append(
                connection, at=self.clock.now(), actor=_ACTOR, kind="revision.started",
                subject=f"service/{revision.service}", data={"revision": revision.id, "pid": process.pid},
            )  # fmt: skip
        return get(self.database, revision.id)

    def _move(self, revision: Revision, state: str, message: str = "") -> Revision:
        now = self.clock.now()
        kept = revision.message if state == "stopped" else message
        with self.database.transaction() as connection:
            landed = connection.execute(
                "UPDATE revision SET state = ?, message = ?, updated_at = ? WHERE id = ? AND state = ?",
                (state, kept, now, revision.id, revision.state),
            ).rowcount
            if landed:
                events.append(
                    connection, at=now, actor=_ACTOR, kind=f"revision.{state}",
                    subject=f"service/{revision.service}", reason=message, data={"revision": revision.id},
                )  # fmt: skip
        return get(self.database, revision.id)

    def _reap(self) -> None:
        for pid, process in list(self._children.items()):
            if process.poll() is not None:
                del self._children[pid]

    def _log(self, revision: Revision) -> Path:
        return self.home.logs / f"{revision.id}.log"

    def _last_words(self, revision: Revision) -> str:
        try:
            lines = self._log(revision).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except FileNotFoundError:
            lines = []
        return "its server died: " + ("; ".join(lines[-3:]) or "no word in its log")


def _command(revision: Revision, port: int, grpc_port: int, home: Home) -> list[str]:
    """The command line of a revision's model server."""
    settings = revision.settings
    # A model that MLflow has saved says itself what it is.
    saved = (Path(revision.model_path) / "MLmodel").is_file()
    given: dict[str, Any] = {
        "name": settings.get("model_name") or revision.service,
        "revision": revision.id,
        "model-path": revision.model_path,
        "format": "" if saved or settings.get("model_format") == "python" else settings.get("model_format"),
        "model-class": settings.get("model_class"),
        "transformer": settings.get("transformer"),
        "port": port,
        "grpc-port": grpc_port,
        "payload-log": payload_log.path(home, revision.service),
        "payload-mode": settings.get("logged"),
        "payload-sample": settings.get("sample"),
        "threads": settings.get("threads", 1),
        "workers": settings.get("workers"),
        "max-concurrency": settings.get("concurrency"),
        "batch-size": settings.get("batch_size"),
        "batch-delay-ms": settings.get("batch_delay_ms"),
        "faster-forms": home.faster_forms if settings.get("faster_form", True) else None,
    }
    options = [
        word for name, value in given.items() if value not in (None, "", 0) for word in (f"--{name}", str(value))
    ]
    if not settings.get("faster_form", True):
        options.append("--no-faster-form")
    return [sys.executable, "-P", "-W", "ignore", "-m", _RUNTIME, *options]


def _healthy(port: int | None) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=HEALTH_SECONDS) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _predicts_with(revision: Revision) -> str:
    """What the server says of the form of its model; "" when it says nothing."""
    name = revision.settings.get("model_name") or revision.service
    try:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{revision.port}/v2/models/{name}", timeout=HEALTH_SECONDS
        ) as answer:
            told = json.load(answer).get("parameters") or {}
    except (urllib.error.URLError, OSError, ValueError):
        return ""
    why = f": {told['why']}" if told.get("why") else ""
    return f"predicts with {told['form']}{why}" if "form" in told else ""


def _revision(row: sqlite3.Row) -> Revision:
    values = dict(row)
    return Revision(**{**values, "settings": json.loads(values["settings"])})
