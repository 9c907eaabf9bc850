from functools import partial

import pytest
from kfp import dsl

from headrace.runs.model import RunContext, State, TaskFact
from headrace.runs.planner import plan

component = partial(dsl.component, base_image="python:3.12")

CONTEXT = RunContext("run-1", "made", "made 1", "2026-01-01T00:00:00.000000Z", "/artifacts")
RUNNING, FAILED = TaskFact(State.RUNNING), TaskFact(State.FAILED, message="it broke")


@component
def make(n: int = 1) -> int:
    return n


@component
def add(a: int, b: int) -> int:
    return a + b


@component
def note(text: str = "") -> str:
    return text


@component
def many() -> list[int]:
    return [1, 2]


@component
def total(parts: list[int]) -> int:
    return sum(parts)


@component
def farewell(status: dsl.PipelineTaskFinalStatus) -> str:
    return status.state


def done(output=None):
    return TaskFact(State.SUCCEEDED, {"Output": output})


@pytest.fixture(scope="module")
def planned(document):
    """Plans a pipeline over facts, with the document of each pipeline made once."""
    documents = {}

    def run_plan(pipeline, facts=None, **arguments):
        made = documents.setdefault(pipeline.name, document(pipeline))
        return plan(made, made.arguments(arguments), facts or {}, CONTEXT)

    return run_plan


def ready(made):
    return {task.path: dict(task.parameters) for task in made.ready}


@dsl.pipeline
def diamond(n: int) -> int:
    top = make(n=n)
    left, right = add(a=top.output, b=1), add(a=top.output, b=2)
    return add(a=left.output, b=right.output).output


def test_a_task_starts_once_all_that_it_needs_is_there(planned):
    assert ready(planned(diamond, n=3)) == {"make": {"n": 3}}
    assert ready(planned(diamond, {"make": RUNNING}, n=3)) == {}

    both = planned(diamond, {"make": done(3)}, n=3)
    assert ready(both) == {"add": {"a": 3, "b": 1}, "add-2": {"a": 3, "b": 2}}

    half = {"make": done(3), "add": done(4), "add-2": RUNNING}
    assert ready(planned(diamond, half, n=3)) == {}
    assert ready(planned(diamond, {**half, "add-2": done(5)}, n=3)) == {"add-3": {"a": 4, "b": 5}}


def test_a_run_ends_with_the_outputs_of_its_tasks(planned):
    facts = {"make": done(3), "add": done(4), "add-2": done(5)}
    assert not planned(diamond, {**facts, "add-3": RUNNING}, n=3).root.final
    root = planned(diamond, {**facts, "add-3": done(9)}, n=3).root
    assert (root.state, root.parameters) == (State.SUCCEEDED, {"Output": 9})


def test_what_needs_a_failed_task_never_starts_and_the_rest_goes_on(planned):
    facts = {"make": done(3), "add": FAILED}
    going = planned(diamond, facts, n=3)
    assert list(ready(going)) == ["add-2"]
    assert not going.root.final

    ended = planned(diamond, {**facts, "add-2": done(5)}, n=3)
    assert ready(ended) == {}
    assert (ended.root.state, ended.root.message, ended.root.parameters) == (State.FAILED, "it broke", {})


def test_a_task_that_waits_for_its_backoff_is_ready_again(planned):
    assert ready(planned(diamond, {"make": TaskFact(State.PENDING)}, n=3)) == {"make": {"n": 3}}


@dsl.pipeline
def in_turn():
    first = note(text="1")
    note(text="2").after(first)


def test_after_is_kept_without_any_data_between_the_tasks(planned):
    assert list(ready(planned(in_turn))) == ["note"]
    assert list(ready(planned(in_turn, {"note": done("1")}))) == ["note-2"]


@dsl.pipeline
def branches(n: int) -> str:
    number = make(n=n)
    with dsl.If(number.output > 10):
        big = note(text="big")
    with dsl.Elif(number.output > 5):
        middling = note(text="middling")
    with dsl.Else():
        small = note(text="small")
    return dsl.OneOf(big.output, middling.output, small.output)


@pytest.mark.parametrize(("n", "word"), [(11, "big"), (10, "middling"), (6, "middling"), (5, "small")])
def test_one_branch_is_taken_and_gives_the_output(planned, n, word):
    (path, given), *others = ready(planned(branches, {"make": done(n)}, n=n)).items()
    assert (given, others) == ({"text": word}, [])
    root = planned(branches, {"make": done(n), path: done(word)}, n=n).root
    assert (root.state, root.parameters) == (State.SUCCEEDED, {"Output": word})


@dsl.pipeline
def static_loop():
    with dsl.ParallelFor([3, 4, 5], parallelism=2) as item:
        note(text=f"item {make(n=item).output}")


def test_a_loop_keeps_to_its_limit_of_open_iterations(planned):
    assert ready(planned(static_loop)) == {"for-loop-2/0/make": {"n": 3}, "for-loop-2/1/make": {"n": 4}}
    facts = {"for-loop-2/0/make": done(3), "for-loop-2/1/make": done(4)}
    assert sorted(ready(planned(static_loop, facts))) == ["for-loop-2/0/note", "for-loop-2/1/note"]
    facts["for-loop-2/1/note"] = done("")
    assert sorted(ready(planned(static_loop, facts))) == ["for-loop-2/0/note", "for-loop-2/2/make"]


def test_text_around_an_output_holds_whole_numbers_without_a_fraction(planned):
    facts = {"for-loop-2/0/make": done(3), "for-loop-2/1/make": RUNNING}
    (task,) = planned(static_loop, facts).ready
    assert task.parameters["text"] == "item 3"


def test_an_iteration_that_failed_makes_room_for_the_next_and_fails_the_run_at_the_end(planned):
    facts = {"for-loop-2/0/make": FAILED, "for-loop-2/1/make": done(4), "for-loop-2/1/note": done("")}
    assert sorted(ready(planned(static_loop, facts))) == ["for-loop-2/2/make"]
    facts |= {"for-loop-2/2/make": done(5), "for-loop-2/2/note": done("")}
    assert planned(static_loop, facts).root.state is State.FAILED


@dsl.pipeline
def collecting(skip: int) -> int:
    with dsl.ParallelFor(many().output) as item, dsl.If(item != skip):
        one = make(n=item)
    return total(parts=dsl.Collected(one.output)).output


def test_a_loop_over_an_output_waits_for_it_and_collects_in_the_order_of_the_items(planned):
    assert list(ready(planned(collecting, skip=0))) == ["many"]
    facts = {"many": done([8, 9])}
    started = planned(collecting, facts, skip=0)
    assert [task.parameters["n"] for task in started.ready] == [8, 9]
    first, second = (task.path for task in started.ready)
    assert ready(planned(collecting, {**facts, second: done(9), first: RUNNING}, skip=0)) == {}
    facts |= {second: done(9), first: done(8)}
    assert ready(planned(collecting, facts, skip=0)) == {"total": {"parts": [8, 9]}}


def test_an_iteration_whose_branch_is_not_taken_is_left_out(planned):
    facts = {"many": done([8, 9])}
    (task,) = planned(collecting, facts, skip=8).ready
    assert task.parameters["n"] == 9
    assert ready(planned(collecting, {**facts, task.path: done(9)}, skip=8)) == {"total": {"parts": [9]}}


def test_a_loop_over_nothing_is_done_at_once(planned):
    assert ready(planned(collecting, {"many": done([])}, skip=0)) == {"total": {"parts": []}}


def test_a_loop_over_what_is_no_list_fails_and_says_which(planned):
    root = planned(collecting, {"many": done("no list")}, skip=0).root
    assert root.state is State.FAILED
    assert "for-loop" in root.message
    assert "no list" in root.message


@dsl.pipeline
def inner(n: int, extra: int = 10) -> int:
    return add(a=make(n=n).output, b=extra).output


@dsl.pipeline
def outer() -> int:
    return add(a=inner(n=1).output, b=inner(n=2, extra=20).output).output


def test_a_pipeline_inside_a_pipeline_gets_its_defaults_and_gives_its_outputs(planned):
    assert ready(planned(outer)) == {"inner/make": {"n": 1}, "inner-2/make": {"n": 2}}
    facts = {"inner/make": done(1), "inner-2/make": done(2)}
    assert ready(planned(outer, facts)) == {"inner/add": {"a": 1, "b": 10}, "inner-2/add": {"a": 2, "b": 20}}
    facts |= {"inner/add": done(11), "inner-2/add": done(22)}
    assert ready(planned(outer, facts)) == {"add": {"a": 11, "b": 22}}


@dsl.pipeline
def guarded():
    before = make()
    end = farewell()
    with dsl.ExitHandler(end):
        add(a=before.output, b=1)
        note()


def test_the_exit_task_waits_for_everything_and_learns_what_failed(planned):
    facts = {"make": done(1), "exit-handler-1/add": FAILED}
    assert "farewell" not in ready(planned(guarded, {**facts, "exit-handler-1/note": RUNNING}))
    made = planned(guarded, {**facts, "exit-handler-1/note": done("")})
    assert ready(made) == {
        "farewell": {
            "status": {
                "state": "FAILED",
                "error": {"code": 1, "message": "it broke"},
                "pipelineJobResourceName": "made-run-1",
                "pipelineTaskName": "exit-handler-1",
            }
        }
    }
    assert planned(guarded, {**facts, "exit-handler-1/note": done(""), "farewell": done("")}).root.state is State.FAILED


def test_the_exit_task_learns_of_success(planned):
    facts = {"make": done(1), "exit-handler-1/add": done(2), "exit-handler-1/note": done("")}
    (task,) = planned(guarded, facts).ready
    assert task.parameters["status"]["state"] == "SUCCEEDED"
    assert planned(guarded, {**facts, "farewell": done("")}).root.state is State.SUCCEEDED


def test_the_exit_task_of_a_group_that_could_not_start_is_not_told_that_it_succeeded(planned):
    (task,) = planned(guarded, {"make": FAILED}).ready
    assert task.path == "farewell"
    assert task.parameters["status"]["state"] == "FAILED"
    assert task.parameters["status"]["error"]["message"]


@dsl.pipeline
def tolerant() -> str:
    return note(text=note(text="first").output).ignore_upstream_failure().output


def test_a_task_that_ignores_failures_gets_its_default_for_what_is_missing(planned):
    assert ready(planned(tolerant, {"note": FAILED})) == {"note-2": {"text": ""}}
    root = planned(tolerant, {"note": FAILED, "note-2": done("")}).root
    assert (root.state, root.parameters) == (State.FAILED, {"Output": ""})


@dsl.pipeline
def retried():
    make().set_retry(num_retries=3, backoff_duration="5s", backoff_factor=3, backoff_max_duration="60s")
    make().set_retry(num_retries=1)
    make()


def test_the_retry_policy_goes_with_the_task_and_has_the_documented_defaults(planned):
    policies = {
        t.path: (t.max_retries, t.backoff.seconds, t.backoff.factor, t.backoff.most) for t in planned(retried).ready
    }
    assert policies == {"make": (3, 5.0, 3.0, 60.0), "make-2": (1, 0.0, 2.0, 3600.0), "make-3": (0, 0.0, 2.0, 3600.0)}


@dsl.pipeline
def retried_group() -> int:
    return add(a=inner(n=1).set_retry(num_retries=1).output, b=0).output


def test_a_pipeline_inside_is_tried_again_as_a_whole(planned):
    facts = {"inner/make": done(1), "inner/add": FAILED}
    assert ready(planned(retried_group, facts)) == {"inner~1/make": {"n": 1}}
    facts["inner~1/make"] = done(1)
    assert ready(planned(retried_group, facts)) == {"inner~1/add": {"a": 1, "b": 10}}

    good = planned(retried_group, {**facts, "inner~1/add": done(11)})
    assert ready(good) == {"add": {"a": 11, "b": 0}}
    bad = planned(retried_group, {**facts, "inner~1/add": FAILED})
    assert (ready(bad), bad.root.state) == ({}, State.FAILED)
