import pytest

from headrace.errors import HeadraceError
from headrace.runs.gates import GateRequest, gate_request


def test_a_gate_asks_with_evidence_and_values():
    request = gate_request(
        ['{"question": "Deploy?", "parameters": {"weight": {"default": 5}}, "required": 2}',
         "--evidence.score", "0.75", "--evidence.summary", "better: it's", "--evidence.alone"]
    )  # fmt: skip
    assert request == GateRequest("Deploy?", {"weight": {"default": 5}}, {"score": 0.75, "summary": "better: it's"}, 2)


def test_a_gate_has_defaults():
    assert gate_request(["{}"]) == GateRequest("Go on?", {}, {}, 1)


def test_the_parameters_may_stand_alone_as_in_the_proposal_of_kfp():
    decision = {"description": "Approve this deployment?", "default": "NO", "enum": ["YES", "NO"]}
    request = gate_request(['{"decision": {"description": "Approve this deployment?", "default": "NO",'
                            ' "enum": ["YES", "NO"]}}'])  # fmt: skip
    assert request == GateRequest("Approve this deployment?", {"decision": decision})


def test_a_gate_may_have_a_time_and_what_happens_then():
    request = gate_request(['{"question": "Go?", "timeout_seconds": 90, "on_timeout": "approve"}'])
    assert (request.timeout_seconds, request.approved_on_timeout) == (90.0, True)
    request = gate_request(['{"question": "Go?", "timeout_seconds": 0.5}'])
    assert (request.timeout_seconds, request.approved_on_timeout) == (0.5, False)


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["Deploy?"], ["[1]"], ['{"question": "x"'], ['{"timeout_seconds": "soon"}'], ['{"timeout_seconds": 0}'],
        ['{"timeout_seconds": true}'], ['{"on_timeout": "shrug"}'],
    ],
)  # fmt: skip
def test_a_gate_that_does_not_ask_as_it_should_is_refused(arguments):
    with pytest.raises(HeadraceError):
        gate_request(arguments)
