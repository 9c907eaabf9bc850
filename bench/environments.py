"""The peers' environments: one each, made by uv from the versions in peers.toml, kept in a cache folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("HEADRACE_BENCH_CACHE") or Path.home() / ".cache" / "headrace-bench")


@dataclass(frozen=True)
class Environment:
    """A peer's interpreter and version; `problem` says why there is none."""

    python: Path
    version: str = ""
    problem: str = ""


def pinned(file: Path = HERE / "peers.toml") -> dict[str, list[str]]:
    """What is installed for each peer; the first is the peer itself."""
    with file.open("rb") as stream:
        return {name: entry["packages"] for name, entry in tomllib.load(stream).items()}


def make(name: str, file: Path = HERE / "peers.toml") -> Environment:
    """The environment of a peer, made when it is not there or was made for other versions."""
    packages = pinned(file)[name]
    folder = CACHE / name
    python = folder / "bin" / "python"
    version = packages[0].rpartition("==")[2]
    ready = folder / "packages.json"
    if ready.exists() and json.loads(ready.read_text()) == packages:
        return Environment(python, version)
    print(f"installing {packages[0]} …", file=sys.stderr, flush=True)
    problem = _install(folder, python, packages)
    if not problem:
        ready.write_text(json.dumps(packages))
    return Environment(python, version, problem)


def _install(folder: Path, python: Path, packages: list[str]) -> str:
    uv = shutil.which("uv") or str(Path(".tools/bin/uv").resolve())
    quiet = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    for command in (
        [uv, "venv", "--quiet", "--clear", "--seed", "--python", sys.executable, str(folder)],
        [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(python), *packages],
    ):
        done = subprocess.run(command, env=quiet, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            lines = [line.strip() for line in done.stderr.splitlines() if line.strip() and "WARNING" not in line]
            return "does not install: " + " ".join(lines)[:300]
    return ""
