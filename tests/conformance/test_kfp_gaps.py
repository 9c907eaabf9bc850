"""The contract where no golden looks: pipelines of our own, by KFP's compiler, through the real engine."""

import re
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple, Optional

import pytest
from kfp import dsl

from headrace.runs.model import RunOptions

component = partial(dsl.component, base_image="python:3.12")


@component
def word(text: str) -> str:
    return text


@component
def shown(value: list) -> str:
    return repr(value)


@component
def shown_dict(value: dict) -> str:
    return repr(value)


def outputs(result):
    assert result.state == "SUCCEEDED", result.error
    return result.outputs


def said(result):
    """What the tasks named word… gave, in the order of their paths."""
    assert result.state == "SUCCEEDED", result.error
    names = sorted(path for path in result.tasks if path.rpartition("/")[2].startswith("word"))
    return [result.tasks[name]["outputs"]["Output"] for name in names]


# Caching


class KeyedOutputs(NamedTuple):
    numbers: list
    files: list


@dsl.pipeline
def keyed(text: str, key: str = "") -> str:
    return word(text=text).set_caching_options(True, cache_key="season-1").output


@dsl.pipeline
def keyed_elsewhere(text: str) -> str:
    return word(text=text).set_caching_options(True, cache_key="season-1").output


def test_a_cache_key_of_the_author_stands_for_all_inputs(run):
    assert outputs(run(keyed, text="first")) == {"Output": "first"}
    again = run(keyed, text="second")
    assert outputs(again) == {"Output": "first"}
    assert again.tasks["word"]["cached"]
    assert outputs(run(keyed, caching=False, text="third")) == {"Output": "third"}


def test_a_cache_key_of_the_author_is_the_pipelines_own(run):
    assert outputs(run(keyed, text="first")) == {"Output": "first"}
    assert outputs(run(keyed_elsewhere, text="second")) == {"Output": "second"}


# Loops and Collected


@component
def upto(n: int) -> list[int]:
    return list(range(n))


@component
def number(n: int) -> int:
    return n


@component
def joined(a: str, b: str) -> str:
    return f"{a}-{b}"


@component
def save(text: str, file: dsl.Output[dsl.Dataset]):
    from pathlib import Path

    Path(file.path).write_text(text)
    file.metadata["length"] = len(text)


@component
def read_all(files: dsl.Input[list[dsl.Dataset]]) -> list:
    from pathlib import Path

    return [[Path(file.path).read_text(), file.metadata["length"]] for file in files]


@dsl.pipeline
def over_nothing() -> KeyedOutputs:
    with dsl.ParallelFor(upto(n=0).output) as item:
        one = number(n=item)
        file = save(text=f"{item}")
    return KeyedOutputs(dsl.Collected(one.output), read_all(files=dsl.Collected(file.outputs["file"])).output)


def test_a_loop_over_nothing_gives_empty_lists(run):
    assert outputs(run(over_nothing)) == {"numbers": [], "files": []}


class OverSomeOutputs(NamedTuple):
    numbers: str
    files: list


@dsl.pipeline
def over_some() -> OverSomeOutputs:
    with dsl.ParallelFor([1, 2, 3, 4]) as item:
        same = number(n=item)
        with dsl.If(same.output > 2):
            one = number(n=same.output)
            file = save(text=f"file {same.output}")
    numbers = shown(value=dsl.Collected(one.output)).output
    return OverSomeOutputs(numbers, read_all(files=dsl.Collected(file.outputs["file"])).output)


def test_iterations_whose_branch_was_not_taken_are_left_out(run):
    assert outputs(run(over_some)) == {"numbers": "[3, 4]", "files": [["file 3", 6], ["file 4", 6]]}


class NestedOutputs(NamedTuple):
    numbers: str
    files: list


@dsl.pipeline
def nested() -> NestedOutputs:
    with dsl.ParallelFor(["a", "b"]) as letter, dsl.ParallelFor(["1", "2"]) as digit:
        one = word(text=digit)
        file = save(text=joined(a=letter, b=digit).output)
    return NestedOutputs(
        shown(value=dsl.Collected(one.output)).output, read_all(files=dsl.Collected(file.outputs["file"])).output
    )


def test_nested_loops_collect_lists_of_lists_and_one_flat_list_of_artifacts(run):
    files = [["a-1", 3], ["a-2", 3], ["b-1", 3], ["b-2", 3]]
    assert outputs(run(nested)) == {"numbers": "[['1', '2'], ['1', '2']]", "files": files}


def test_with_the_open_source_backend_they_are_one_flat_list_too(runner, compiled):
    result = runner.run(compiled(nested), options=RunOptions(oss_parity=True))
    assert outputs(result)["numbers"] == "['1', '2', '1', '2']"


@component
def split() -> NamedTuple("Parts", [("table", list)]):
    return ([{"label": "x", "sizes": ["1", "2"]}, {"label": "y", "sizes": []}],)


@dsl.pipeline
def over_fields():
    with dsl.ParallelFor(split().outputs["table"]) as row:
        word(text=row.label)
        with dsl.ParallelFor(row.sizes) as size:
            word(text=size)
    with dsl.ParallelFor([{"names": ["p", "q"]}, {"names": []}]) as fixed:
        with dsl.ParallelFor(fixed.names) as name:
            word(text=name)
        shown(value=fixed.names)


def test_loops_go_over_a_field_of_what_another_loop_goes_over(run):
    result = run(over_fields)
    assert sorted(said(result)) == ["1", "2", "p", "q", "x", "y"]
    lists = [task["outputs"]["Output"] for task in result.tasks.values() if task["component"] == "comp-shown"]
    assert sorted(lists) == ["['p', 'q']", "[]"]


# Conditions


@component
def judged(text: str) -> NamedTuple("Judged", [("text", str), ("flag", bool), ("score", float), ("count", int)]):
    return (text, text == "", float(len(text)), len(text))


LITERAL = '"so" {{$.x}} über $(A)'


@dsl.pipeline
def quoted(text: str, other: str):
    one = judged(text=text)
    with dsl.If(one.outputs["text"] == other):
        word(text="same")
    with dsl.Else():
        word(text="other")
    with dsl.If(one.outputs["text"] == LITERAL):
        word(text="literal")
    with dsl.If(one.outputs["flag"] == False):  # noqa: E712 - KFP builds a condition from it
        word(text="flag")
    with dsl.If(one.outputs["score"] >= 2.5):
        word(text="score")
    with dsl.If(one.outputs["count"] != 0):
        word(text="count")


@pytest.mark.parametrize(
    ("text", "other", "wanted"),
    [
        ("it's", "it's", ["count", "flag", "same", "score"]),
        ('"', "'", ["count", "flag", "other"]),
        ("", "", ["same"]),
        (LITERAL, "x", ["count", "flag", "literal", "other", "score"]),
        ("true", "True", ["count", "flag", "other", "score"]),
        ("1", "1.0", ["count", "flag", "other"]),
        ("' || true || '", "a", ["count", "flag", "other", "score"]),
    ],
)
def test_conditions_hold_for_any_text_of_any_output(run, text, other, wanted):
    assert sorted(said(run(quoted, text=text, other=other))) == wanted


# Artifacts


@component
def make_folder(folder: dsl.Output[dsl.Artifact], empty: dsl.Output[dsl.Artifact]):
    from pathlib import Path

    for name in ("a.txt", "deep/b.txt"):
        place = Path(folder.path, name)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(name)
    Path(empty.path).mkdir()


@component
def list_folder(folder: dsl.Input[dsl.Artifact], empty: dsl.Input[dsl.Artifact]) -> list:
    from pathlib import Path

    files = sorted(str(path.relative_to(folder.path)) for path in Path(folder.path).rglob("*"))
    return [files, [str(path) for path in Path(empty.path).iterdir()]]


@dsl.pipeline
def folders() -> list:
    made = make_folder()
    return list_folder(folder=made.outputs["folder"], empty=made.outputs["empty"]).output


def test_a_folder_is_an_artifact_and_comes_from_the_cache_whole(run):
    for cached in (False, True):
        result = run(folders)
        assert outputs(result) == {"Output": [["a.txt", "deep", "deep/b.txt"], []]}
        assert [bool(task["cached"]) for task in result.tasks.values()] == [cached, cached]


@component
def at_own_place() -> dsl.Dataset:
    from pathlib import Path

    from kfp import dsl

    place = dsl.Dataset(uri=dsl.get_uri("table"), metadata={"rows": 2})
    Path(place.path).write_text("own")
    return place


@component
def read_one(file: dsl.Input[dsl.Dataset]) -> str:
    from pathlib import Path

    return f"{Path(file.path).read_text()} {file.metadata['rows']}"


@dsl.pipeline
def placed() -> str:
    one, two = at_own_place(), at_own_place().set_caching_options(False)
    read_one(file=two.output)
    return read_one(file=one.output).output


def test_a_component_may_choose_a_place_for_its_artifact_below_its_task(run, home):
    result = run(placed)
    assert outputs(result) == {"Output": "own 2"}
    rows = result.tasks
    assert {rows[name]["outputs"]["Output"] for name in ("read-one", "read-one-2")} == {"own 2"}


@component
def maybe(file: dsl.Input[dsl.Dataset] = None, text: Optional[str] = None, n: int = 7) -> str:  # noqa: UP045
    return f"{'none' if file is None else file.name} {text} {n}"


@dsl.pipeline
def inner(file: dsl.Input[dsl.Dataset] = None, text: Optional[str] = None) -> str:  # noqa: UP045
    return maybe(file=file, text=text).output


class OptionalOutputs(NamedTuple):
    without: str
    given: str


@dsl.pipeline
def optional() -> OptionalOutputs:
    saved = save(text="a")
    return OptionalOutputs(inner().output, inner(file=saved.outputs["file"], text="said").output)


def test_an_inner_pipeline_need_not_be_given_its_optional_artifact(run):
    assert outputs(run(optional)) == {"without": "none None 7", "given": "file said 7"}


# Values


class WholeNumbersOutputs(NamedTuple):
    things: str
    table: str
    made: str


@dsl.pipeline
def whole_numbers(
    things: list = [1, 2.5, {"n": 3, "m": [4]}],  # noqa: B006 - it is the default of a pipeline's parameter
    table: dict = {"a": 1, "b": [2, 2.0], "c": {"d": -0.0}},  # noqa: B006
) -> WholeNumbersOutputs:
    return WholeNumbersOutputs(
        shown(value=things).output, shown_dict(value=table).output, shown(value=upto(n=3).output).output
    )


def test_whole_numbers_in_lists_and_dicts_stay_whole(run):
    assert outputs(run(whole_numbers)) == {
        "things": "[1, 2.5, {'m': [4], 'n': 3}]", "table": "{'a': 1, 'b': [2, 2], 'c': {'d': 0}}", "made": "[0, 1, 2]",
    }  # fmt: skip


class ComposedOutputs(NamedTuple):
    things: str
    table: str


@dsl.pipeline
def composed(text: str, n: int) -> ComposedOutputs:
    given = word(text=text)
    counted = number(n=n)
    table = {
        "text": given.output,
        "n": [counted.output, f"{counted.output}-{text}"],
        "job": dsl.PIPELINE_JOB_ID_PLACEHOLDER,
    }
    return ComposedOutputs(shown(value=[given.output, counted.output, {"n": n}]).output, shown_dict(value=table).output)


def test_outputs_inside_lists_and_dicts_are_filled_in_and_keep_their_types(run):
    result = run(composed, text="a 'b' {{$.pipeline_root}}", n=5)
    told = "a 'b' {{$.pipeline_root}}"
    assert outputs(result) == {
        "things": repr([told, 5, {"n": 5}]), "table": repr({"job": result.run_id, "n": [5, f"5-{told}"], "text": told}),
    }  # fmt: skip


# Job placeholders


@component
def told(texts: list, name: str, again: str) -> list:
    return [*texts, name, again]


class AboutTheJobOutputs(NamedTuple):
    told: list
    looped: list


@dsl.pipeline
def about_the_job() -> AboutTheJobOutputs:
    texts = [
        dsl.PIPELINE_JOB_CREATE_TIME_UTC_PLACEHOLDER, dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER,
        dsl.PIPELINE_JOB_ID_PLACEHOLDER, dsl.PIPELINE_JOB_NAME_PLACEHOLDER, dsl.PIPELINE_JOB_RESOURCE_NAME_PLACEHOLDER,
        dsl.PIPELINE_ROOT_PLACEHOLDER, dsl.PIPELINE_TASK_ID_PLACEHOLDER,
    ]  # fmt: skip
    first = told(texts=texts, name=dsl.PIPELINE_TASK_NAME_PLACEHOLDER, again=f"<{dsl.PIPELINE_TASK_NAME_PLACEHOLDER}>")
    with dsl.ParallelFor([1, 2]):
        looped = word(text=f"{dsl.PIPELINE_TASK_ID_PLACEHOLDER}")
    return AboutTheJobOutputs(first.output, dsl.Collected(looped.output))


def test_tasks_are_told_about_their_job(run, home):
    result = run(about_the_job)
    given = outputs(result)
    created, scheduled, job, name, resource, root, task, task_name, again = given["told"]
    assert scheduled == created
    assert abs(datetime.now(UTC) - datetime.fromisoformat(created)) < timedelta(minutes=5)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", created)
    assert (job, name[:5], resource) == (result.run_id, "test ", f"about-the-job-{result.run_id}")
    assert (root, task) == (str(home.artifacts), f"{result.run_id}/told")
    assert (task_name, again) == ("told", "<told>")
    assert given["looped"] == [f"{result.run_id}/for-loop-2/{n}/word" for n in range(2)]


# Pipelines in pipelines


@component
def count(file: str, needed: int) -> int:
    from pathlib import Path

    with Path(file).open("a") as stream:
        stream.write("x")
    times = len(Path(file).read_text())
    if times < needed:
        raise OSError(f"try {times}")
    return times


class CountingOutputs(NamedTuple):
    said: str
    log: dsl.Artifact


@dsl.pipeline
def counting(file: str, needed: int) -> int:
    return count(file=file, needed=needed).set_retry(num_retries=1, backoff_duration="0s").output


@dsl.pipeline
def tried_again(file: str, needed: int) -> int:
    return counting(file=file, needed=needed).set_retry(num_retries=1, backoff_duration="0s").output


@pytest.mark.parametrize(("needed", "state"), [(4, "SUCCEEDED"), (5, "FAILED")])
def test_a_pipeline_inside_is_tried_again_when_its_own_tasks_have_used_up_their_tries(run, tmp_path, needed, state):
    result = run(tried_again, file=str(tmp_path / "count"), needed=needed)
    assert (result.state, len((tmp_path / "count").read_text())) == (state, 4), result.error
    assert sorted(result.tasks) == ["counting/count", "counting~1/count"]


# Containers as commands of this machine


@dsl.container_component
def shell(text: str, said: dsl.OutputPath(str), log: dsl.Output[dsl.Artifact]):
    return dsl.ContainerSpec(
        image="alpine:3",
        command=["sh", "-ec", 'printf "%s" "$0" > "$1"; mkdir -p "$(dirname "$2")"; pwd > "$2"'],
        args=[text, said, log.path],
    )


@dsl.pipeline
def dynamic(image: str, text: str) -> CountingOutputs:
    done = shell(text=text).set_container_image(image)
    return CountingOutputs(done.outputs["said"], done.outputs["log"])


def test_a_command_of_a_dynamic_image_runs_on_the_host(runner, compiled):
    options = RunOptions(run_on_host=True)
    result = runner.run(compiled(dynamic), {"image": "any:1", "text": "a $HOME 'b'"}, options=options)
    assert outputs(result) == {"said": "a $HOME 'b'"}
    (log,) = result.artifacts["log"]
    assert Path(log["uri"]).read_text().strip().endswith("/work")
