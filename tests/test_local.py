"""Unedited KFP code, called as functions after `headrace.local.init()`."""

import io
import json
import os
import re
import shutil
import signal
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from google.protobuf import json_format
from kfp import components, dsl, local
from kfp.local import config, pipeline_orchestrator, task_dispatcher

import headrace.local
from headrace.cli import follow
from headrace.errors import HeadraceError, UnsupportedError
from headrace.processes import alive
from headrace.project import wiring
from headrace.runs.executors import container
from headrace.runs.rerun import rerun

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


@component
def folder_of(names: list, many: dsl.Output[dsl.Artifact], note: dsl.OutputPath(str)):
    from pathlib import Path

    for name in names:
        file = Path(many.path) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    Path(many.path + ".list").write_text(" ".join(names))
    Path(note).write_text("written")


@component
def returned(text: str) -> dsl.Dataset:
    from pathlib import Path

    made = dsl.Dataset(uri=dsl.get_uri("other"), metadata={"root": dsl.get_uri()})
    Path(made.path).write_text(text)
    return made


@component
def alone(folder: str, name: str) -> int:
    import time
    from pathlib import Path

    mine = Path(folder) / name
    mine.touch()
    time.sleep(0.2)
    found = len(list(Path(folder).iterdir()))
    mine.unlink()
    return found


@component
def around(path: str) -> list:
    from pathlib import Path

    import beside

    Path("written.txt").write_text("written")
    return [Path(path).read_text(), beside.WORD, str(Path.cwd())]


@component
def waiting(answer: str) -> bool:
    import logging
    import time
    from pathlib import Path

    logging.info("ready for %d", 1)
    for _ in range(600):
        if Path(answer).exists():
            print("answered")  # noqa: T201 - this is what is seen
            return True
        time.sleep(0.1)
    return False


@component(packages_to_install=["/no/such/package.whl"])
def unfounded():
    pass


@component
def told(root: str) -> str:
    return root


@dsl.pipeline
def rooted() -> str:
    return told(root=dsl.PIPELINE_ROOT_PLACEHOLDER).output


@dsl.pipeline
def in_loops(words: list) -> list[dsl.Dataset]:
    with dsl.ParallelFor(words) as word:
        made = write(text=word)
    return dsl.Collected(made.outputs["data"])


@dsl.pipeline
def nested():
    copied(text="one")
    copied(text="two")


class Pair(NamedTuple):
    first: dsl.Dataset
    second: dsl.Dataset


@dsl.pipeline
def twice() -> Pair:
    return Pair(write(text="one").outputs["data"], write(text="two").outputs["data"])


@dsl.pipeline
def one_by_one(folder: str) -> list:
    with dsl.ParallelFor(["a", "b", "c", "d"], parallelism=1) as name:
        counted = alone(folder=folder, name=name)
    return dsl.Collected(counted.output)


@dsl.pipeline
def inner():
    fail()


@dsl.pipeline
def failing_loop():
    with dsl.ParallelFor(["a"]):
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
    said = re.sub(r"\x1b\[\d+m|\d\d:\d\d:\d\d\.\d\d\d - |-{10,}\n", "", capsys.readouterr().out)
    # What the SDK's executor says of itself, the input in many lines.
    of_itself = r"    \[KFP Executor [^]]* INFO\]: (.*)\n"
    words = ["Looking for component", "Loading KFP component", "Got executor_input:", "Wrote executor output file to"]
    assert [line.startswith(word) for line, word in zip(re.findall(of_itself, said), words, strict=True)] == [True] * 4
    assert re.sub(r"    \{\n.*?\n    \}\n", "", re.sub(of_itself, "", said), flags=re.DOTALL) == (
        "INFO - Executing task 'add'\nINFO - Streamed logs:\n\n    adding 1 and 2\n\n"
        "INFO - Task 'add' finished with status SUCCESS\nINFO - Task 'add' outputs:\n    Output: 3\n"
    )


def test_a_running_task_is_seen_and_what_it_logs_too(folder, monkeypatch):
    class Answering(io.StringIO):
        """A terminal at which somebody answers."""

        def write(self, text):
            if "ready for 1" in text:
                (folder / "answer").touch()
            return super().write(text)

    monkeypatch.setattr("sys.stdout", terminal := Answering())
    headrace.local.init()
    assert waiting(answer=str(folder / "answer")).output is True
    assert re.search(r"\n    \[KFP Executor .* INFO\]: ready for 1\n    answered\n", terminal.getvalue())


def test_a_call_that_is_interrupted_ends_at_once_with_its_tasks(folder, monkeypatch):
    class Interrupting(io.StringIO):
        """A terminal at which somebody presses Ctrl-C."""

        def write(self, text):
            if "ready for 1" in text:
                signal.raise_signal(signal.SIGINT)
            return super().write(text)

    monkeypatch.setattr("sys.stdout", Interrupting())
    headrace.local.init()
    with pytest.raises(KeyboardInterrupt):
        waiting(answer=str(folder / "answer"))
    database = wiring.build().database
    (attempt,) = database.query("SELECT state, pid, process_created FROM attempt")
    database.close()
    # It has not been done, and the next engine begins it anew.
    assert (attempt["state"], alive(attempt["pid"], attempt["process_created"])) == ("RUNNING", False)


def test_a_component_works_in_the_folder_of_its_caller_and_imports_from_there(folder):
    (folder / "data.txt").write_text("read")
    (folder / "beside.py").write_text("WORD = 'imported'")
    headrace.local.init(quiet=True)
    assert around(path="data.txt").output == ["read", "imported", str(folder)]
    assert (folder / "written.txt").read_text() == "written"


def test_a_run_whose_folder_is_gone_is_done_again_and_says_so(folder, monkeypatch):
    monkeypatch.setenv("HEADRACE_HOME", str(folder / "home"))
    (folder / "gone").mkdir()
    monkeypatch.chdir(folder / "gone")
    headrace.local.init(quiet=True, pipeline_root=str(folder / "outputs"))
    assert add(a=1).output == 3
    monkeypatch.chdir(folder)
    shutil.rmtree(folder / "gone")
    platform = wiring.build()
    (first,) = platform.database.query("SELECT id FROM run")
    again = rerun(platform.database, platform.home, first["id"], actor="user:ann", at=2e9, begin=["add"])
    assert follow.watch(platform, again, quiet=True) == "FAILED"
    (task,) = platform.database.query("SELECT message FROM task WHERE run_id = ?", (again,))
    platform.database.close()
    assert f"headrace.local was called in, {folder / 'gone'}, is not there" in task["message"]


def test_why_a_task_could_not_start_is_seen(capsys):
    headrace.local.init(raise_on_error=False)
    assert unfounded().outputs == {}
    assert "the environment with /no/such/package.whl cannot be made" in capsys.readouterr().out


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
    (run,) = (folder / "out").iterdir()
    assert run.name.startswith("copied-2")
    assert data.path == str(run / "write" / "data")
    assert sorted(task.name for task in run.iterdir()) == ["read", "write"]


def test_outputs_lie_where_kfp_local_puts_them(folder):
    headrace.local.init(quiet=True)
    data = folder_of(names=["a", "b/c"]).outputs["many"]
    (run,) = (folder / "local_outputs").iterdir()
    assert run.name.startswith("folder-of-2")
    assert data.path == str(run / "folder-of" / "many")
    assert Path(data.path, "b", "c").read_text() == "b/c"
    assert Path(data.path + ".list").read_text() == "a b/c"
    assert (run / "folder-of" / "note").read_text() == "written"


def test_an_artifact_that_a_component_returns_lies_where_it_says(folder):
    headrace.local.init(quiet=True)
    data = returned(text="hello").output
    (run,) = (folder / "local_outputs").iterdir()
    assert data.path == str(run / "returned" / "other")
    assert Path(data.path).read_text() == "hello"
    assert Path(data.metadata["root"]).name == "Output"


def test_each_iteration_has_a_folder_of_its_own_and_each_nested_task_one_beside_the_others(folder):
    headrace.local.init(quiet=True)
    made = in_loops(words=["a", "b"]).output
    (run,) = (folder / "local_outputs").iterdir()
    assert [data.path for data in made] == [str(run / f"for-loop-1-iteration-{n}" / "write" / "data") for n in range(2)]
    assert [Path(data.path).read_text() for data in made] == ["a", "b"]
    assert [Path(data.path).read_text() for data in in_loops(words=["c"]).output] == ["c"]
    shutil.rmtree(folder / "local_outputs")
    nested()
    (run,) = (folder / "local_outputs").iterdir()
    assert sorted(task.name for task in run.iterdir()) == ["read", "read-2", "write", "write-2"]
    assert (run / "write-2" / "data").read_text() in ("one", "two")


def test_two_tasks_of_one_component_do_not_write_over_each_other(folder):
    document = json_format.MessageToDict(twice.pipeline_spec)
    document["root"]["dag"]["tasks"]["write-2"]["componentRef"]["name"] = "comp-write"
    headrace.local.init(quiet=True)
    made = components.load_component_from_text(json.dumps(document))().outputs
    assert [Path(made[name].path).read_text() for name in ("first", "second")] == ["one", "two"]
    (run,) = (folder / "local_outputs").iterdir()
    assert len(list(run.iterdir())) == 2


def test_a_loop_keeps_to_its_parallelism(folder):
    (folder / "open").mkdir()
    headrace.local.init(quiet=True)
    assert one_by_one(folder=str(folder / "open")).output == [1, 1, 1, 1]


def test_what_is_deleted_or_replaced_below_the_pipeline_root_is_still_in_the_cache(folder):
    headrace.local.init(quiet=True, enable_caching=True)
    first = Path(copied(text="hello").output.path)
    assert first.samefile(next((folder / ".headrace").rglob("write/1/artifacts/data")))
    first.unlink()
    first.write_text("something else")
    second = Path(copied(text="hello").output.path)
    assert second.parents[1] != first.parents[1]
    assert second.read_text() == "hello"
    shutil.rmtree(folder / "local_outputs")
    third = copied(text="hello").output
    assert Path(third.path).read_text() == "hello"
    assert third.path.startswith(str(folder / "local_outputs"))


def test_what_was_written_into_below_the_pipeline_root_is_not_reused(folder):
    headrace.local.init(quiet=True, enable_caching=True)
    first = Path(copied(text="hello").output.path)
    with first.open("a") as file:
        file.write(" and more")
    assert Path(copied(text="hello").output.path).read_text() == "hello"


def test_outputs_are_copied_where_they_cannot_be_linked(folder, monkeypatch):
    def refused(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refused)
    headrace.local.init(quiet=True)
    data = copied(text="hello").output
    assert Path(data.path).read_text() == "hello"
    assert Path(data.path).stat().st_nlink == 1


def test_a_pipeline_root_that_cannot_be_written_is_told(folder):
    (folder / "out").write_text("a file")
    headrace.local.init(pipeline_root="out", quiet=True)
    with pytest.raises(HeadraceError, match=r"outputs cannot be put below the pipeline root.*Not a directory"):
        copied(text="hello")


def test_tasks_are_told_the_pipeline_root(folder):
    headrace.local.init(pipeline_root="out", quiet=True)
    assert rooted().output == str(folder / "out")


def test_a_failure_is_raised_in_the_words_of_kfp_local(capsys):
    headrace.local.init(local.SubprocessRunner(use_venv=False))
    with pytest.raises(RuntimeError, match=r"'outer'.* Inner task failed: .*'fail'.* inside .*'inner'"):
        outer()
    with pytest.raises(RuntimeError, match=r"Inner task failed: .*'fail'.* inside .*'for-loop-2-iteration-0'"):
        failing_loop()
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
