"""Python environments for components whose packages this one does not have: made once by uv, then shared.

An environment is a folder below HEADRACE_HOME named by a digest of what is in it. Nothing is ever installed into the
environment that Headrace itself runs in.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import signal
import site
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from headrace.errors import HeadraceError
from headrace.runs.prelude import Requirements, name_of
from headrace.store.home import Home
from headrace.store.locks import FileLock

# Where commands that run on this machine are looked for: `python` is the interpreter that runs Headrace.
HOST_PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
READY = "ready.json"
# What a worker imports itself: linked, so that every worker has the version that Headrace was tested with.
WORKER_MODULES = ("kfp", "psutil", "typing_extensions")
_WAIT_SECONDS = 0.2
_LAST_LINES = 8


class EnvironmentNotMadeError(HeadraceError):
    """Packages that a component asks for could not be installed."""


class MakingInterruptedError(EnvironmentNotMadeError):
    """Somebody ended uv in the middle of its work, or does not want it any more; it can be tried again."""


def python_for(
    home: Home,
    wanted: Requirements,
    *,
    tell: Callable[[str], None] = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
    installer: Callable[[], str] | None = None,
) -> Path | None:
    """The interpreter of an environment that meets the requirements, made when it is not there yet; None: this one.

    `tell` hears what takes so long; once `stopped` is true, it is left.

    Raises:
        MakingInterruptedError: it was stopped, here or by a signal.
        EnvironmentNotMadeError: uv is not there, or could not install the packages.
    """
    if not wanted.unmet:
        return None
    folder = home.path / "environments" / key(wanted)
    python = folder / "bin" / "python"
    if not (folder / READY).is_file():
        tell(f"headrace: waits for an environment with {', '.join(wanted.packages)}, which is made once")
        _make_once(home, folder, wanted, installer or find_uv, stopped)
    return python


def key(wanted: Requirements) -> str:
    """A digest of this Python, the packages and their indexes."""
    packages, hosts = sorted(wanted.packages), sorted(wanted.trusted_hosts)
    described = [sys.version, sys.prefix, packages, wanted.index_urls, hosts, wanted.options]
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()[:16]


def find_uv() -> str:
    """The path of the uv program. Raises EnvironmentNotMadeError."""
    from uv import find_uv_bin

    try:
        return str(find_uv_bin())
    except FileNotFoundError as error:
        raise EnvironmentNotMadeError(
            "the program uv is not there", remedy="Install Headrace again; uv comes with it."
        ) from error


def _make_once(
    home: Home, folder: Path, wanted: Requirements, installer: Callable[[], str], stopped: Callable[[], bool]
) -> None:
    """Make the environment, or wait while another process does."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(home.locks / f"environment-{folder.name}.lock")
    while not lock.acquire({"packages": list(wanted.packages)}):
        if stopped():
            raise _interrupted(wanted)
        time.sleep(_WAIT_SECONDS)
    try:
        if not (folder / READY).is_file():
            _make(folder, wanted, partial(_uv, installer(), wanted, lock, stopped))
            (folder / READY).write_text(json.dumps({"packages": wanted.packages}), encoding="utf-8")
    finally:
        lock.release()


def _make(folder: Path, wanted: Requirements, uv: Callable[..., None]) -> None:
    python = folder / "bin" / "python"
    uv("venv", "--quiet", "--clear", "--python", sys.executable, str(folder))
    unmet = wanted.unmet
    packages = [package for package in wanted.packages if name_of(package) != "headrace" or package in unmet]
    if packages:
        options = [*_index_options(wanted), *wanted.options]
        uv("pip", "install", "--quiet", "--python", str(python), *options, *packages)
    places = [_brought_along(folder)]
    if len(packages) < len(wanted.packages):
        # A component that works with Headrace itself finds it, and all that it needs, behind its own packages.
        places += [str(Path(__file__).parents[2]), *site.getsitepackages()]
    packages_folder = next((folder / "lib").glob("python*/site-packages"))
    (packages_folder / "headrace-worker.pth").write_text("\n".join(places) + "\n", encoding="utf-8")


def _brought_along(folder: Path) -> str:
    """A folder that links to what a worker imports; it comes behind the environment's own packages."""
    place = folder / "worker"
    place.mkdir(exist_ok=True)
    for name in WORKER_MODULES:
        found = importlib.util.find_spec(name)
        assert found is not None
        assert found.origin is not None
        source = Path(found.origin)
        source = source.parent if source.name == "__init__.py" else source
        (place / source.name).unlink(missing_ok=True)
        (place / source.name).symlink_to(source)
    return str(place)


def _index_options(wanted: Requirements) -> list[str]:
    options = []
    for number, url in enumerate(wanted.index_urls):
        options += ["--default-index" if number == 0 else "--index", url]
    for host in filter(None, map(_host, wanted.trusted_hosts)):
        options += ["--allow-insecure-host", host]
    return options


def _host(trusted: str) -> str:
    """The host, and its port, of what pip is told to trust: the SDK gives whole URLs, of folders ("" here) as well."""
    return urlsplit(trusted).netloc.rpartition("@")[2] if "://" in trusted else trusted


def _uv(uv: str, wanted: Requirements, lock: FileLock, stopped: Callable[[], bool], *arguments: str) -> None:
    """Run uv. It keeps the lock, too: where this process dies, nobody else writes into the folder before uv is done."""
    surroundings = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    with subprocess.Popen(
        [uv, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=surroundings,
        pass_fds=[lock.descriptor], process_group=0,
    ) as process:  # fmt: skip
        said = ""
        while process.returncode is None:
            try:
                _, said = process.communicate(timeout=_WAIT_SECONDS)
            except subprocess.TimeoutExpired:
                if stopped():
                    os.killpg(process.pid, signal.SIGKILL)
    if process.returncode < 0:
        raise _interrupted(wanted)
    if process.returncode != 0:
        told = "\n".join(said.strip().splitlines()[-_LAST_LINES:])
        raise EnvironmentNotMadeError(
            f"the environment with {', '.join(wanted.packages)} cannot be made:\n{told}",
            remedy="Correct the component's packages_to_install or pip_index_urls, or look after the network.",
        )


def _interrupted(wanted: Requirements) -> MakingInterruptedError:
    return MakingInterruptedError(f"the making of the environment with {', '.join(wanted.packages)} was interrupted")
