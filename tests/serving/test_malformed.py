"""A thousand requests that are wrong, each in a way of its own, against a server in a process of its own."""

import json
import random
import struct

import httpx
import pytest

FLOWER = [6.8, 2.8, 4.8, 1.4]
ONTIME = {"carrier": "AA", "distance": 500.0, "hour": 7, "dep_delay": 0.0}
NO_NUMBERS = ["x", "1", {}, [], [1.0], {"a": 1}, "é" * 50]
NO_LISTS = [None, 1, "x", {}, True, {"0": FLOWER}]
NO_SHAPES = [None, 4, "14", [1, "4"], [1, -4], [-1, 4], [1.0, 4.0], [True, 4], [2**60, 4], [[1, 4]], {"n": 1}, [4] * 40]
NO_TYPES = [None, 1, "fp32", "FLOAT", "NOPE", ["FP32"], {}, ""]
LIES = [b"-1", b"x", b"1e3", b"", b"99999999999999999999", b"5 5", b"0x10", "²".encode(), b"1" * 400]


def v1(rows):
    return "/v1/models/iris:predict", json.dumps({"instances": rows}).encode(), {}


def v2(tensor, **more):
    return "/v2/models/iris/infer", json.dumps({"inputs": [tensor], **more}).encode(), {}


def tensor(**changed):
    made = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": FLOWER, **changed}
    return {key: value for key, value in made.items() if value is not ...}


def binary(random, **changed):
    """A request with a binary tensor, whole but for what is changed."""
    raw = changed.pop("raw", struct.pack("<4f", *FLOWER))
    size = changed.pop("size", len(raw))
    head = json.dumps({"inputs": [tensor(data=..., parameters={"binary_data_size": size}, **changed)]}).encode()
    length = changed.pop("length", str(len(head)).encode())
    return "/v2/models/iris/infer", head + raw, {"inference-header-content-length": length}


def noise(random):
    return (
        random.choice(["/v1/models/iris:predict", "/v2/models/iris/infer"]),
        random.randbytes(random.randint(0, 300)),
        {},
    )


def cut(random):
    path, body, headers = random.choice([v1([FLOWER]), v2(tensor())])
    return path, body[: random.randint(0, len(body) - 1)], headers


def invalid_utf8(random):
    path, body, headers = v2(tensor(name="NAME"))
    return path, body.replace(b"NAME", random.choice([b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xf8\x88"])), headers


def deep(random):
    depth = random.choice([3, 40, 65, 200, 1500, 100_000])
    nested = b"[" * depth + b"1" + b"]" * depth
    if random.random() < 0.5:
        return "/v1/models/iris:predict", b'{"instances": ' + nested + b"}", {}
    body = b'{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": ' + nested + b"}]}"
    return "/v2/models/iris/infer", body, {}


def wrong_value(random):
    row = list(FLOWER)
    row[random.randrange(4)] = random.choice(NO_NUMBERS)
    return v1([FLOWER, row]) if random.random() < 0.5 else v2(tensor(data=row))


def wrong_width(random):
    width = random.choice([0, 1, 2, 3, 5, 7, 400])
    if random.random() < 0.5:
        return v1([FLOWER, [1.0] * width])
    return v2(tensor(shape=[1, width], data=[1.0] * width))


def wrong_rows(random):
    return v1(random.choice([*NO_LISTS, [1, 2], ["x"], [None], [FLOWER, 1], [FLOWER, ONTIME], [{}], []]))


def no_number(random):
    """NaN and infinities: as null, as what JSON does not have, and in bytes."""
    word = random.choice(["NaN", "Infinity", "-Infinity", "null", "1e999"])
    if word == "null" or random.random() < 0.4:
        bad = random.choice([float("nan"), float("inf"), float("-inf")])
        return binary(random, raw=struct.pack("<4f", 1, 2, 3, bad))
    return "/v1/models/iris:predict", b'{"instances": [[1, 2, 3, ' + word.encode() + b"]]}", {}


def null(random):
    whole = tensor(datatype="INT32", data=[1, 2, 3, None])
    return random.choice([v1([[1, 2, 3, None]]), v2(tensor(data=[1, None, 3, 4])), v2(whole)])


def wrong_shape(random):
    return v2(tensor(shape=random.choice([*NO_SHAPES, [4, 4], [3], [0, 4], [], [1, 4, 2]])))


def wrong_type(random):
    kind = random.choice([*NO_TYPES, "BYTES", "INT8", "BOOL", "UINT16"])
    return v2(tensor(datatype=kind, data=[1.5, 2.5, 300.5, -4.5]))


def missing_key(random):
    return v2(tensor(**{random.choice(["name", "shape", "datatype", "data"]): ...}))


def wrong_parts(random):
    path = "/v2/models/iris/infer"
    whole = {"inputs": [tensor()]}
    body = random.choice(
        [
            {}, [], 1, None, "x", {"inputs": {}}, {"inputs": [1]}, {"inputs": [None]}, {"inputs": []},
            {**whole, "id": 7}, {**whole, "id": {}}, {**whole, "parameters": [1]}, {**whole, "outputs": 1},
            {**whole, "outputs": [1]}, {**whole, "outputs": [{"name": 1}]}, {**whole, "outputs": [{"name": "nope"}]},
            {**whole, "outputs": [{"name": "output-0", "parameters": {"classification": 3}}]},
            {**whole, "parameters": {"binary_data_output": "yes"}}, {"inputs": [tensor(), tensor()]},
            {"inputs": [tensor(name=3)]}, {"inputs": [tensor(parameters=3)]}, {"inputs": [tensor(data=7)]},
            {"inputs": [tensor(), tensor(name="y")]},
        ]
    )  # fmt: skip
    return path, json.dumps(body).encode(), {}


def lying_header(random):
    path, body, headers = binary(random)
    lie = random.choice([*LIES, str(random.choice([0, 1, 20, len(body) - 1, len(body), len(body) + 1])).encode()])
    return path, body, {**headers, "inference-header-content-length": lie}


def lying_size(random):
    return binary(random, size=random.choice([0, 1, 15, 17, 10**9, -1, 4.0, "16", True, [16], {}]))


def lying_bytes(random):
    """BYTES elements whose lengths do not add up, or that are no text."""
    raw = random.choice([
        struct.pack("<I", 2**32 - 1) + b"a", b"\x01", struct.pack("<I", 5) + b"abc", b"",
        struct.pack("<I", 1) + b"\xff", (struct.pack("<I", 1) + b"a") * 9,
    ])  # fmt: skip
    return binary(random, raw=raw, datatype="BYTES", shape=[4])


def packed(random):
    """What is said to be gzip and is not, or is no coding that anybody knows."""
    path, body, headers = v1([FLOWER])
    return path, body, {**headers, "content-encoding": random.choice(["gzip", "deflate", "br", "nope"])}


def large(random):
    path, body, headers = v1([FLOWER])
    return path, body + b" " * 200_000, headers


WAYS = [
    noise, cut, invalid_utf8, deep, wrong_value, wrong_width, wrong_rows, no_number, null, wrong_shape, wrong_type,
    missing_key, wrong_parts, lying_header, lying_size, lying_bytes, packed, large,
]  # fmt: skip


def test_a_thousand_malformed_requests_are_each_refused_with_a_reason(running, models):
    server = running("--model-path", models.iris, "--max-body", 199_999)
    chance = random.Random(20261125)
    with httpx.Client(base_url=server.base, timeout=30) as client:
        for number in range(1000):
            way = WAYS[number % len(WAYS)]
            path, body, headers = way(chance)
            told = client.post(path, content=body, headers=headers)
            what = f"{way.__name__} {number}: {path} {headers} {body[:300]!r} -> {told.status_code} {told.text[:300]}"
            assert 400 <= told.status_code < 500, what
            assert told.json()["error"], what
        good = client.post("/v1/models/iris:predict", json={"instances": [FLOWER]})
    assert (good.status_code, good.json()) == (200, {"predictions": [1]})
    assert server.process.poll() is None


@pytest.mark.parametrize("column", ["carrier", "distance", "hour"])
def test_wrong_values_of_named_columns_are_refused_and_the_column_is_named(kept, models, column):
    server = kept("--model-path", models.delay, name="delay")
    with httpx.Client(base_url=server.base, timeout=30) as client:
        for bad in [
            [],
            {},
            [1],
            {"a": "b"},
            True if column == "carrier" else "late",
            1 if column == "carrier" else "1",
        ]:
            told = client.post("/v1/models/delay:predict", json={"instances": [ONTIME, {**ONTIME, column: bad}]})
            assert told.status_code == 400, (bad, told.text)
            assert column in told.json()["error"]
