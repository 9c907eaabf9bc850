"""Open Inference Protocol tensors: datatypes, and data as JSON lists or as bytes, to arrays and back.

Data: https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md, and for
bytes the binary tensor data extension of the same repository: little-endian, row-major, BYTES elements each behind
their length in four bytes; BF16 is the upper half of a float32 and becomes a float32 array here.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from headrace.serving.runtime.errors import BadRequest

DATATYPES = {
    "BOOL": np.dtype(bool),
    "INT8": np.dtype(np.int8), "INT16": np.dtype(np.int16), "INT32": np.dtype(np.int32), "INT64": np.dtype(np.int64),
    "UINT8": np.dtype(np.uint8), "UINT16": np.dtype(np.uint16), "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "FP16": np.dtype(np.float16), "FP32": np.dtype(np.float32), "FP64": np.dtype(np.float64),
    "BF16": np.dtype(np.float32),
    "BYTES": np.dtype(object),
}  # fmt: skip
_NAMES = {dtype: name for name, dtype in DATATYPES.items() if name != "BF16"}
_SIZES = {name: dtype.itemsize for name, dtype in DATATYPES.items()} | {"BF16": 2}


def datatype_of(array: Any) -> str:
    """The protocol's word for an array's type; text and objects are BYTES."""
    return _NAMES.get(array.dtype, "BYTES")


def checked_shape(name: str, shape: Any) -> list[int]:
    """A shape as a client gave it. Raises BadRequest."""
    if not isinstance(shape, list) or not all(type(length) is int and 0 <= length < 2**48 for length in shape):
        raise BadRequest(f"Input {name} wants a shape that is a list of whole numbers, not {short(shape)}")
    if len(shape) > 32 or math.prod(length or 1 for length in shape) >= 2**48:
        raise BadRequest(f"Input {name} has a shape that no request can hold: {short(shape)}")
    return shape


def checked_datatype(name: str, datatype: Any) -> str:
    """A datatype as a client gave it. Raises BadRequest."""
    if not isinstance(datatype, str) or datatype not in DATATYPES:
        known = ", ".join(DATATYPES)
        raise BadRequest(f"Input {name} has an unknown datatype: {short(datatype)}; the protocol has {known}")
    return datatype


def from_list(name: str, datatype: str, shape: list[int], data: Any) -> Any:
    """The array in a tensor's JSON `data`, flat or nested; null is a missing number or a missing text.

    Raises:
        BadRequest: not as many values as the shape says, or not of the datatype.
    """
    if not isinstance(data, list):
        raise BadRequest(f"Input {name} wants its data as a list")
    wanted = math.prod(shape)
    if DATATYPES[datatype].kind == "f" and len(data) == wanted and (made := packed(data)) is not None:
        return converted(f"Input {name}", datatype, made).reshape(shape)
    flat = flattened(name, data)
    if len(flat) != wanted:
        raise BadRequest(f"Input {name} has {len(flat)} values, its shape wants {wanted}")
    return values_of(f"Input {name}", datatype, flat).reshape(shape)


def flattened(name: str, data: list[Any]) -> list[Any]:
    """Nested lists as one; at most 32 deep. Raises BadRequest."""
    for _ in range(32):
        kinds = set(map(type, data))
        if list not in kinds:
            return data
        if len(kinds) > 1:
            raise BadRequest(f"Input {name} has lists beside values in its data")
        data = [one for value in data for one in value]
    raise BadRequest(f"Input {name} has its data in lists that are too deep")


def values_of(what: str, datatype: str, values: list[Any]) -> Any:
    """A flat array of a datatype; numbers are taken as they are meant (7.0 is a whole number), nothing is cut off.

    Raises:
        BadRequest: a value that is not of the datatype; `what` is named.
    """
    if datatype == "BYTES":
        return texts_of(what, values)
    dtype = DATATYPES[datatype]
    if dtype.kind == "f" and (given := packed(values)) is not None:
        return converted(what, datatype, given)
    if None in values:
        if dtype.kind != "f":
            raise BadRequest(f"{what} wants a value in every row ({datatype})")
        values = [math.nan if value is None else value for value in values]
    try:
        given = np.array(values) if values else np.empty(0, dtype)
    except (ValueError, OverflowError) as error:  # lists of different lengths
        raise BadRequest(f"{what} wants numbers ({datatype})") from error
    if given.ndim != 1 or given.dtype.kind not in "biuf":
        raise BadRequest(f"{what} wants numbers ({datatype})")
    return converted(what, datatype, given)


def packed(values: Sequence[float]) -> Any:
    """Numbers as float64, each looked at once in C, where numpy would look twice; None where one is no number."""
    try:
        return np.frombuffer(bytearray(struct.pack(f"{len(values)}d", *values)))
    except (struct.error, OverflowError):
        return None


def converted(what: str, datatype: str, given: Any) -> Any:
    """An array of numbers in another datatype; whole numbers and truth values keep their value.

    Raises:
        BadRequest: a number that the datatype cannot hold.
    """
    dtype = DATATYPES[datatype]
    if given.dtype == dtype:
        return given
    with np.errstate(all="ignore"):
        made = given.astype(dtype)
        if dtype.kind in "biu":
            changed = given[(made != given) | ((made < 0) != (given < 0))]
        else:
            changed = given[np.isinf(made) & np.isfinite(given)] if given.dtype.kind in "iuf" else given[:0]
    if changed.size:
        raise BadRequest(f"{what} wants values of {datatype}, not {changed.flat[0]}")
    return made


def texts_of(what: str, values: list[Any]) -> Any:
    """An array of objects, each a text or None. Raises BadRequest."""
    if not set(map(type, values)) <= {str, type(None)}:
        for value in values:
            if value is not None and not isinstance(value, str):
                raise BadRequest(f"{what} wants text, not {short(value)}")
    made = np.empty(len(values), object)
    made[:] = values
    return made


def from_bytes(name: str, datatype: str, shape: list[int], raw: Any) -> Any:
    """The array in a tensor's bytes.

    Raises:
        BadRequest: not as many bytes as the shape and datatype say, or text that is not UTF-8.
    """
    count = math.prod(shape)
    if datatype == "BYTES":
        return _texts(name, count, raw).reshape(shape)
    wanted = count * _SIZES[datatype]
    if len(raw) != wanted:
        raise BadRequest(f"Input {name} has {len(raw)} bytes, its shape and datatype want {wanted}")
    if datatype == "BF16":
        upper = np.frombuffer(raw, "<u2").astype(np.uint32) << 16
        return upper.view(np.float32).reshape(shape)
    if datatype == "BOOL":
        return (np.frombuffer(raw, np.uint8) != 0).reshape(shape)
    return np.frombuffer(raw, DATATYPES[datatype].newbyteorder("<")).astype(DATATYPES[datatype]).reshape(shape)


def _texts(name: str, count: int, raw: Any) -> Any:
    found: list[str] = []
    raw = bytes(raw)
    at = 0
    while at < len(raw):
        length = int.from_bytes(raw[at : at + 4], "little")
        end = at + 4 + length
        if at + 4 > len(raw) or end > len(raw):
            raise BadRequest(f"Input {name} ends within a BYTES element: each is four bytes of length and its bytes")
        found.append(text_of(name, raw[at + 4 : end]))
        at = end
        if len(found) > count:
            break
    if len(found) != count:
        raise BadRequest(f"Input {name} has {len(found)} values, its shape wants {count}")
    made = np.empty(count, object)
    made[:] = found
    return made


def text_of(name: str, raw: bytes) -> str:
    """A BYTES element as text. Raises BadRequest."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRequest(f"Input {name} has text that is not UTF-8: {error.reason} at byte {error.start}") from error


def to_bytes(array: Any) -> bytes:
    """An array's elements as the binary extension writes them."""
    if datatype_of(array) == "BYTES":
        elements = [element(value) for value in array.reshape(-1).tolist()]
        return b"".join(len(element).to_bytes(4, "little") + element for element in elements)
    return bytes(np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes())


def element(value: Any) -> bytes:
    """A BYTES element: text as UTF-8, what is missing as nothing."""
    if isinstance(value, bytes):
        return value
    return ("" if value is None else str(value)).encode()


def short(value: Any) -> str:
    """A client's value for a message, not longer than a line."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
