"""A gate pauses its run until people have decided."""

import json
import time
from functools import partial
from typing import NamedTuple

import pytest
from kfp import dsl

from headrace.errors import ConflictError, UsageError
from headrace.governance import approvals
from headrace.runs import transitions
from headrace.store import events

component = partial(dsl.component, base_image="python:3.12")


@component
def work(text: str) -> str:
    return text


@dsl.container_component
def ask(
    what: str, score: float, decision: dsl.OutputPath(str), decided_by: dsl.OutputPath(str),
    reason: dsl.OutputPath(str), weight: dsl.OutputPath(int),
):  # fmt: skip
    asked = {"question": "Go on?", "parameters": {"weight": {"description": "percent", "default": 5}}, "required": 2}
    return dsl.ContainerSpec(
        image="kfp://human-input",
        command=["wait"],
        args=[json.dumps(asked), "--evidence.what", what, "--evidence.score", score],
    )


@dsl.container_component
def confirm(what: str):
    return dsl.ContainerSpec(image="kfp://human-input", args=['{"description": "Sure?"}', "--evidence.what", what])


class Answer(NamedTuple):
    decision: str
    decided_by: str
    reason: str
    weight: int
    after: str


@dsl.pipeline
def gated() -> Answer:
    before = work(text="candidate")
    asked = ask(what=before.output, score=0.75)
    after = work(text="after").after(asked)
    told = asked.outputs
    return Answer(told["decision"], told["decided_by"], told["reason"], told["weight"], after.output)


def decide(database, actor, approve=True, gate=None, **more):
    gate = gate or approvals.gates(database, "waiting")[0]
    return approvals.decide(database, gate.id, at=2e9, actor=actor, approve=approve, reason=f"says {actor}", **more)


def test_a_run_pauses_at_a_gate_and_says_what_is_asked(run, database):
    result = run(gated)
    assert result.state == "PAUSED"
    assert {path: task["state"] for path, task in result.tasks.items()} == {"work": "SUCCEEDED", "ask": "PAUSED"}
    (gate,) = approvals.gates(database, "waiting")
    assert (gate.question, gate.required) == ("Go on?", 2)
    assert gate.subject == f"run/{result.run_id}/task/ask"
    assert gate.evidence == {"what": "candidate", "score": 0.75}


def test_a_run_goes_on_with_what_was_submitted_once_enough_people_agree(run, runner, database):
    paused = run(gated)
    decide(database, "user:ann")
    assert runner.drive(paused.run_id).state == "PAUSED"
    decide(database, "user:bob", values={"weight": 20})
    result = runner.drive(paused.run_id)
    assert result.state == "SUCCEEDED", result.error
    assert result.outputs == {
        "decision": "approved", "decided_by": "user:bob", "reason": "says user:bob", "weight": 20, "after": "after",
    }  # fmt: skip
    kinds = [event.kind for event in events.read(database) if event.subject == f"run/{paused.run_id}"]
    assert kinds == ["run.created", "run.started", "run.paused", "run.recovered", "run.recovered", "run.resumed",
                     "run.succeeded"]  # fmt: skip
    assert {path: task["attempt"] for path, task in result.tasks.items()} == {"work": 1, "ask": 0, "work-2": 1}


def test_what_nobody_filled_in_has_its_default(run, runner, database):
    paused = run(gated)
    for actor in ("user:ann", "user:bob"):
        decide(database, actor)
    assert runner.drive(paused.run_id).outputs["weight"] == 5


def test_a_rejection_fails_the_task_with_who_and_why(run, runner, database):
    paused = run(gated)
    decide(database, "user:ann", approve=False)
    result = runner.drive(paused.run_id)
    assert (result.state, result.error) == ("FAILED", "task ask: rejected by user:ann: says user:ann")
    assert sorted(result.tasks) == ["ask", "work"]


@dsl.pipeline
def two_gates() -> str:
    one = confirm(what="one")
    confirm(what="two")
    work(text="beside")
    return work(text="last").after(one).output


def test_the_rest_goes_on_before_the_run_pauses(run):
    result = run(two_gates)
    assert result.state == "PAUSED"
    assert result.tasks["work"]["state"] == "SUCCEEDED"


@pytest.mark.parametrize("first", ["one", "two"])
def test_a_run_pauses_again_while_another_gate_is_open(run, runner, database, first):
    paused = run(two_gates)
    gates = {gate.evidence["what"]: gate for gate in approvals.gates(database, "waiting")}
    decide(database, "user:ann", gate=gates.pop(first))
    again = runner.drive(paused.run_id)
    assert again.state == "PAUSED"
    assert ("work-2" in again.tasks) is (first == "one")
    decide(database, "user:ann", gate=gates.popitem()[1])
    assert runner.drive(paused.run_id).outputs == {"Output": "last"}


def test_a_paused_run_can_be_cancelled_and_its_gate_asks_no_more(run, runner, database):
    paused = run(two_gates)
    transitions.request_cancel(database, paused.run_id, actor="user:ann", reason="", at=2e9)
    result = runner.drive(paused.run_id)
    assert result.state == "CANCELED"
    assert approvals.gates(database, "waiting") == []


def test_a_retry_of_a_rejected_run_asks_again(run, runner, database):
    paused = run(two_gates)
    for gate in approvals.gates(database, "waiting"):
        decide(database, "user:ann", approve=False, gate=gate)
    assert runner.drive(paused.run_id).state == "FAILED"
    transitions.retry_run(database, paused.run_id, actor="user:ann", reason="", at=2e9)
    assert runner.drive(paused.run_id).state == "PAUSED"
    for gate in approvals.gates(database, "waiting"):
        decide(database, "user:ann", gate=gate)
    assert runner.drive(paused.run_id).state == "SUCCEEDED"


@dsl.container_component
def ask_of(what: str, dataset: dsl.Input[dsl.Dataset], note: str = None):  # noqa: RUF013 - KFP reads it so
    asked = f'{{"question": "Deploy {what}?", "required": 2, "timeout_seconds": 60, "on_timeout": "reject"}}'
    noted = dsl.IfPresentPlaceholder(input_name="note", then=["--evidence.note", note])
    told = dsl.ConcatPlaceholder(["the ", what])
    return dsl.ContainerSpec(
        image="kfp://human-input", args=[asked, "--evidence.data", dataset.uri, noted, "--evidence.what", told]
    )


@dsl.container_component
def misasked(required: int):
    return dsl.ContainerSpec(image="kfp://human-input", args=[f'{{"required": {required}}}'])


@dsl.container_component
def handed(asked: dict):
    return dsl.ContainerSpec(image="kfp://human-input", args=[asked])


@dsl.pipeline
def asking_of(what: str):
    data = dsl.importer(artifact_uri="https://example.com/data.csv", artifact_class=dsl.Dataset)
    ask_of(what=what, dataset=data.output)
    ask_of(what="other", dataset=data.output, note="urgent")


@dsl.pipeline
def misasking(required: int):
    misasked(required=required)


@pytest.mark.parametrize("what", ['the "new" one', 'x?", "required": 1, "on_timeout": "approve", "description": "y'])
def test_what_a_run_was_given_is_asked_and_changes_nothing_of_what_the_gate_demands(run, database, what):
    assert run(asking_of, what=what).state == "PAUSED"
    (gate,) = (gate for gate in approvals.gates(database) if gate.question != "Deploy other?")
    assert (gate.question, gate.required, gate.on_expiry) == (f"Deploy {what}?", 2, "expired")
    assert gate.evidence == {"data": "https://example.com/data.csv", "what": f"the {what}"}


def test_evidence_may_hang_on_an_input_that_is_there(run, database):
    run(asking_of, what="this")
    (gate,) = (gate for gate in approvals.gates(database) if gate.question == "Deploy other?")
    assert gate.evidence == {"data": "https://example.com/data.csv", "note": "urgent", "what": "the other"}


def test_a_question_that_is_no_json_fails_its_task_and_says_how_to_write_it(run):
    result = run(misasking, required=2)
    assert result.state == "FAILED"
    assert result.error.startswith("task misasked: a gate asks in a JSON object, and this is none:")
    assert "An input stands in it between quotes" in result.error


@dsl.pipeline
def handing(asked: dict):
    handed(asked=asked)


def test_all_of_a_question_may_be_an_input(run, database):
    assert run(handing, asked={"question": "This?", "required": 3}).state == "PAUSED"
    (gate,) = approvals.gates(database)
    assert (gate.question, gate.required) == ("This?", 3)


@dsl.container_component
def need(weight: dsl.OutputPath(int)):
    asked = {"question": "How much?", "parameters": {"weight": {}}, "required": 2}
    return dsl.ContainerSpec(image="kfp://human-input", args=[json.dumps(asked)])


@dsl.pipeline
def needing() -> int:
    return need().outputs["weight"]


def test_the_last_approval_needs_every_value_that_has_no_default(run, runner, database):
    paused = run(needing)
    decide(database, "user:ann")
    with pytest.raises(UsageError, match="the gate needs a value for weight"):
        decide(database, "user:bob")
    assert decide(database, "user:bob", values={"weight": 7}).state == "approved"
    assert runner.drive(paused.run_id).outputs == {"Output": 7}


@dsl.container_component
def pick(weight: dsl.OutputPath(int)):
    asked = {"question": "How much?", "parameters": {"weight": {"default": 5, "enum": [5, 10]}}}
    return dsl.ContainerSpec(image="kfp://human-input", args=[json.dumps(asked)])


@dsl.pipeline
def picking() -> int:
    return pick().outputs["weight"]


def test_a_value_that_is_none_of_the_choices_is_refused(run, runner, database):
    paused = run(picking)
    with pytest.raises(UsageError, match="weight must be one of 5, 10, not 7"):
        decide(database, "user:ann", values={"weight": 7})
    decide(database, "user:ann", values={"weight": 10})
    assert runner.drive(paused.run_id).outputs == {"Output": 10}


@dsl.container_component
def hurry(decision: dsl.OutputPath(str), weight: dsl.OutputPath(int), reason: dsl.OutputPath(str)):
    asked = {"parameters": {"weight": {"default": 5}}, "timeout_seconds": 0.05, "on_timeout": "approve"}
    return dsl.ContainerSpec(image="kfp://human-input", args=[json.dumps(asked)])


@dsl.container_component
def lapse():
    return dsl.ContainerSpec(image="kfp://human-input", args=['{"question": "Go?", "timeout_seconds": 0.05}'])


@dsl.pipeline
def hurried() -> Answer:
    told = hurry().outputs
    return Answer(told["decision"], told["reason"], told["reason"], told["weight"], told["decision"])


def resumed(runner, run_id):
    """Whoever looks at the run when the time is over goes on with it."""
    deadline = time.monotonic() + 30
    while (result := runner.drive(run_id)).state == "PAUSED":
        assert time.monotonic() < deadline, "the gate stays open"
    return result


def test_when_nobody_decides_in_time_the_default_holds(run, runner, database):
    result = resumed(runner, run(hurried).run_id)
    assert result.outputs["decision"] == "approved"
    assert (result.outputs["weight"], result.outputs["reason"]) == (5, "nobody has decided in time")
    (gate,) = approvals.gates(database)
    assert (gate.state, gate.to_dict()["on_expiry"]) == ("approved", "approved")
    assert [one.actor for one in events.read(database) if one.kind == "gate.approved"] == ["system:timeout"]


def test_without_a_default_a_gate_expires_and_its_task_fails(run, runner, database):
    result = resumed(runner, run(lapse).run_id)
    assert (result.state, result.error) == ("FAILED", "task lapse: expired: nobody has decided in time")
    (gate,) = approvals.gates(database)
    with pytest.raises(ConflictError, match="the gate is expired already"):
        decide(database, "user:ann", gate=gate)


def test_a_value_of_the_wrong_type_is_refused_and_text_is_read(run, database):
    run(gated)
    with pytest.raises(UsageError, match="parameter weight must be of type int, not 'much'"):
        decide(database, "user:ann", values={"weight": "much"})
    assert decide(database, "user:ann", values={"weight": "20"}).values == {"weight": 20}


@component
def say_goodbye(file: str):
    from pathlib import Path

    Path(file).read_text()


@dsl.pipeline
def guarded(file: str):
    with dsl.ExitHandler(say_goodbye(file=file)):
        confirm(what="inside")


def test_a_retried_run_pauses_at_its_gate_though_what_comes_after_it_is_to_be_tried_again(
    run, runner, database, tmp_path
):
    paused = run(guarded, file=str(tmp_path / "file"))
    decide(database, "user:ann", approve=False)
    failed = runner.drive(paused.run_id)
    assert {path: task["state"] for path, task in failed.tasks.items()} == {
        "exit-handler-1/confirm": "FAILED", "say-goodbye": "FAILED",
    }  # fmt: skip
    (tmp_path / "file").touch()
    transitions.retry_run(database, paused.run_id, actor="user:ann", reason="", at=2e9)
    assert runner.drive(paused.run_id).state == "PAUSED"
    decide(database, "user:ann")
    assert runner.drive(paused.run_id).state == "SUCCEEDED"
