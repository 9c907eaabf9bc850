"""Unedited KFP code, called as functions after `headrace.local.init()`."""

from functools import partial
from pathlib import Path

import pytest
from kfp import dsl, local
from kfp.local import config, pipeline_orchestrator, task_dispatcher

import headrace.local
from headrace.errors import UnsupportedError
from headrace.runs.executors import container

component = partial(dsl.component, base_image="python:3.12")


@component
def add(a: int, b: int = 2) -> int:
    print("adding", a, "and", b)  # noqa: T201 - this is what is seen
    return a + b


@component
def write(text: str, data: dsl.Output[dsl.Dataset]):
    from pathlib import Path

    Path(data.path).write_text(text)
    data.metadata["letters"] = len(text)


@component
def read(data: dsl.Input[dsl.Dataset]) -> str:
    from pathlib import Path

    return Path(data.path).read_text() + str(data.metadata["letters"])


@component
def fail() -> int:
    raise RuntimeError("no luck")


@dsl.container_component
def shell():
    return dsl.ContainerSpec(image="alpine:3", command=["echo"], args=["hello"])


@dsl.pipeline
def total(n: int = 3) -> int:
    return add(a=add(a=n).output, b=10).output


@dsl.pipeline
def copied(text: str) -> dsl.Dataset:
    made = write(text=text)
    read(data=made.outputs["data"])
    return made.outputs["data"]


@dsl.pipeline
def inner():
    fail()


@dsl.pipeline
def outer():
    inner()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(config.LocalExecutionConfig, "instance", None)
    monkeypatch.setattr(pipeline_orchestrator, "run_local_pipeline", pipeline_orchestrator.run_local_pipeline)
    monkeypatch.setattr(task_dispatcher, "run_single_task", task_dispatcher.run_single_task)
    return tmp_path


def test_a_component_is_called_as_a_function_and_what_it_prints_is_seen(capsys):
    headrace.local.init()
    task = add(a=1)
    assert (task.output, task.outputs) == (3, {"Output": 3})
    said = capsys.readouterr().out
    assert said.startswith("    adding 1 and 2\n")
    assert "finished with status" in said


def test_a_pipeline_gives_its_outputs_and_is_a_run_like_every_other(folder, capsys):
    headrace.local.init(quiet=True)
    assert total(n=5).output == 17
    assert capsys.readouterr().out == ""
    assert (folder / ".headrace" / "headrace.db").is_file()


def test_an_artifact_is_the_object_of_the_sdk(folder):
    headrace.local.init(pipeline_root="out", quiet=True)
    data = copied(text="hello").output
    assert isinstance(data, dsl.Dataset)
    assert data.metadata == {"letters": 5}
    assert Path(data.path).read_text() == "hello"
    assert data.path.startswith(str(folder / "out"))


def test_a_failure_is_raised_in_the_words_of_kfp_local(capsys):
    headrace.local.init(local.SubprocessRunner(use_venv=False))
    with pytest.raises(RuntimeError, match=r"'outer'.* Inner task failed: .*'fail'.* inside .*'inner'"):
        outer()
    with pytest.raises(RuntimeError, match=r"Task .*'fail'.* finished with status .*FAILURE"):
        fail()
    assert "RuntimeError: no luck" in capsys.readouterr().out


def test_a_failure_can_be_left_to_the_caller():
    headrace.local.init(raise_on_error=False, quiet=True)
    assert fail().outputs == {}
    assert outer().outputs == {}


def test_what_cannot_run_here_is_refused_before_anything_runs(monkeypatch):
    monkeypatch.setattr(container, "find", lambda: None)
    headrace.local.init(quiet=True)
    with pytest.raises(UnsupportedError, match="component shell runs the container image alpine:3"):
        shell()
    headrace.local.init(quiet=True, run_on_host=True)
    assert shell().outputs == {}


def test_results_are_reused_when_that_is_asked_for(capsys):
    headrace.local.init(enable_caching=True)
    assert [total(n=1).output, total(n=1).output] == [13, 13]
    assert capsys.readouterr().out.count("is a cache hit") == 2


def test_without_init_nothing_runs():
    with pytest.raises(RuntimeError, match="Local environment not initialized"):
        total()
