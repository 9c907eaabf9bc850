import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.contracts.argo_condition import ConditionError, check, holds


@pytest.mark.parametrize(
    ("condition", "result", "answer"),
    [
        ("result[0] >= 0.95", [0.95], True),
        ("result[0] >= 0.95", [0.9], False),
        ("result < 5", 4.0, True),
        ("len(result) == 0 || result[0] >= 0.95", [], True),
        ("len(result) > 0 && result[0] >= 0.95", [], False),
        ("default(result[0], 0) < 0.05", [], True),
        ("default(result[0], 0) < 0.05", [0.2], False),
        ("default(result[0], 1) < 0.05", [], False),
        ("isNaN(result[0])", [math.nan], True),
        ("isNaN(result[0]) || result[0] > 1", [0.5], False),
        ("!isNaN(result) and not isInf(result)", 1.0, True),
        ("isInf(result[0])", [math.inf], True),
        ("result[0] > 1", [math.nan], False),
        ("all(result, # > 1)", [2.0, 3.0], True),
        ("all(result, {# > 1})", [2.0, 1.0], False),
        ("any(result, {# > 2}) && none(result, {# > 3})", [1.0, 3.0], True),
        ("result[0] * 2 + 1 == 7", [3.0], True),
        ("-result[0] < -1 - 1", [3.0], True),
        ("10 - 2 - 3 == 5 && 2 + 3 * 4 == 14 && (2 + 3) * 4 == 20 && 7 % 4 == 3", 0.0, True),
        ("result[0] / result[1] > 1e300", [1.0, 0.0], True),
        ("result > 1 ? true : false", 2.0, True),
        ("asInt(result[0]) == 3 && asFloat('2.5') == 2.5", [3.7], True),
        ("max(result[0], result[1]) == 4 && 4 in result", [1.0, 4.0], True),
        ("true or result[5] > 1", [], True),
    ],
)
def test_a_condition_is_read_as_argo_reads_it(condition, result, answer):
    check(condition)
    assert holds(condition, result) is answer


@pytest.mark.parametrize(
    ("condition", "result", "says"),
    [
        ("result[0] > 1", [], "guard it with len(result) > 0"),
        ("result > 1", [1.0], "not supported"),
        ("result[0]", [1.0], "is 1.0, and not true or false"),
        ("result[0] && true", [1.0], "1.0 is not true or false"),
        ("isNaN(result)", [1.0], "must be real number"),
    ],
)
def test_what_cannot_be_evaluated_is_an_error(condition, result, says):
    check(condition)
    with pytest.raises(ConditionError) as caught:
        holds(condition, result)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        ("results[0] > 1", "'results' is not known"),
        ("result[0] >", "something is missing at the end"),
        ("result[0 > 1", "']' is expected, not 'the end'"),
        ("result[0] > 1)", "')' is not expected here"),
        ("system('rm')", "there is no such function: system"),
        ("result; 1", "';' cannot be read"),
        ("__import__", "'__import__' is not known"),
        ("(" * 500 + "1", "nested too deep"),
        ("-" * 500 + "1 > 0", "nested too deep"),
        ("1 + " * 5000 + "1 > 0", "longer than 2000 characters"),
        (" ", "something is missing"),
    ],
)
def test_what_is_no_condition_is_refused_before_anything_runs(condition, says):
    with pytest.raises(ConditionError) as caught:
        check(condition)
    assert says in str(caught.value)


@given(st.text(alphabet="result[]().0123456789<>=!&|+-*/%? :,'#{}leniaNdfo", max_size=60))
def test_any_text_is_a_condition_or_refused(text):
    try:
        answer = holds(text, [1.0])
    except ConditionError:
        answer = None
    assert answer in (True, False, None)


@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_comparisons_are_those_of_numbers(value, limit):
    number = repr(limit) if limit >= 0 else f"(-{-limit!r})"
    if math.isinf(limit):
        return
    assert holds(f"result[0] >= {number}", [value]) is (value >= limit)
    assert holds(f"result < {number}", value) is (value < limit)
