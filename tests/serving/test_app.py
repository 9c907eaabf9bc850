import asyncio
import sqlite3
import uuid
from contextlib import closing
from types import SimpleNamespace

import pytest

from headrace.serving.payload_log import PayloadWriter

ONTIME = {"carrier": "AA", "distance": 500, "hour": 7, "dep_delay": 0}
LATE = {"carrier": "UA", "distance": 900, "hour": 8, "dep_delay": 40}
FLOWERS = [[6.8, 2.8, 4.8, 1.4], [6.0, 3.4, 4.5, 1.6]]
ROW = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP64", "data": FLOWERS[0]}]}


def _infer(**inputs):
    return {
        "inputs": [
            {"name": name, "shape": [len(data)], "datatype": datatype, "data": data}
            for name, (datatype, data) in inputs.items()
        ]
    }


TENSORS = _infer(
    carrier=("BYTES", ["AA", "UA"]), distance=("FP64", [500, 900]), hour=("INT64", [7, 8]), dep_delay=("FP64", [0, 40])
)


@pytest.fixture
def delay(serve, models):
    return serve(models.delay)


@pytest.fixture
def iris(serve, models):
    return serve(models.iris, name="iris")


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/", {"status": "alive"}),
        ("/v1/models", {"models": ["iris"]}),
        ("/v1/models/iris", {"name": "iris", "ready": True}),
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models", {"models": ["iris"]}),
        ("/v2/models/iris/ready", {"name": "iris", "ready": True}),
        ("/v2/models/iris/versions/iris-00001/ready", {"name": "iris", "ready": True}),
    ],
)
def test_it_tells_that_it_lives_and_what_it_serves(iris, path, answer):
    told = iris.get(path)
    assert (told.status_code, told.json()) == (200, answer)


def test_it_tells_which_server_it_is(iris):
    told = iris.get("/v2").json()
    assert told["name"] == "headrace"
    assert told["version"]


@pytest.mark.parametrize("key", ["instances", "inputs"])
def test_v1_answers_the_predictions_of_the_model(iris, key):
    told = iris.post("/v1/models/iris:predict", json={key: FLOWERS})
    assert (told.status_code, told.json()) == (200, {"predictions": [1, 1]})
    assert told.headers["content-type"] == "application/json"


def test_v1_takes_mappings_and_lists_and_answers_the_same(delay):
    for instances in ([ONTIME, LATE], [list(ONTIME.values()), list(LATE.values())]):
        told = delay.post("/v1/models/delay:predict", json={"instances": instances})
        assert (told.status_code, told.json()) == (200, {"predictions": [0, 1]})


def test_a_missing_value_of_an_optional_column_is_answered(delay):
    without = {name: value for name, value in ONTIME.items() if name != "dep_delay"}
    told = delay.post("/v1/models/delay:predict", json={"instances": [without, {**ONTIME, "dep_delay": None}]})
    assert (told.status_code, told.json()) == (200, {"predictions": [0, 0]})


def test_v2_answers_tensors_with_the_revision(delay):
    told = delay.post("/v2/models/delay/infer", json={**TENSORS, "id": "42"})
    assert told.status_code == 200
    assert told.json() == {
        "model_name": "delay",
        "model_version": "delay-00001",
        "id": "42",
        "outputs": [{"name": "output-0", "shape": [2], "datatype": "INT64", "data": [0, 1]}],
    }


def test_v2_answers_one_tensor_of_rows_and_columns_also_for_a_named_version(iris):
    body = {"inputs": [{"name": "input-0", "shape": [2, 4], "datatype": "FP32", "data": FLOWERS[0] + FLOWERS[1]}]}
    for path in ("/v2/models/iris/infer", "/v2/models/iris/versions/iris-00001/infer"):
        assert iris.post(path, json=body).json()["outputs"][0]["data"] == [1, 1]


def test_the_metadata_comes_from_the_signature(delay):
    told = delay.get("/v2/models/delay")
    assert told.status_code == 200
    assert told.json() == {
        "name": "delay",
        "versions": ["delay-00001"],
        "platform": "sklearn_mlflow",
        "inputs": [
            {"name": "carrier", "datatype": "BYTES", "shape": [-1, 1]},
            {"name": "distance", "datatype": "FP64", "shape": [-1, 1]},
            {"name": "hour", "datatype": "INT64", "shape": [-1, 1]},
            {"name": "dep_delay", "datatype": "FP64", "shape": [-1, 1]},
        ],
        "outputs": [{"name": "output-0", "datatype": "INT64", "shape": [-1]}],
    }
    assert delay.get("/v2/models/delay/versions/delay-00001").json() == told.json()


def test_inputs_that_follow_the_metadata_are_answered(delay):
    told = delay.get("/v2/models/delay").json()["inputs"]
    inputs = [{**one, "shape": [1, 1], "data": [ONTIME[one["name"]]]} for one in told]
    assert delay.post("/v2/models/delay/infer", json={"inputs": inputs}).json()["outputs"][0]["data"] == [0]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models/nope"),
        ("POST", "/v1/models/nope:predict"),
        ("GET", "/v2/models/nope"),
        ("GET", "/v2/models/nope/ready"),
        ("POST", "/v2/models/nope/infer"),
    ],
)
def test_an_unknown_model_is_404_with_the_words_of_the_protocol(iris, method, path):
    told = iris.request(method, path, content=b"{}" if method == "POST" else None)
    assert (told.status_code, told.json()) == (404, {"error": "Model with name nope does not exist."})


@pytest.mark.parametrize("path", ["/v1/models/iris:predict", "/v2/models/iris/infer"])
def test_what_is_not_json_is_400(iris, path):
    told = iris.post(path, content=b"{bad json")
    assert told.status_code == 400
    assert told.json()["error"].startswith("Unrecognized request format: ")


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/v1/models/iris:predict", {"instances": "x"}, 'Expected "instances" to be a list'),
        ("/v1/models/iris:predict", {"instances": [[1, 2]]}, "A row has 2 values, the model wants 4"),
        ("/v2/models/iris/infer", {"x": 1}, 'Expected "inputs" to be a list of tensors'),
        ("/v2/models/iris/infer", [1], 'Expected "inputs" to be a list of tensors'),
        ("/v2/models/iris/infer", _infer(x=("FP64", [1, 2])), "A row has 1 values, the model wants 4"),
    ],
)
def test_a_clients_mistake_is_400_and_says_what_was_expected(iris, path, body, words):
    told = iris.post(path, json=body)
    assert (told.status_code, told.json()) == (400, {"error": words})


def test_an_unknown_column_is_400_and_names_those_that_the_model_wants(delay):
    told = delay.post("/v1/models/delay:predict", json={"instances": [{**ONTIME, "speed": 1}]})
    assert told.status_code == 400
    assert told.json()["error"] == ("The model wants the columns carrier, distance, hour, dep_delay; unknown: speed")


def test_what_the_model_raises_is_500_with_its_message(delay):
    told = delay.post("/v1/models/delay:predict", json={"instances": [{**ONTIME, "carrier": "ZZ"}]})
    assert told.status_code == 500
    assert told.json()["error"].startswith("ValueError: Found unknown categories ['ZZ']")


@pytest.mark.parametrize("given", [7, {"a": 1}, ["a"]])
def test_an_id_that_is_no_text_is_400(iris, given):
    told = iris.post("/v2/models/iris/infer", json={**ROW, "id": given})
    assert (told.status_code, told.json()) == (400, {"error": 'Expected "id" to be a string'})


def test_there_is_no_explainer(iris):
    told = iris.post("/v1/models/iris:explain", json={"instances": FLOWERS})
    assert told.status_code == 501
    assert "explain" in told.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nope", 404), ("GET", "/v2/models/iris/stats", 404), ("GET", "/v2/models/iris/infer", 405)],
)
def test_other_paths_and_methods_are_refused_in_json(iris, method, path, status):
    told = iris.request(method, path)
    assert told.status_code == status
    assert told.json()["error"]


@pytest.fixture
def log(tmp_path):
    """A payload log's writer, and the way to what it has written."""
    file = tmp_path / "iris.db"
    writer = PayloadWriter(file, "iris-00001")
    yield SimpleNamespace(writer=writer, written=lambda: _written(file))
    writer.close()


def _written(file):
    with closing(sqlite3.connect(file)) as connection:
        return dict(connection.execute("SELECT id, output FROM prediction"))


def test_predictions_are_logged_by_the_gateways_id_else_the_clients_else_a_new_one(serve, models, log):
    iris = serve(models.iris, name="iris", payloads=log.writer)
    told = [
        iris.post("/v2/models/iris/infer", json=body, headers=headers).json()["id"]
        for body, headers in [
            (ROW, {"x-request-id": "of-the-gateway"}),
            ({**ROW, "id": "of-the-client"}, {}),
            (ROW, {}),
        ]
    ]
    iris.post("/v1/models/iris:predict", json={"instances": FLOWERS}, headers={"x-request-id": "both"})
    log.writer.close()
    assert told[:2] == ["of-the-gateway", "of-the-client"]
    assert uuid.UUID(told[2])
    assert log.written() == {**dict.fromkeys(told, "1"), "both": "[1, 1]"}


def test_the_id_that_a_client_gives_comes_back_also_behind_the_gateway(serve, models, log):
    iris = serve(models.iris, name="iris", payloads=log.writer)
    answer = iris.post("/v2/models/iris/infer", json={**ROW, "id": "42"}, headers={"x-request-id": "abc"})
    log.writer.close()
    assert answer.json()["id"] == "42"
    assert list(log.written()) == ["abc"]


def test_on_the_way_out_the_predictions_in_memory_are_written(serve, models, log):
    iris = serve(models.iris, name="iris", payloads=log.writer)

    async def live_and_end():
        words = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
        told = []

        async def receive():
            return words.pop(0)

        async def send(message):
            told.append(message["type"])

        await iris.application({"type": "lifespan"}, receive, send)
        return told

    iris.post("/v2/models/iris/infer", json={**ROW, "id": "last"})
    assert asyncio.run(live_and_end()) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert log.written() == {"last": "1"}


def test_a_mistake_is_no_prediction(serve, models, log):
    iris = serve(models.iris, name="iris", payloads=log.writer)
    assert iris.post("/v1/models/iris:predict", json={"instances": [[1]]}).status_code == 400
    log.writer.close()
    assert log.written() == {}
