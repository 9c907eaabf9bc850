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
    ("arguments", "message"),
    [
        ([], "asks in a JSON object"),
        (["Deploy?"], "asks in a JSON object"),
        (["[1]"], "asks in a JSON object"),
        (['{"question": "x"'], "asks in a JSON object"),
        (['{"question": ["x"]}'], "question of a gate must be of type str"),
        (['{"requird": 2}'], "knows no requird"),
        (['{"required": "two"}'], "required of a gate must be of type int"),
        (['{"required": 1.9}'], "required of a gate must be of type int"),
        (['{"required": 0}'], "at least 1 approval, not 0"),
        (['{"timeout_seconds": "soon"}'], "timeout_seconds of a gate must be of type float"),
        (['{"timeout_seconds": true}'], "timeout_seconds of a gate must be of type float"),
        (['{"timeout_seconds": 0}'], "above 0 and at most 100 years, not 0"),
        (['{"timeout_seconds": 1e12}'], "above 0 and at most 100 years"),
        (['{"timeout_seconds": NaN}'], "above 0 and at most 100 years, not nan"),
        (['{"on_timeout": "shrug"}'], "approve or reject, not shrug"),
        (['{"parameters": ["w"]}'], "parameters of a gate must be of type dict"),
        (['{"parameters": {"w": 5}}'], "w of a gate must be of type dict"),
        (['{"parameters": {"w": {"enum": 5}}}'], "enum of w must be of type list"),
        (['{"parameters": {"w": {"description": 5}}}'], "description of w must be of type str"),
        (['{"parameters": {"w": {}}, "on_timeout": "approve"}'], "approved by itself without a value for w"),
    ],
)
def test_a_gate_that_does_not_ask_as_it_should_is_refused(arguments, message):
    with pytest.raises(HeadraceError, match=message):
        gate_request(arguments)
