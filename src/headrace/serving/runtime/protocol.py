"""From request bodies to tables and back: KServe V1, and V2 (Open Inference Protocol)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headrace.serving.runtime.loaders import Column, Model

_DATATYPES = {"bool": "BOOL", "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64",
              "uint8": "UINT8", "float32": "FP32", "float64": "FP64"}  # fmt: skip


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
        names = [column.name for column in model.columns] or list(rows[0])
        given = {name for row in rows for name in row}
        _refuse_unknown(given, names, model)
        return _table({name: [row.get(name) for row in rows] for name in given}, model)
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
    for tensor in inputs:
        missing = {"name", "shape", "datatype", "data"} - set(tensor) if isinstance(tensor, dict) else {"name"}
        if missing:
            raise BadRequest(f"An input tensor lacks {', '.join(sorted(missing))}")
    if len(inputs) == 1 and len(inputs[0]["shape"]) == 2 and inputs[0]["shape"][1] != 1:
        rows, columns = inputs[0]["shape"]
        flat = _flat(inputs[0]["data"])
        if len(flat) != rows * columns:
            raise BadRequest(f"Input {inputs[0]['name']} has {len(flat)} values, its shape wants {rows * columns}")
        return _table_of_rows([flat[i * columns : (i + 1) * columns] for i in range(rows)], model)
    data = {tensor["name"]: _flat(tensor["data"]) for tensor in inputs}
    lengths = {len(values) for values in data.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise BadRequest(f"The inputs have different numbers of rows: {sorted(lengths)}")
    for tensor in inputs:
        size = 1
        for length in tensor["shape"]:
            size *= length
        if size != len(data[tensor["name"]]):
            raise BadRequest(f"Input {tensor['name']} has {len(data[tensor['name']])} values, its shape wants {size}")
    _refuse_unknown(set(data), [column.name for column in model.columns], model)
    return _table(data, model)


def tensors_of(predictions: Any) -> list[dict[str, Any]]:
    """A V2 answer's `outputs` for an array of predictions."""
    datatype = _DATATYPES.get(str(predictions.dtype), "BYTES")
    flat = predictions.reshape(-1).tolist()
    return [{"name": "output-0", "shape": list(predictions.shape), "datatype": datatype, "data": flat}]


def _refuse_unknown(given: set[str], wanted: Sequence[str], model: Model) -> None:
    unknown = sorted(given - set(wanted))
    missing = sorted(c.name for c in model.columns if c.required and c.name not in given)
    if model.columns and (unknown or missing):
        parts = [f"missing: {', '.join(missing)}"] * bool(missing) + [f"unknown: {', '.join(unknown)}"] * bool(unknown)
        raise BadRequest(f"The model wants the columns {', '.join(wanted)}; {'; '.join(parts)}")


def _table(data: Mapping[str, list[Any]], model: Model) -> Any:
    """A DataFrame with the signature's columns and dtypes; what is not given is missing."""
    import pandas as pd

    if not model.columns:
        return pd.DataFrame(data)
    rows = len(next(iter(data.values())))
    try:
        return pd.DataFrame(
            {column.name: _series(data.get(column.name) or [None] * rows, column) for column in model.columns}
        )
    except (TypeError, ValueError) as error:
        raise BadRequest(f"A value is not of its column's type: {error}") from error


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
    return np.asarray(values, dtype=column.dtype if column.dtype != "object" else None)


def _table_of_rows(rows: list[list[Any]], model: Model) -> Any:
    import numpy as np

    width = len(model.columns) or _features(model.predictor) or len(rows[0])
    for row in rows:
        if len(row) != width:
            raise BadRequest(f"A row has {len(row)} values, the model wants {width}")
    if model.columns:
        return _table({c.name: [row[i] for row in rows] for i, c in enumerate(model.columns)}, model)
    try:
        return np.asarray(rows, dtype=float)
    except (TypeError, ValueError) as error:
        raise BadRequest(f"A value is not a number: {error}") from error


def _features(predictor: Any) -> int:
    return int(getattr(predictor, "n_features_in_", 0) or 0)


def _flat(data: Any) -> list[Any]:
    if data and isinstance(data[0], list):
        return [value for row in data for value in _flat(row)]
    return list(data)
