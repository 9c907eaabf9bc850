import pytest

from headrace.runs.conditions import ConditionError, holds, select


@pytest.mark.parametrize(
    ("expression", "given", "expected"),
    [
        ("inputs.parameter_values['x'] == 'a'", "a", True),
        ("inputs.parameter_values['x'] == 'a'", 'it\'s "a" \\ b', False),
        ("inputs.parameter_values['x'] != ''", "", False),
        ("inputs.parameter_values['x'] == true", True, True),
        ("!(inputs.parameter_values['x'] == true)", False, True),
        ("int(inputs.parameter_values['x']) > 10", 11, True),
        ("int(inputs.parameter_values['x']) > 10", 10.0, False),
        ("double(inputs.parameter_values['x']) >= 0.5", 1, True),
        ("inputs.parameter_values['x'] >= 1", 1.5, True),
        ("inputs.parameter_values['x'] > 0.5", 1, True),
        ("inputs.parameter_values['x'] == 1", 1.0, True),
        ("!(int(inputs.parameter_values['x']) > 10) && int(inputs.parameter_values['x']) == 7", 7, True),
        ("inputs.parameter_values['x'] == '日本'", "日本", True),
    ],
)
def test_conditions(expression, given, expected):
    assert holds(expression, {"x": given}) is expected


@pytest.mark.parametrize(
    "expression",
    ["inputs.parameter_values['x']", "inputs.parameter_values['y'] == 1", "int('seven') > 1", "(", "__import__('os')"],
)
def test_what_is_no_condition_is_told_with_its_text(expression):
    with pytest.raises(ConditionError) as raised:
        holds(expression, {"x": "a"})
    assert expression in str(raised.value)


@pytest.mark.parametrize(
    ("expression", "value", "expected"),
    [
        ('parseJson(string_value)["a"]', {"a": 1}, 1),
        ('parseJson(string_value)["a"]', '{"a": [1, 2]}', [1, 2]),
        ('parseJson(string_value)["a"]["b"]', {"a": {"b": "it's"}}, "it's"),
    ],
)
def test_a_selector_takes_a_part_of_a_value(expression, value, expected):
    found = select(expression, value)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize("value", ["no json", {"b": 1}, 7])
def test_a_part_that_is_not_there_is_told(value):
    with pytest.raises(ConditionError, match="cannot be evaluated"):
        select('parseJson(string_value)["a"]', value)
