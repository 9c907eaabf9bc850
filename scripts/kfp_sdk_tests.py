"""Run the KFP SDK's own tests of local execution with Headrace as the runner: `make conformance-sdk`.

The tests come with the source package of kfp on PyPI. The one that looks at the inside of the SDK's own runner, and not
at what it gives, is named below with the reason; another runs an image, where docker or podman can.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from headrace.runs.executors import container

TESTS = ("pipeline_orchestrator_test", "task_dispatcher_test", "importer_handler_test", "cache_test")
OF_THE_INSIDE: Mapping[str, str] = {
    "test_parallel_for_uses_iterator_policy_parallelism_limit": "replaces a class inside the SDK's own runner;"
    " tests/test_local.py has the same question for Headrace",
}
IN_A_CONTAINER = "test_fstring_container_component"
IMAGE = "alpine"
START_SECONDS = 120.0
PLUGIN = """
import kfp.local
import headrace.local
kfp.local.init = headrace.local.init
"""


def main() -> int:
    """The exit code of pytest."""
    left_out = {**OF_THE_INSIDE, **_without_container()}
    with tempfile.TemporaryDirectory(prefix="headrace-sdk-") as folder:
        root = Path(folder)
        # The tests look for the package of the specification where the repository has it.
        sdk = _source("kfp", root / "sdk" / "python")
        _source("kfp-pipeline-spec", root / "api" / "v2alpha1" / "python")
        (root / "headrace_runner.py").write_text(PLUGIN, encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "headrace_runner", "-p", "no:cacheprovider"]
        names = " and ".join(f"not {name}" for name in left_out)
        files = [f"kfp/local/{name}.py" for name in TESTS]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(sdk), str(root)])}
        done = subprocess.run([*command, "-W", "ignore", "-k", names, *files], cwd=sdk, env=environment, check=False)
    for name, why in left_out.items():
        sys.stdout.write(f"left out: {name} {why}\n")
    return done.returncode


def _without_container() -> dict[str, str]:
    """The test that runs an image, with the reason, where that cannot be done."""
    engine = container.find()
    if engine is None:
        return {IN_A_CONTAINER: f"runs the image {IMAGE}; neither docker nor podman is there (docs/pipelines.md)"}
    try:
        done = subprocess.run(
            [*engine.words, "--rm", IMAGE, "true"], capture_output=True, text=True, check=False, timeout=START_SECONDS
        )
    except subprocess.TimeoutExpired:
        return {IN_A_CONTAINER: f"runs the image {IMAGE}; {engine.words[0]} did not start it in time"}
    if done.returncode != 0:
        told = done.stderr.strip().splitlines() or ["it did not say why"]
        return {IN_A_CONTAINER: f"runs the image {IMAGE}; {engine.words[0]} cannot: {told[-1]}"}
    return {}


def _source(package: str, place: Path) -> Path:
    """Unpack the source package, in the version that is installed, to `place`."""
    wanted = f"{package}=={metadata.version(package)}"
    with tempfile.TemporaryDirectory() as folder:
        pip = ["tool", "run", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--dest", folder]
        subprocess.run([sys.executable, "-m", "uv", *pip, wanted], check=True)
        (archive,) = Path(folder).glob("*.tar.gz")
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")
        (unpacked,) = (one for one in Path(folder).iterdir() if one.is_dir())
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(unpacked, place)
    return place


if __name__ == "__main__":
    sys.exit(main())
