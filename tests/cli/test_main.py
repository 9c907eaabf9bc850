import subprocess
import sys

import pytest

from headrace.cli.main import COMMANDS

HEAVY = {
    "great_expectations", "httpx", "kfp", "matplotlib", "mlflow", "numpy", "pandas", "pyarrow", "rich", "scipy",
    "sklearn", "starlette", "uvicorn", "yaml",
}  # fmt: skip

_LOADED_BY = """
import sys
sys.argv = ["headrace", *sys.argv[1:]]
from headrace.cli import main
try:
    main.main()
finally:
    print(*sys.modules, file=sys.stderr)
"""


def _headrace(*arguments, **more):
    return subprocess.run(
        [sys.executable, "-m", "headrace.cli.main", *arguments], capture_output=True, text=True, check=False, **more
    )


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_loads_no_heavy_library(arguments):
    done = subprocess.run([sys.executable, "-c", _LOADED_BY, *arguments], capture_output=True, text=True, check=False)
    loaded = set(done.stderr.split())
    assert done.returncode == 0
    assert "click" in loaded
    assert loaded & HEAVY == set()
    ours = {name for name in loaded if name.startswith("headrace.")}
    assert ours == {"headrace.cli", "headrace.cli.main", "headrace.errors"}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_in_the_help_exists_and_explains_itself(name):
    done = _headrace(name, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"Usage: headrace {name}")


def test_a_mistyped_command_is_told_the_right_one():
    done = _headrace("rnu")
    assert done.returncode == 2
    assert 'Did you mean "run"?' in done.stderr
    assert "Traceback" not in done.stderr


def test_errors_name_the_remedy_and_show_a_traceback_only_on_request(tmp_path):
    (tmp_path / "headrace.toml").write_text("[project\n")
    plain = _headrace("run", "x", cwd=tmp_path)
    assert plain.returncode == 2
    assert plain.stderr.startswith(f"error: {tmp_path}/headrace.toml:1: not valid TOML")
    assert "Traceback" not in plain.stderr
    debug = _headrace("--debug", "run", "x", cwd=tmp_path)
    assert debug.returncode == 2
    assert "Traceback" in debug.stderr
