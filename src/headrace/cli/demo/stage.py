"""The demo's own project, remote and server, driven by what a person has: commands, git and HTTP."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx

from headrace.cli.demo.narrator import Narrator
from headrace.errors import HeadraceError
from headrace.ports import free_port
from headrace.project.scaffold.create import commit_all, git, template_folder

POLL_SECONDS = 0.15
API = "/apis/headrace/v1"
T = TypeVar("T")


class Stalled(HeadraceError):
    """What the demo waits for did not come."""


class Stage:
    """One project `flights` in `folder`, its bare remote, and `headrace up` on ports of its own."""

    def __init__(self, folder: Path, narrator: Narrator) -> None:
        self.folder = folder
        self.project = folder / "flights"
        self.remote = folder / "flights.git"
        self.log = folder / "up.log"
        self.template = template_folder("flights")
        self.narrator = narrator
        self.port, self.gateway_port, self.mlflow_port = free_port(), free_port(), free_port()
        self._server: subprocess.Popen[bytes] | None = None
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}{API}", timeout=30)

    @property
    def predict_url(self) -> str:
        """Where the service answers, by path."""
        return f"http://127.0.0.1:{self.gateway_port}/v1/models/delay:predict"

    @property
    def labels_url(self) -> str:
        """Where late labels go."""
        return f"http://127.0.0.1:{self.port}{API}/labels"

    def headrace(self, *arguments: str) -> str:
        """Run a headrace command in the demo's folder and return what it printed.

        Raises:
            Stalled: it failed.
        """
        self.narrator.command(shlex.join(["headrace", *arguments]))
        done = subprocess.run(
            [sys.executable, "-m", "headrace.cli.main", *arguments], cwd=self.folder, env=_environment(),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise Stalled(f"headrace {arguments[0]} ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def up(self) -> float:
        """Start `headrace up` and return the seconds until it answered.

        Raises:
            Stalled: it does not.
        """
        ports = ["--port", self.port, "--gateway-port", self.gateway_port, "--mlflow-port", self.mlflow_port]
        arguments = ["up", *map(str, ports)]
        self.narrator.command(f"cd {self.project.name} && {shlex.join(['headrace', *arguments])} &")
        started = time.monotonic()
        with self.log.open("ab") as log:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "headrace.cli.main", *arguments], cwd=self.project, env=_environment(),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self.wait("the server starts", self._healthy, seconds=60)
        return time.monotonic() - started

    def is_up(self) -> bool:
        """Whether the server's process lives."""
        return self._server is not None and self._server.poll() is None

    def kill(self) -> None:
        """End the server as a power cut would: SIGKILL, nothing is tidied up."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()
            self._server = None

    def close(self) -> None:
        """End the server and all that it started."""
        if self._server is not None and self.is_up():
            self._server.send_signal(signal.SIGTERM)
            self._server.wait(timeout=60)
        self._http.close()

    def commit(self, message: str) -> str:
        """Commit every change in the project; its sha."""
        self.narrator.command(f'git commit --all -m "{message}"')
        return commit_all(self.project, message)

    def push(self) -> None:
        """Push to the remote, whose hook hands the push to Headrace."""
        self.narrator.command("git push origin main")
        git(self.project, "push", "--quiet", "origin", "main")

    def take_away(self, months: range) -> None:
        """Remove months of the template's data from the project."""
        git(self.project, "rm", "--quiet", *(f"data/{month_file(month)}" for month in months))

    def apply(self, patch: Path) -> None:
        """Change the project's code."""
        git(self.project, "apply", str(patch))

    def revert(self) -> None:
        """Take the last commit back."""
        self.narrator.command("git revert HEAD")
        git(self.project, "revert", "--no-commit", "HEAD")
        commit_all(self.project, "Take it back")

    def get(self, path: str, **query: Any) -> Any:
        """What the API answers.

        Raises:
            Stalled: it does not, or with an error.
        """
        return self._answer("GET", path, params=query)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """What the API answers to a change. Raises Stalled."""
        return self._answer("POST", path, json=body)

    def mlflow(self, path: str, **query: Any) -> Any:
        """What MLflow's own REST API answers. Raises Stalled."""
        return self._answer("GET", f"http://127.0.0.1:{self.mlflow_port}/api/2.0/mlflow/{path}", params=query)

    def wait(self, what: str, seen: Callable[[], T | None], *, seconds: float, tell: Callable[[], str] = str) -> T:
        """Ask until there is an answer, with a live line: `what` and what `tell` says.

        Raises:
            Stalled: there is none within `seconds`.
        """
        deadline = time.monotonic() + seconds
        while True:
            found = seen()
            if found is not None:
                self.narrator.clear()
                return found
            if self._server is not None and self._server.poll() is not None:
                raise Stalled(f"the server has ended; its log: {_tail(self.log)}")
            if time.monotonic() > deadline:
                raise Stalled(f"waited {seconds:g} s: {what}", remedy=f"The server's log: {self.log}")
            detail = tell()
            self.narrator.waiting(f"{what}{': ' if detail else ''}{detail}")
            time.sleep(POLL_SECONDS)

    def tell_addresses(self) -> None:
        """Where a person can look, with `--keep`."""
        if not self.is_up():
            return
        assert self._server is not None
        self.narrator.note(
            f"The server stays up (process {self._server.pid}; `kill {self._server.pid}` ends it).\n"
            f"project      {self.project}\n"
            f"console      http://127.0.0.1:{self.port}\n"
            f"predictions  {self.predict_url}\n"
            f"MLflow       http://127.0.0.1:{self.mlflow_port}"
        )

    def _healthy(self) -> bool | None:
        try:
            answer = self._http.get(f"http://127.0.0.1:{self.port}/healthz")
        except httpx.HTTPError:
            return None
        return answer.status_code == 200 or None

    def _answer(self, method: str, path: str, **more: Any) -> Any:
        try:
            answer = self._http.request(method, path, **more)
        except httpx.HTTPError as error:
            raise Stalled(f"{method} {path} gets no answer: {error}", remedy=f"The server's log: {self.log}") from error
        if answer.is_error:
            raise Stalled(f"{method} {path} answers {answer.status_code}: {answer.text}")
        return answer.json()


def month_file(month: int) -> str:
    """The name of a month's file in `data/`."""
    return f"flights-2013-{month:02}.parquet"


def _environment() -> dict[str, str]:
    """The demo's project has a state folder of its own, whatever the caller uses."""
    return {name: value for name, value in os.environ.items() if name != "HEADRACE_HOME"}


def _tail(path: Path, lines: int = 5) -> str:
    return " | ".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
