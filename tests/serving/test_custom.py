"""A team's own classes: a predictor instead of a model, a transformer around one."""

import json

import pytest

from headrace.errors import HeadraceError, UsageError
from headrace.serving.runtime import custom

FLOWERS = [[6.8, 2.8, 4.8, 1.4], [6.0, 3.4, 4.5, 1.6]]
DOUBLE = """
class Double:
    def load(self):
        self.factor = 2

    def predict(self, payload, headers=None):
        if isinstance(payload, dict):
            if payload["instances"] == ["nan"]:
                return {"predictions": [float("nan")]}
            return {"predictions": [self.factor * x for x in payload["instances"]], "who": headers.get("x-who")}
        return {"outputs": [{"name": "twice", "shape": t.shape, "datatype": t.datatype,
                             "data": (t.as_numpy() * self.factor).reshape(-1).tolist()} for t in payload.inputs]}
"""
CENTIMETRES = """
class Centimetres:
    async def preprocess(self, payload, headers=None):
        if isinstance(payload, dict):
            return {"instances": [[value / 10 for value in row] for row in payload["instances"]]}
        for tensor in payload.inputs:
            tensor.data = tensor.as_numpy() / 10
        return payload

    def postprocess(self, result):
        names = ["setosa", "versicolor", "virginica"]
        if "predictions" in result:
            return {"predictions": [names[kind] for kind in result["predictions"]]}
        (output,) = result["outputs"]
        return {"outputs": [{**output, "datatype": "BYTES", "data": [names[kind] for kind in output["data"]]}]}
"""


@pytest.fixture
def own(tmp_path):
    """Writes a class into a file; what the option is given."""

    def write(name, code):
        file = tmp_path / f"own_{name.lower()}.py"
        file.write_text(code)
        return f"{file}:{name}"

    return write


@pytest.mark.parametrize("workers", [1, 2])
def test_a_predictor_of_ones_own_answers_v1_and_v2(running, own, workers):
    server = running("--model-class", own("Double", DOUBLE), "--workers", workers, name="double")
    told = server.post("/v1/models/double:predict", json={"instances": [1, 2.5]}, headers={"x-who": "me"})
    assert (told.status_code, told.json()) == (200, {"predictions": [2, 5.0], "who": "me"})
    tensor = {"name": "x", "shape": [2], "datatype": "INT32", "data": [3, 4]}
    told = server.post("/v2/models/double/infer", json={"inputs": [tensor], "id": "7"})
    assert told.json() == {
        "model_name": "double", "model_version": "double-00001", "id": "7",
        "outputs": [{"name": "twice", "shape": [2], "datatype": "INT32", "data": [6, 8]}],
    }  # fmt: skip
    told = server.post("/v1/models/double:predict", json={"instances": ["nan"]})
    assert (told.status_code, "NaN" in told.json()["error"]) == (500, True)
    told = server.post("/v1/models/double:predict", json={"rows": []})
    assert (told.status_code, told.json()) == (500, {"error": "KeyError: 'instances'"})


def test_a_transformer_stands_around_the_model(running, own, models):
    server = running("--model-path", models.iris, "--transformer", own("Centimetres", CENTIMETRES))
    rows = [[value * 10 for value in row] for row in FLOWERS]
    told = server.post("/v1/models/iris:predict", json={"instances": rows})
    assert (told.status_code, told.json()) == (200, {"predictions": ["versicolor", "versicolor"]})
    data = [value for row in rows for value in row]
    tensor = {"name": "x", "shape": [2, 4], "datatype": "FP64", "data": data}
    told = server.post("/v2/models/iris/infer", content=json.dumps({"inputs": [tensor]}))
    assert told.json()["outputs"] == [
        {"name": "output-0", "shape": [2], "datatype": "BYTES", "data": ["versicolor", "versicolor"]}
    ]
    told = server.post("/v1/models/iris:predict", json={"instances": [[1, 2]]})
    assert (told.status_code, told.json()) == (400, {"error": "A row has 2 values, the model wants 4"})


def test_kserves_shape_of_a_class_is_taken(own):
    code = "class Named:\n    def __init__(self, name):\n        self.name = name\n"
    code += "    def predict(self, payload):\n        return payload\n"
    made = custom.load(own("Named", code), "--model-class", "iris")
    assert made.made.name == "iris"


@pytest.mark.parametrize(
    ("named", "error", "words"),
    [
        ("nowhere.py:Double", UsageError, "--model-class names no file: nowhere.py:Double"),
        ("Double", UsageError, "--model-class names no file"),
        ("{file}:Other", UsageError, "there is no such class"),
        ("{file}:Empty", UsageError, "the class has no predict"),
        ("{file}:Broken", HeadraceError, "its code raised ZeroDivisionError: division by zero"),
    ],
)
def test_a_wrong_class_is_told(tmp_path, own, named, error, words):
    code = "class Empty:\n    pass\n\nclass Broken:\n    def load(self):\n        1 / 0\n"
    file = own("Empty", code).partition(":")[0]
    with pytest.raises(error) as caught:
        custom.load(named.replace("{file}", file), "--model-class", "iris")
    assert words in str(caught.value)
