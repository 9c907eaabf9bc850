import json

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from headrace.serving.runtime import tables
from headrace.serving.runtime.errors import BadRequest
from headrace.serving.runtime.loaders import Column, Model
from headrace.serving.runtime.models import frame
from headrace.serving.runtime.protocol import infer_answer, infer_request, instances_of

FLIGHTS = Model(
    None,
    (
        Column("carrier", "string", "BYTES", True),
        Column("distance", "float64", "FP64", True),
        Column("hour", "int32", "INT32", True),
        Column("dep_delay", "float64", "FP64", False),
    ),
    (),
)
NUMBERS = Model(LinearRegression().fit(np.eye(4), range(4)), (), ())
ONE = {"carrier": "AA", "distance": 500, "hour": 7}


def table_of_instances(body, model):
    """What the model's predictor is given for a V1 body."""
    return _given(tables.of_rows(instances_of(body), model))


def table_of_tensors(body, model):
    """What the model's predictor is given for a V2 body."""
    return _given(tables.of_tensors(infer_request(json.dumps(body).encode(), None).arrays(), model))


def _given(inputs):
    return inputs.arrays[""] if "" in inputs.arrays else frame(inputs)


def _tensor(name, datatype, data, shape=None):
    return {"name": name, "datatype": datatype, "shape": shape or [len(data)], "data": data}


def _columns(**changed):
    tensors = {
        "carrier": _tensor("carrier", "BYTES", ["AA", "UA"]),
        "distance": _tensor("distance", "FP64", [500, 900.5]),
        "hour": _tensor("hour", "INT32", [7, 8]),
        **{name: tensor for name, tensor in changed.items() if tensor},
    }
    return {"inputs": [tensor for name, tensor in tensors.items() if changed.get(name, True)]}


@pytest.mark.parametrize("key", ["instances", "inputs"])
def test_rows_that_are_mappings_become_a_table_in_the_order_of_the_signature(key):
    table = table_of_instances({key: [{"hour": 7, "distance": 500, "carrier": "AA", "dep_delay": 3}, ONE]}, FLIGHTS)
    assert list(table) == ["carrier", "distance", "hour", "dep_delay"]
    assert [str(kind) for kind in table.dtypes] == ["str", "float64", "int32", "float64"]
    assert table["carrier"].tolist() == ["AA", "AA"]
    assert table["dep_delay"].isna().tolist() == [False, True]


@pytest.mark.parametrize(
    "instances",
    [
        [{"carrier": ["AA", "UA"], "distance": [500, 900], "hour": [7, 8]}],
        [{"carrier": ["AA"], "distance": [500], "hour": [7]}, {"carrier": ["UA"], "distance": [900], "hour": [8]}],
        [{"carrier": {"0": "AA", "1": "UA"}, "distance": {"0": 500, "1": 900}, "hour": {"0": 7, "1": 8}}],
    ],
)
def test_instances_that_are_small_tables_are_rows_as_for_kserve(instances):
    table = table_of_instances({"instances": instances}, FLIGHTS)
    assert table["carrier"].tolist() == ["AA", "UA"]
    assert table["hour"].tolist() == [7, 8]
    with pytest.raises(BadRequest, match="different numbers"):
        table_of_instances({"instances": [{"carrier": ["AA"], "hour": [7, 8]}]}, FLIGHTS)


def test_rows_that_are_lists_follow_the_signature():
    table = table_of_instances({"instances": [["AA", 500, 7, None], ["UA", 900.5, 8.0, 1]]}, FLIGHTS)
    assert table.iloc[1].tolist() == ["UA", 900.5, 8, 1.0]
    assert table["hour"].dtype == "int32"


def test_a_missing_text_is_missing_and_not_the_word_none():
    table = table_of_instances({"instances": [{**ONE, "carrier": None}]}, FLIGHTS)
    assert table["carrier"].isna().tolist() == [True]


def test_a_row_of_optional_columns_may_be_empty():
    optional = Model(None, (Column("dep_delay", "float64", "FP64", False),), ())
    assert table_of_instances({"instances": [{}, {}]}, optional)["dep_delay"].isna().tolist() == [True, True]


def test_a_model_without_a_signature_gets_numbers_and_missing_ones_as_nan():
    table = table_of_instances({"instances": [[1, 2, 3, None], [1, 2, 3, 4]]}, NUMBERS)
    assert table.dtype == float
    assert np.isnan(table).tolist() == [[False, False, False, True], [False] * 4]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ([ONE], 'Expected "instances" to be a list'),
        ({"foo": 1}, 'Expected "instances" to be a list'),
        ({"instances": "x"}, 'Expected "instances" to be a list'),
        ({"instances": []}, "at least one row"),
        ({"instances": [1, 2]}, "Expected every instance to be a list"),
        ({"instances": [ONE, ["AA", 500, 7, 1]]}, "Expected every instance to be a list"),
        ({"instances": [{"carrier": "AA", "hour": 7}]}, "missing: distance"),
        ({"instances": [{**ONE, "speed": 3}]}, "carrier, distance, hour, dep_delay; unknown: speed"),
        ({"instances": [["AA", 500]]}, "A row has 2 values, the model wants 4"),
        ({"instances": [{**ONE, "distance": "far"}]}, "Column distance wants numbers (FP64)"),
        ({"instances": [{**ONE, "distance": [1]}]}, "Column distance wants numbers (FP64)"),
        ({"instances": [{**ONE, "carrier": 12}]}, "Column carrier wants text, not 12"),
        ({"instances": [{**ONE, "hour": None}]}, "Column hour wants a value in every row (INT32)"),
        ({"instances": [{**ONE, "hour": 7.5}]}, "Column hour wants values of INT32, not 7.5"),
        ({"instances": [{**ONE, "hour": 2**40}]}, "Column hour wants values of INT32, not 1099511627776"),
        ({"instances": [{**ONE, "hour": 2**80}]}, "Column hour wants numbers (INT32)"),
    ],
)
def test_a_wrong_v1_body_is_refused_and_told_what_was_expected(body, words):
    with pytest.raises(BadRequest) as caught:
        table_of_instances(body, FLIGHTS)
    assert words in str(caught.value)


def test_text_is_no_truth_value():
    model = Model(None, (Column("direct", "bool", "BOOL", True),), ())
    assert table_of_instances({"instances": [[True], [0]]}, model)["direct"].tolist() == [True, False]
    for wrong in ("false", 2):
        with pytest.raises(BadRequest, match="Column direct wants"):
            table_of_instances({"instances": [[wrong]]}, model)


def test_without_a_signature_the_order_of_the_client_stays():
    names = [f"feature {number}" for number in (2, 0, 3, 1)]
    table = table_of_instances({"instances": [dict(zip(names, range(4), strict=True))]}, NUMBERS)
    assert table.tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [[1, 2]]},
        {"instances": [{"a": 1, "b": 2}]},
        {"instances": [[1, 2, 3, "x"]]},
        {"instances": [[1, 2, 3, [4]]]},
    ],
)
def test_a_model_without_a_signature_refuses_what_it_was_not_fitted_on(body):
    with pytest.raises(BadRequest, match=r"the model wants 4|not a number"):
        table_of_instances(body, NUMBERS)


def test_a_tensor_a_column_becomes_a_table():
    table = table_of_tensors(_columns(hour=_tensor("hour", "INT32", [[7], [8]], [2, 1])), FLIGHTS)
    assert list(table) == ["carrier", "distance", "hour", "dep_delay"]
    assert table.iloc[1].tolist()[:3] == ["UA", 900.5, 8]
    assert table["dep_delay"].isna().all()


@pytest.mark.parametrize("data", [[1, 2, 3, 4, 5, 6, 7, 8], [[1, 2, 3, 4], [5, 6, 7, 8]]])
def test_one_tensor_of_rows_and_columns_is_a_table_flat_or_nested(data):
    table = table_of_tensors({"inputs": [_tensor("x", "FP32", data, [2, 4])]}, NUMBERS)
    assert table.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ([], 'Expected "inputs" to be a list of tensors'),
        ({"inputs": []}, 'Expected "inputs" to be a list of tensors'),
        ({"inputs": [7]}, "An input tensor lacks"),
        ({"inputs": [{"name": "x", "shape": [1]}]}, "An input tensor lacks data, datatype"),
        (_columns(hour=None), "missing: hour"),
        (_columns(speed=_tensor("speed", "FP64", [1, 2])), "unknown: speed"),
        (_columns(hour=_tensor("hour", "INT32", [7])), "different numbers of rows"),
        (_columns(hour=_tensor("hour", "INT32", [7, 8], [3])), "Input hour has 2 values, its shape wants 3"),
        (_columns(hour=_tensor("hour", "INT32", 7, [2])), "Input hour"),
        (_columns(hour=_tensor("hour", "INT32", "78", [2])), "Input hour"),
        (_columns(hour=_tensor("hour", "INT32", [[7], [8, 9]], [2, 1])), "Input hour has 3 values"),
        (_columns(hour=_tensor("hour", "INT32", [7, 8], "2")), "Input hour"),
        (_columns(hour=_tensor("hour", "INT32", [7, 8], [2.0])), "Input hour"),
        (_columns(hour=_tensor("hour", "NUMBER", [7, 8])), "unknown datatype: 'NUMBER'"),
        (_columns(hour=_tensor("hour", ["INT32"], [7, 8])), "unknown datatype"),
        (_columns(hour=_tensor(["hour"], "INT32", [7, 8])), "name"),
        (_columns(again=_tensor("hour", "INT32", [7, 8])), "Input hour is given twice"),
        ({"inputs": [_tensor("x", "FP64", [1, 2], [1, 2])]}, "A row has 2 values, the model wants 4"),
        ({"inputs": [_tensor("x", "FP64", [1, 2, 3], [2, 4])]}, "Input x has 3 values, its shape wants 8"),
        ({"inputs": [_tensor("x", "FP64", [], [0, 4])]}, "row"),
    ],
)
def test_a_wrong_v2_body_is_refused_and_told_what_was_expected(body, words):
    with pytest.raises(BadRequest) as caught:
        table_of_tensors(body, FLIGHTS)
    assert words in str(caught.value)


def test_tensors_that_are_not_one_a_feature_are_refused_without_a_signature():
    with pytest.raises(BadRequest, match="the model wants 4"):
        table_of_tensors({"inputs": [_tensor("x", "FP64", [1, 2, 3, 4])]}, NUMBERS)


@pytest.mark.parametrize(
    ("predictions", "datatype", "shape"),
    [
        (np.array([1, 0]), "INT64", [2]),
        (np.array([[0.25, 0.75]]), "FP64", [1, 2]),
        (np.array([1.5], dtype=np.float32), "FP32", [1]),
        (np.array([True]), "BOOL", [1]),
        (np.array([3], dtype=np.uint16), "UINT16", [1]),
        (np.array(["late", "on time"]), "BYTES", [2]),
        (np.array(["late", None], dtype=object), "BYTES", [2]),
    ],
)
def test_predictions_become_one_tensor_with_their_shape_and_datatype(predictions, datatype, shape):
    asked = infer_request(json.dumps({"inputs": [_tensor("x", "FP64", [1.0])]}).encode(), None)
    body, binary = infer_answer("iris", "1", "42", {"output-0": predictions}, asked)
    (tensor,) = json.loads(body)["outputs"]
    assert binary is None
    assert (tensor["name"], tensor["datatype"], tensor["shape"]) == ("output-0", datatype, shape)
    assert tensor["data"] == predictions.reshape(-1).tolist()
