"""From request bodies to tables and back: KServe V1, and V2 (Open Inference Protocol)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from headrace.serving.runtime.loaders import Column, Model

_DATATYPES = {"bool": "BOOL", "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64",
              "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64",
              "float16": "FP16", "float32": "FP32", "float64": "FP64"}  # fmt: skip
_KNOWN_DATATYPES = (*_DATATYPES.values(), "BF16", "BYTES")


class BadRequest(Exception):
    """A client's mistake; the text is the answer's `error`."""


def table_of_instances(body: Any, model: Model) -> Any:
    """The table in a V1 body: `instances` or `inputs`, a list of rows that are lists or mappings.

    Raises:
        BadRequest: not that, or not the columns that the model wants.
    """
    rows = body.get("instances", body.get("inputs")) if isinstance(body, dict) else None
    if not isinstance(rows, list):
        raise BadRequest('Expected "instances" to be a list')
    if not rows:
        raise BadRequest('Expected "instances" to hold at least one row')
    if all(isinstance(row, dict) for row in rows):
        given = dict.fromkeys(name for row in rows for name in row)
        _refuse_unknown(given, model)
        return _table({name: [row.get(name) for row in rows] for name in given}, len(rows), model)
    if all(isinstance(row, list) for row in rows):
        return _table_of_rows(rows, model)
    raise BadRequest("Expected every instance to be a list of numbers, or a mapping of column names to values")


def table_of_tensors(body: Any, model: Model) -> Any:
    """The table in a V2 body: one tensor a column, or one of shape [rows, columns].

    Raises:
        BadRequest: not that, or not the columns that the model wants.
    """
    inputs = body.get("inputs") if isinstance(body, dict) else None
    if not isinstance(inputs, list) or not inputs:
        raise BadRequest('Expected "inputs" to be a list of tensors')
    data: dict[str, list[Any]] = {}
    for tensor in inputs:
        values = _values(tensor)
        if tensor["name"] in data:
            raise BadRequest(f"Input {tensor['name']} is given twice")
        data[tensor["name"]] = values
    shape = inputs[0]["shape"]
    if len(inputs) == 1 and len(shape) == 2 and shape[1] != 1:
        rows, columns = shape
        if not rows:
            raise BadRequest("Expected the input to hold at least one row")
        flat = data[inputs[0]["name"]]
        return _table_of_rows([flat[i * columns : (i + 1) * columns] for i in range(rows)], model)
    lengths = {len(values) for values in data.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise BadRequest(f"The inputs have no rows, or different numbers of rows: {sorted(lengths)}")
    _refuse_unknown(data, model)
    return _table(data, lengths.pop(), model)


def _values(tensor: Any) -> list[Any]:
    """The values of one V2 input tensor, flat; as many as its shape says."""
    missing = {"name", "shape", "datatype", "data"} - set(tensor) if isinstance(tensor, dict) else {"name"}
    if missing:
        raise BadRequest(f"An input tensor lacks {', '.join(sorted(missing))}")
    name, shape = tensor["name"], tensor["shape"]
    if not isinstance(name, str):
        raise BadRequest(f"The name of an input tensor must be a string, not {name!r}")
    if not isinstance(shape, list) or not all(type(length) is int and length >= 0 for length in shape):
        raise BadRequest(f"Input {name} wants a shape that is a list of whole numbers, not {shape!r}")
    if tensor["datatype"] not in _KNOWN_DATATYPES:
        raise BadRequest(f"Input {name} has an unknown datatype: {tensor['datatype']!r}")
    if not isinstance(tensor["data"], list):
        raise BadRequest(f"Input {name} wants its data as a list")
    flat = _flat(tensor["data"])
    if len(flat) != math.prod(shape):
        raise BadRequest(f"Input {name} has {len(flat)} values, its shape wants {math.prod(shape)}")
    return flat


def tensors_of(predictions: Any) -> list[dict[str, Any]]:
    """A V2 answer's `outputs` for an array of predictions."""
    datatype = _DATATYPES.get(str(predictions.dtype), "BYTES")
    flat = predictions.reshape(-1).tolist()
    return [{"name": "output-0", "shape": list(predictions.shape), "datatype": datatype, "data": flat}]


def _refuse_unknown(given: Mapping[str, Any], model: Model) -> None:
    wanted = [column.name for column in model.columns]
    width = _features(model.predictor)
    if not wanted and width not in (0, len(given)):
        raise BadRequest(f"A row has {len(given)} values, the model wants {width}")
    unknown = sorted(set(given) - set(wanted))
    missing = sorted(c.name for c in model.columns if c.required and c.name not in given)
    if wanted and (unknown or missing):
        parts = [f"missing: {', '.join(missing)}"] * bool(missing) + [f"unknown: {', '.join(unknown)}"] * bool(unknown)
        raise BadRequest(f"The model wants the columns {', '.join(wanted)}; {'; '.join(parts)}")


def _table(data: Mapping[str, list[Any]], rows: int, model: Model) -> Any:
    """A DataFrame with the signature's columns and dtypes; what is not given is missing."""
    import pandas as pd

    if not model.columns:
        return pd.DataFrame(data)
    return pd.DataFrame(
        {column.name: _series(data.get(column.name) or [None] * rows, column) for column in model.columns}
    )


def _series(values: list[Any], column: Column) -> Any:
    import numpy as np
    import pandas as pd

    if column.dtype == "string":
        for value in values:
            if value is not None and not isinstance(value, str):
                raise BadRequest(f"Column {column.name} wants text, not {value!r}")
        return pd.Series(values, dtype="str") if pd.__version__ >= "3" else pd.Series(values, dtype=object)
    if None in values:
        if column.dtype.startswith(("int", "bool")):
            raise BadRequest(f"Column {column.name} wants a value in every row ({column.datatype})")
        values = [np.nan if value is None else value for value in values]
    if column.dtype == "object":
        return pd.Series(values)
    try:
        given = np.asarray(values)
    except ValueError:  # lists of different lengths
        given = np.asarray(values, dtype=object)
    if given.ndim != 1 or given.dtype.kind not in "biuf":
        raise BadRequest(f"Column {column.name} wants numbers ({column.datatype})")
    with np.errstate(all="ignore"):
        made = given.astype(column.dtype)
    changed = given[made != given] if made.dtype.kind in "bi" else given[:0]
    if len(changed):
        raise BadRequest(f"Column {column.name} wants values of {column.datatype}, not {changed[0]}")
    return made


def _table_of_rows(rows: list[list[Any]], model: Model) -> Any:
    import numpy as np

    width = len(model.columns) or _features(model.predictor) or len(rows[0])
    for row in rows:
        if len(row) != width:
            raise BadRequest(f"A row has {len(row)} values, the model wants {width}")
    if model.columns:
        return _table({c.name: [row[i] for row in rows] for i, c in enumerate(model.columns)}, len(rows), model)
    try:
        return np.asarray(rows, dtype=float)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadRequest(f"A value is not a number: {error}") from error


def _features(predictor: Any) -> int:
    return int(getattr(predictor, "n_features_in_", 0) or 0)


def _flat(data: list[Any]) -> list[Any]:
    if data and isinstance(data[0], list):
        return [value for row in data for value in (_flat(row) if isinstance(row, list) else [row])]
    return data
