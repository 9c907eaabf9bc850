"""The environment of a task, and commands of container components as processes of this machine."""

import asyncio
import json
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest
from kfp import dsl

from headrace.clock import SystemClock
from headrace.contracts.pipeline_spec.document import messages
from headrace.errors import UnsupportedError
from headrace.runs import transitions
from headrace.runs.attempts import log_path
from headrace.runs.engine import Engine
from headrace.runs.model import RunOptions
from headrace.runs.work import task_environment

component = partial(dsl.component, base_image="python:3.12")
ON_HOST = RunOptions(run_on_host=True)


def environment(*variables, given=None):
    container = SimpleNamespace(env=[SimpleNamespace(name=name, value=value) for name, value in variables])
    return task_environment(given or {}, messages().ComponentSpec(), container)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("plain", "plain"),
        ("$(A)", "a"),
        ("<$(A)$(A)>", "<aa>"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$a"),
        ("$$$$(A)", "$$(A)"),
        ("$(UNKNOWN)", "$(UNKNOWN)"),
        ("$(LATER)", "$(LATER)"),
        ("$A ${A} `A` $", "$A ${A} `A` $"),
        ("$(A", "$(A"),
        ("$()", "$()"),
        ("$(EMPTY)|", "|"),
        ("$(DEFERRED)", "$(A)"),
        ("$(HOST)", "host"),
        ("", ""),
    ],
)
def test_a_variable_is_expanded_by_what_was_set_before_it(value, wanted):
    before = [("A", "a"), ("EMPTY", ""), ("DEFERRED", "$$(A)")]
    found = environment(*before, ("B", value), ("LATER", "later"), given={"HOST": "host"})
    assert found["B"] == wanted


def test_a_component_may_add_to_a_variable_that_is_there():
    assert environment(("PATH", "/opt:$(PATH)"), given={"PATH": "/bin"}) == {"PATH": "/opt:/bin"}


@dsl.container_component
def tell(said: dsl.OutputPath(dict), file: dsl.Output[dsl.Dataset]):
    return dsl.ContainerSpec(
        image="alpine:3",
        command=["sh", "-ec"],
        args=[
            'printf \'{"greeting": "%s", "python": "%s", "pwd": "%s", "run": "%s"}\''
            ' "$GREETING" "$(command -v python)" "$PWD" "$HEADRACE_RUN_ID" > "$0"; cat > "$1"; echo told',
            said, file.path,
        ],
    )  # fmt: skip


class Told(NamedTuple):
    said: dict
    file: dsl.Dataset


@dsl.pipeline
def telling() -> Told:
    done = tell().set_env_variable("WHO", "Ann").set_env_variable("GREETING", "hello $(WHO)")
    return Told(done.outputs["said"], done.outputs["file"])


def test_a_command_on_the_host_has_the_tasks_environment_folder_and_log(runner, compiled, home):
    result = runner.run(compiled(telling), options=ON_HOST)
    assert result.state == "SUCCEEDED", result.error
    folder = home.artifacts / result.run_id / "tell" / "1"
    assert result.outputs["said"] == {
        "greeting": "hello Ann", "python": str(Path(sys.executable).parent / "python"), "pwd": str(folder / "work"),
        "run": result.run_id,
    }  # fmt: skip
    assert Path(result.artifacts["file"][0]["uri"]).read_text() == ""
    assert log_path(home, result.run_id, "tell", 1).read_text() == "told\n"


@dsl.container_component
def run_program(program: str, script: str):
    return dsl.ContainerSpec(image="alpine:3", command=[program], args=["-c", script])


@dsl.pipeline
def running(program: str, script: str):
    run_program(program=program, script=script)


@pytest.mark.parametrize(
    ("program", "script", "message"),
    [
        ("sh", "exit 3", "the command sh ended with exit code 3"),
        ("sh", "kill -TERM $$", "the command sh was killed by SIGTERM"),
        ("no-such-program", "", "the command no-such-program cannot be started: No such file or directory"),
        ("/etc", "", "the command /etc cannot be started: Permission denied"),
    ],
)
def test_a_command_on_the_host_that_ends_badly_fails_its_task(runner, compiled, program, script, message):
    result = runner.run(compiled(running), {"program": program, "script": script}, options=ON_HOST)
    assert (result.state, result.error) == ("FAILED", f"task run-program: {message}")


def test_what_a_command_leaves_running_ends_with_it(runner, compiled, gone, tmp_path):
    script = f"sleep 600 & echo $! > {tmp_path}/pid"
    result = runner.run(compiled(running), {"program": "sh", "script": script}, options=ON_HOST)
    assert result.state == "SUCCEEDED", result.error
    gone([int((tmp_path / "pid").read_text())])


def test_a_command_of_a_cancelled_run_ends(runner, compiled, database, home, gone, tmp_path):
    pid = tmp_path / "pid"
    script = f"echo $$ > {pid}.new; mv {pid}.new {pid}; sleep 600; echo later"
    created = runner.create(compiled(running), {"program": "sh", "script": script}, options=ON_HOST)

    async def scenario():
        engine = Engine(home=home, database=database, clock=SystemClock(), environment={})
        driving = asyncio.create_task(engine.drive(created))
        async with asyncio.timeout(60):
            while not pid.exists():
                await asyncio.wait([driving], timeout=0.01)
        transitions.request_cancel(database, created, actor="user:ann", reason="", at=2e9)
        await driving

    asyncio.run(scenario())
    gone([int(pid.read_text())])
    assert runner.result(created).state == "CANCELED"


@component
def plain() -> str:
    return "plain"


@dsl.component(base_image="python:3.12", target_image="example/image:1")
def in_an_image() -> str:
    return "image"


@dsl.pipeline
def mixed():
    plain()
    in_an_image()


def test_python_code_that_is_in_an_image_is_not_on_the_host(runner, compiled):
    with pytest.raises(UnsupportedError, match="component in-an-image needs the container image example/image:1"):
        runner.create(compiled(mixed), options=ON_HOST)
    assert runner.database.query("SELECT * FROM run") == []


@component
def status_of(status: dsl.PipelineTaskFinalStatus) -> str:
    return status.state


@component
def end(well: bool):
    if not well:
        raise ValueError("no")


@dsl.pipeline
def guarded(well: bool):
    with dsl.ExitHandler(status_of()):
        end(well=well)


@pytest.mark.parametrize(
    ("well", "oss_parity", "word"),
    [(True, False, "SUCCEEDED"), (True, True, "COMPLETE"), (False, False, "FAILED"), (False, True, "FAILED")],
)
def test_success_has_the_word_of_the_specification_or_that_of_the_open_source_backend(
    runner, compiled, database, well, oss_parity, word
):
    result = runner.run(compiled(guarded), {"well": well}, options=RunOptions(oss_parity=oss_parity))
    assert result.tasks["status-of"]["outputs"] == {"Output": word}
    (row,) = database.query("SELECT options FROM run")
    assert json.loads(row["options"])["oss_parity"] is oss_parity
