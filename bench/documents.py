"""The KFP pipelines of the benchmark, compiled once."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parent / "pipelines.py"
NAMES = ("chain", "wide", "frames")
_COMPILE = """
import sys, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, sys.argv[1])
import pipelines
from kfp import compiler
for name in sys.argv[3:]:
    compiler.Compiler().compile(getattr(pipelines, name), f"{sys.argv[2]}/{name}.yaml")
"""


def compiled(folder: Path) -> Path:
    """The folder, with NAME.yaml for each pipeline and their source in it."""
    folder.mkdir(parents=True, exist_ok=True)
    if not all((folder / f"{name}.yaml").exists() for name in NAMES):
        # In a process of its own: what the SDK loads must not be in the memory of what is measured.
        subprocess.run([sys.executable, "-c", _COMPILE, str(SOURCE.parent), str(folder), *NAMES], check=True)
    shutil.copy(SOURCE, folder / "pipelines.py")
    return folder
