import os
import subprocess
import sys

import click
import pytest

from headrace.cli.main import COMMANDS, cli

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


def _loaded_by(*arguments, **environment):
    """The modules that a command has imported by its end."""
    done = subprocess.run(
        [sys.executable, "-c", _LOADED_BY, *arguments], capture_output=True, text=True, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0
    loaded = set(done.stderr.split())
    assert "click" in loaded
    return loaded


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_loads_no_heavy_library(arguments):
    loaded = _loaded_by(*arguments)
    assert loaded & HEAVY == set()
    ours = {name for name in loaded if name.startswith("headrace.")}
    assert ours == {"headrace.cli", "headrace.cli.main", "headrace.errors"}


@pytest.mark.parametrize("name", ["runs", "approvals"])
def test_lists_load_no_heavy_library(tmp_path, name):
    assert _loaded_by(name, "list", HEADRACE_HOME=str(tmp_path / "home")) & HEAVY == set()


def _every_command(context=None):
    """The context of each command and group, in which it is called as on the command line."""
    context = context or click.Context(cli, info_name="headrace", **cli.context_settings)
    yield context
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            command = context.command.get_command(context, name)
            yield from _every_command(click.Context(command, parent=context, info_name=name))


def test_every_command_and_every_option_is_explained():
    for context in _every_command():
        text, command = context.get_help(), context.command
        assert text.startswith(f"Usage: {context.command_path}")
        assert command.help, context.command_path
        for option in (p for p in command.params if isinstance(p, click.Option)):
            assert option.help, f"{context.command_path} {option.opts}"
            assert all(word in text for word in option.opts)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_in_the_help_exists_and_explains_itself(name):
    done = _headrace(name, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"Usage: headrace {name}")


def test_every_command_prints_json_but_the_two_that_have_nothing_to_tell():
    without = {
        context.command_path.removeprefix("headrace ")
        for context in _every_command()
        if not isinstance(context.command, click.Group) and "json_" not in {p.name for p in context.command.params}
    }
    assert without == {"init", "up"}


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
