"""Branches, loops, pipelines in pipelines and exit handlers, with real tasks."""

from functools import partial
from typing import NamedTuple

import pytest
from kfp import dsl

component = partial(dsl.component, base_image="python:3.12")


@component
def number(n: int) -> int:
    return n


@component
def word(text: str) -> str:
    return text


@component
def times(a: int, b: int) -> int:
    return a * b


@component
def save(text: str, file: dsl.Output[dsl.Dataset]):
    from pathlib import Path

    Path(file.path).write_text(text)
    file.metadata["text"] = text


@component
def read(files: dsl.Input[list[dsl.Dataset]]) -> list:
    from pathlib import Path

    return [[Path(file.path).read_text(), file.metadata["text"]] for file in files]


@component
def read_one(file: dsl.Input[dsl.Dataset]) -> str:
    from pathlib import Path

    return Path(file.path).read_text()


@component
def total(numbers: list[int]) -> int:
    return sum(numbers)


@component
def upto(n: int) -> list[int]:
    return list(range(n))


class Chosen(NamedTuple):
    size: str
    content: str


@dsl.pipeline
def choose(n: int) -> Chosen:
    given = number(n=n)
    with dsl.If(given.output > 10):
        big, big_file = word(text="big"), save(text="big")
    with dsl.Elif(given.output == 7):
        seven, seven_file = word(text="seven"), save(text="seven")
    with dsl.Else():
        small, small_file = word(text="small"), save(text="small")
    chosen = dsl.OneOf(big_file.outputs["file"], seven_file.outputs["file"], small_file.outputs["file"])
    return Chosen(dsl.OneOf(big.output, seven.output, small.output), read_one(file=chosen).output)


@pytest.mark.parametrize(("n", "size"), [(11, "big"), (7, "seven"), (3, "small")])
def test_only_the_branch_whose_condition_holds_runs(run, n, size):
    result = run(choose, n=n)
    assert result.state == "SUCCEEDED", result.error
    assert result.outputs == {"size": size, "content": size}
    assert len(result.tasks) == 4


@component
def judged(score: float) -> NamedTuple("Judged", [("passed", bool), ("why", str), ("rounded", float)]):
    return score > 0.5, 'say "no"' if score < 0.5 else 'it\'s "yes" \\', round(score)


@dsl.pipeline
def conditions(score: float, ask: str = ""):
    one = judged(score=score)
    with dsl.If(one.outputs["passed"] == True):  # noqa: E712 - KFP builds a condition from it
        word(text="passed")
        with dsl.If(ask != ""):
            word(text="asked")
    with dsl.If(one.outputs["why"] == 'say "no"'):
        word(text="no")
    with dsl.If(one.outputs["rounded"] >= 1):
        word(text="rounded")


@pytest.mark.parametrize(
    ("given", "texts"),
    [
        ({"score": 0.75}, ["passed", "rounded"]),
        ({"score": 0.75, "ask": "Ann's"}, ["asked", "passed", "rounded"]),
        ({"score": 0.25}, ["no"]),
        ({"score": 0.5}, []),
    ],
)
def test_conditions_compare_truth_values_numbers_and_any_text(run, given, texts):
    result = run(conditions, **given)
    assert result.state == "SUCCEEDED", result.error
    assert sorted(task["outputs"]["Output"] for name, task in result.tasks.items() if name != "judged") == texts


class Looped(NamedTuple):
    files: list
    sum: int
    table: list
    empty: int


@dsl.pipeline
def loops(n: int) -> Looped:
    with dsl.ParallelFor(["a", "b", "c"], parallelism=1) as letter:
        saved = save(text=letter)
    with dsl.ParallelFor(upto(n=n).output) as item:
        counted = number(n=item)
    with dsl.ParallelFor([{"x": 1, "y": 10}, {"x": 2, "y": 20}]) as pair:
        product = times(a=pair.x, b=pair.y)
    with dsl.ParallelFor(upto(n=0).output) as nothing:
        never = number(n=nothing)
    return Looped(
        read(files=dsl.Collected(saved.outputs["file"])).output,
        total(numbers=dsl.Collected(counted.output)).output,
        dsl.Collected(product.output),
        total(numbers=dsl.Collected(never.output)).output,
    )


def test_loops_collect_values_and_artifacts_in_the_order_of_their_items(run):
    result = run(loops, n=4)
    assert result.state == "SUCCEEDED", result.error
    assert result.outputs == {
        "files": [["a", "a"], ["b", "b"], ["c", "c"]], "sum": 6, "table": [10, 40], "empty": 0,
    }  # fmt: skip


@dsl.pipeline
def nested_loops() -> list:
    with dsl.ParallelFor([1, 2]) as outer, dsl.ParallelFor([10, 20, 30]) as inner:
        cell = times(a=outer, b=inner)
    return dsl.Collected(cell.output)


def test_a_loop_in_a_loop_collects_a_list_of_lists(run):
    result = run(nested_loops)
    assert result.state == "SUCCEEDED", result.error
    assert result.outputs["Output"] == [[10, 20, 30], [20, 40, 60]]


@dsl.pipeline
def doubled(n: int, times: int = 2) -> int:
    with dsl.ParallelFor(upto(n=times).output) as index:
        number(n=index)
        one = number(n=n)
    return total(numbers=dsl.Collected(one.output)).output


@dsl.pipeline
def composed(n: int) -> int:
    return doubled(n=doubled(n=n).output, times=3).output


def test_pipelines_are_components_of_pipelines(run):
    result = run(composed, n=5)
    assert result.state == "SUCCEEDED", result.error
    assert result.outputs == {"Output": 30}


@component
def fail(text: str) -> str:
    raise ValueError(text)


@component
def told(status: dsl.PipelineTaskFinalStatus, who: str) -> list:
    return [who, status.state, status.pipeline_task_name, status.error_message, status.error_code]


@dsl.pipeline
def guarded(break_it: bool):
    end = told(who="ops")
    with dsl.ExitHandler(end):
        word(text="work")
        with dsl.If(break_it == True):  # noqa: E712 - KFP builds a condition from it
            fail(text="out of sugar")


def test_the_exit_task_is_told_how_it_ended(run):
    result = run(guarded, break_it=False)
    assert result.state == "SUCCEEDED", result.error
    assert result.tasks["told"]["outputs"]["Output"] == ["ops", "SUCCEEDED", "exit-handler-1", "", 0]


def test_the_exit_task_runs_after_a_failure_and_the_run_stays_failed(run):
    result = run(guarded, break_it=True)
    assert result.state == "FAILED"
    who, state, name, message, code = result.tasks["told"]["outputs"]["Output"]
    assert (who, state, name, message, code) == ("ops", "FAILED", "exit-handler-1", "ValueError: out of sugar", 1)
    assert result.error.endswith("ValueError: out of sugar")
    assert "told" not in result.error
