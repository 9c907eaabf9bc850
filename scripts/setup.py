"""Make the development environment: `python3 scripts/setup.py .venv`.

Only the standard library is used. uv does the work: the one on the PATH, or one that is installed into `.tools` first.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

FLOOR = (3, 11)


def main(environment: str) -> int:
    """Create `environment` from uv.lock and say how long it took."""
    if sys.version_info < FLOOR:
        found = ".".join(map(str, sys.version_info[:3]))
        return refuse(f"Python {found} is too old: install Python 3.11 or later, then run: make PYTHON=python3.11 …")
    started = time.monotonic()
    print("Setting up (once): about 900 MB of packages …", flush=True)
    uv = shutil.which("uv") or install_uv(Path(".tools"))
    if uv is None:
        return 1
    done = subprocess.run(
        [uv, "sync", "--frozen", "--quiet", "--compile-bytecode", "--python", sys.executable],
        env={**os.environ, "UV_PROJECT_ENVIRONMENT": environment, "UV_PYTHON_DOWNLOADS": "never"},
        check=False,
    )
    if done.returncode != 0:
        return refuse("uv could not install the packages; its message is above.")
    took = time.monotonic() - started
    (Path(environment) / ".ready").write_text(f"{took:.1f}\n")  # for the demo's report; make looks at its time
    print(f"Set up in {took:.0f} s.", flush=True)
    return 0


def install_uv(folder: Path) -> str | None:
    """Install uv into a virtual environment of its own; None, and the remedy printed, when that cannot be."""
    if not (folder / "bin" / "python").exists():
        done = subprocess.run([sys.executable, "-m", "venv", str(folder)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            shutil.rmtree(folder, ignore_errors=True)
            refuse("Python has no venv here. On Debian: apt-get install python3-venv. Then try again.")
            return None
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "uv>=0.9"]
    if subprocess.run(pip, check=False).returncode != 0:
        refuse("pip could not install uv; its message is above.")
        return None
    return str(folder / "bin" / "uv")


def refuse(message: str) -> int:
    """Say what is wrong and return the exit code."""
    print(f"error: {message}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
