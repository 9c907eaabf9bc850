"""Make the environment of other people's clients: `python scripts/serving_clients.py FOLDER`.

They want other versions of packages than Headrace does, so they live apart from it.
"""

import os
import subprocess
import sys
from pathlib import Path

PACKAGES = ["kserve==0.21.0", "kubernetes<36", "tritonclient[http,grpc]==2.73.0"]


def main(folder: Path) -> int:
    """Create it when it is not there; the exit code."""
    python = folder / "bin" / "python"
    if (folder / ".ready").exists():
        return 0
    found = [Path(".tools/bin/uv"), Path(sys.executable).parent / "uv"]
    uv = next((str(one) for one in found if one.exists()), "uv")
    environment = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    for command in (
        [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)],
        [uv, "pip", "install", "--quiet", "--python", str(python), *PACKAGES],
    ):
        done = subprocess.run(command, env=environment, check=False)
        if done.returncode != 0:
            return done.returncode
    (folder / ".ready").touch()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
