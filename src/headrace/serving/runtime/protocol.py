"""Request bodies of KServe V1 and V2 (Open Inference Protocol) as values, and answers as bodies.

V2: https://github.com/kserve/open-inference-protocol, with its binary tensor data extension.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from headrace.serving.runtime import tensors
from headrace.serving.runtime.errors import BadRequest
from headrace.serving.runtime.tensors import short

_BINARY = "binary_data"
_SIZE = "binary_data_size"


@dataclass
class InferInput:
    """An input tensor of a V2 request, as a transformer or a custom model meets it."""

    name: str
    shape: list[int]
    datatype: str
    data: Any
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def as_numpy(self) -> Any:
        """The data as an array of `shape`; BYTES are objects, BF16 is float32."""
        return self.data


@dataclass
class InferRequest:
    """A V2 request. `outputs` are the names that were asked for (all when empty), each with whether as bytes."""

    id: str | None
    inputs: list[InferInput]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, bool] = field(default_factory=dict)
    binary: bool = False

    def get_input_by_name(self, name: str) -> InferInput | None:
        """The input of this name, if there is one."""
        return next((one for one in self.inputs if one.name == name), None)

    def arrays(self) -> dict[str, Any]:
        """The inputs' data by name. Raises BadRequest when two have the same."""
        found = {one.name: one.data for one in self.inputs}
        if len(found) != len(self.inputs):
            names = [one.name for one in self.inputs]
            raise BadRequest(f"Input {next(name for name in names if names.count(name) > 1)} is given twice")
        return found


def parse(raw: bytes) -> Any:
    """A JSON body. Raises BadRequest."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"Unrecognized request format: {error}") from error


def instances_of(body: Any) -> list[Any]:
    """The rows in a V1 body: `instances`, or `inputs` as KServe also takes them. Raises BadRequest."""
    rows = body.get("instances", body.get("inputs")) if isinstance(body, dict) else None
    if not isinstance(rows, list):
        raise BadRequest('Expected "instances" to be a list')
    return rows


def infer_request(raw: bytes, header_length: str | bytes | None) -> InferRequest:
    """The V2 request in a body. `header_length` is the header Inference-Header-Content-Length: how much of it is JSON.

    Raises:
        BadRequest: anything that is not as the protocol says, with what was expected.
    """
    length = _header_length(header_length, len(raw))
    body = parse(raw[:length])
    given = body.get("inputs") if isinstance(body, dict) else None
    if not isinstance(given, list) or not given:
        raise BadRequest('Expected "inputs" to be a list of tensors')
    binary = memoryview(raw)[length:]
    at, inputs = 0, []
    for tensor in given:
        one, taken = _input(tensor, binary[at:])
        at += taken
        inputs.append(one)
    if at != len(binary):
        raise BadRequest(f"The request has {len(binary)} bytes of binary data, its inputs take {at}")
    return _with_outputs(body, inputs)


def _header_length(given: str | bytes | None, whole: int) -> int:
    if given is None:
        return whole
    text = given.decode("latin-1") if isinstance(given, bytes) else given
    if not (text.isascii() and text.isdigit()) or len(text) > 15 or int(text) > whole:
        raise BadRequest(
            f"Inference-Header-Content-Length must be a number of bytes within the body ({whole}), not {short(text)}"
        )
    return int(text)


def _input(tensor: Any, binary: memoryview) -> tuple[InferInput, int]:
    """One input, and how many bytes of the binary data it has taken."""
    if not isinstance(tensor, dict):
        raise BadRequest(f"An input tensor lacks name: it must be a mapping, not {short(tensor)}")
    parameters = _mapping(tensor, "parameters")
    size = parameters.get(_SIZE)
    missing = [key for key in ("data", "datatype", "name", "shape") if key not in tensor]
    if size is not None and "data" in missing:
        missing.remove("data")
    if missing:
        raise BadRequest(f"An input tensor lacks {', '.join(missing)}")
    name = tensor["name"]
    if not isinstance(name, str):
        raise BadRequest(f"The name of an input tensor must be a string, not {short(name)}")
    shape = tensors.checked_shape(name, tensor["shape"])
    datatype = tensors.checked_datatype(name, tensor["datatype"])
    if size is None:
        data = tensors.from_list(name, datatype, shape, tensor["data"])
        return InferInput(name, shape, datatype, data, parameters), 0
    if "data" in tensor:
        raise BadRequest(f"Input {name} has both data and {_SIZE}")
    if type(size) is not int or not 0 <= size <= len(binary):
        raise BadRequest(
            f"Input {name} wants a {_SIZE} within the {len(binary)} bytes that are left, not {short(size)}"
        )
    data = tensors.from_bytes(name, datatype, shape, binary[:size])
    return InferInput(name, shape, datatype, data, parameters), size


def _with_outputs(body: Mapping[str, Any], inputs: list[InferInput]) -> InferRequest:
    given = body.get("id")
    if given is not None and not isinstance(given, str):
        raise BadRequest('Expected "id" to be a string')
    parameters = _mapping(body, "parameters")
    all_binary = _flag(parameters, "binary_data_output")
    wanted = body.get("outputs") or []
    if not isinstance(wanted, list):
        raise BadRequest('Expected "outputs" to be a list of tensors')
    outputs: dict[str, bool] = {}
    for one in wanted:
        name = one.get("name") if isinstance(one, dict) else None
        if not isinstance(name, str):
            raise BadRequest("A requested output must be a mapping with a name")
        own = _mapping(one, "parameters")
        if "classification" in own:
            raise BadRequest("The classification extension is not offered here: ask for the output itself")
        outputs[name] = _flag(own, _BINARY) if _BINARY in own else all_binary
    return InferRequest(given, inputs, parameters, outputs, all_binary)


def _mapping(given: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = given.get(key)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise BadRequest(f'Expected "{key}" to be a mapping')
    return found


def _flag(parameters: Mapping[str, Any], name: str) -> bool:
    value = parameters.get(name, False)
    if not isinstance(value, bool):
        raise BadRequest(f"{name} must be true or false, not {short(value)}")
    return value


def infer_answer(
    name: str, version: str, id_: str, outputs: Mapping[str, Any], asked: InferRequest
) -> tuple[bytes, int | None]:
    """A V2 answer's body, and how much of it is JSON when tensors follow as bytes (else None).

    Raises:
        BadRequest: an output that the model does not have.
    """
    described: list[dict[str, Any]] = []
    blobs: list[bytes] = []
    for output in asked.outputs or outputs:
        if output not in outputs:
            raise BadRequest(f"The model has no output {short(output)}, only {', '.join(outputs)}")
        array = outputs[output]
        told: dict[str, Any] = {
            "name": output, "shape": list(array.shape), "datatype": tensors.datatype_of(array),
        }  # fmt: skip
        if asked.outputs.get(output, asked.binary):
            blobs.append(tensors.to_bytes(array))
            told["parameters"] = {_SIZE: len(blobs[-1])}
        else:
            told["data"] = listed(array)
        described.append(told)
    head = orjson.dumps(
        {"model_name": name, "model_version": version, "id": id_, "outputs": described},
        option=orjson.OPT_SERIALIZE_NUMPY, default=_plain,
    )  # fmt: skip
    return (b"".join([head, *blobs]), len(head)) if blobs else (head, None)


def described(outputs: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Arrays as the output tensors of a V2 answer, with their data as lists."""
    return [
        {"name": name, "shape": list(a.shape), "datatype": tensors.datatype_of(a), "data": a.reshape(-1).tolist()}
        for name, a in outputs.items()
    ]


def predictions_of(outputs: Mapping[str, Any]) -> Any:
    """A V1 answer's `predictions`: a value a row, or a mapping of outputs a row when the model has several."""
    if len(outputs) == 1:
        return listed(next(iter(outputs.values())), flat=False)
    columns = {name: array.tolist() for name, array in outputs.items()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def v1_answer(outputs: Mapping[str, Any]) -> bytes:
    """A V1 answer's body."""
    return orjson.dumps({"predictions": predictions_of(outputs)}, option=orjson.OPT_SERIALIZE_NUMPY, default=_plain)


def listed(array: Any, flat: bool = True) -> Any:
    """What JSON takes for an array: the array itself where orjson writes it, else lists."""
    if flat:
        array = array.reshape(-1)
    return array if array.dtype.kind in "biuf" and array.ndim and array.flags.c_contiguous else array.tolist()


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    tolist = getattr(value, "tolist", None)
    return tolist() if tolist is not None else str(value)


def error_body(message: str) -> bytes:
    """The protocols' form of a refusal."""
    return orjson.dumps({"error": message.encode("utf-8", "replace").decode()})


Headers = Sequence[tuple[bytes, bytes]]
