"""KServe's and Triton's own clients against the model server: `make conformance-serving` makes their environment."""

import json
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CLIENTS = Path(__file__).parents[2] / ".tools" / "serving-clients"
PREDICTED = ["output-0", "INT64", [1, 1]]


@pytest.fixture
def ask(running, models):
    """What a client of these was answered."""
    if not (CLIENTS / ".ready").exists():
        pytest.skip("the environment of the clients is absent: make conformance-serving")
    server = running("--model-path", models.iris, grpc=True)

    def answers(script, base):
        done = subprocess.run(
            [CLIENTS / "bin" / "python", "-W", "ignore", HERE / "clients" / script, base % server.port,
             f"127.0.0.1:{server.grpc_port}"],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return answers


def test_kserves_clients_are_answered(ask):
    told = ask("kserve_client.py", "http://127.0.0.1:%d")
    assert told["rest"] == {
        "live": True, "ready": True, "model ready": [True, True], "v1": {"predictions": [1, 1]},
        "json": PREDICTED, "binary": PREDICTED,
    }  # fmt: skip
    assert told["grpc"] == {
        "live": True, "ready": True, "model ready": True, "contents": PREDICTED, "raw": PREDICTED,
        "wrong width": ["INVALID_ARGUMENT", "A row has 3 values, the model wants 4"],
        "unknown": ["NOT_FOUND", "Model with name nope does not exist."],
    }  # fmt: skip


def test_tritons_clients_are_answered(ask):
    told = ask("triton_client.py", "127.0.0.1:%d")
    for way, codes in (("rest", ("404", "400")), ("grpc", ("StatusCode.NOT_FOUND", "StatusCode.INVALID_ARGUMENT"))):
        found = told[way]
        assert (found["live"], found["ready"], found["model ready"]) == (True, True, [True, True])
        assert (found["answer"], found["version"]) == ([1, 1], [1, 1])
        assert found["metadata"]["versions"] == ["iris-00001"]
        assert found["metadata"]["inputs"][0]["name"] == "input-0"
        assert found["unknown version"] == [codes[0], "Model iris has no version 9, only iris-00001."]
        assert found["wrong width"] == [codes[1], "A row has 3 values, the model wants 4"]
        assert found["unknown output"] == [codes[1], "The model has no output 'nope', only output-0"]
    rest = told["rest"]
    assert (rest["json"], rest["gzip"]) == ([1, 1], [1, 1])
    assert rest["index"] == [{"name": "iris", "version": "iris-00001", "state": "READY", "reason": ""}]
    assert rest["unloaded"] == [False, False]
    assert rest["asked while unloaded"] == ["503", "Model with name iris is not ready."]
    assert rest["loaded"] is True
