"""From what a request says to what the model takes: rows or tensors, checked against the model's signature."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np

from headrace.serving.runtime.errors import BadRequest
from headrace.serving.runtime.models import Column, Inputs, Model, Tensor
from headrace.serving.runtime.tensors import DATATYPES, converted, packed, short, texts_of, values_of


def of_rows(rows: Any, model: Model) -> Inputs:
    """The inputs in a V1 body's `instances`: rows that are lists or mappings.

    Raises:
        BadRequest: not that, or not what the model wants.
    """
    if not isinstance(rows, list):
        raise BadRequest('Expected "instances" to be a list')
    if not rows:
        raise BadRequest('Expected "instances" to hold at least one row')
    kinds = set(map(type, rows))
    if isinstance(rows[0], dict):
        if kinds != {dict}:
            raise _neither()
        return _of_mappings(_unrolled(rows) if model.form != "tensors" else rows, model)
    if model.form == "tensors" and not model.columns:
        return _one_tensor(rows, model)
    if kinds != {list}:
        raise _neither()
    return of_lists(rows, model)


def of_lists(rows: list[list[Any]], model: Model) -> Inputs:
    """The inputs in rows of values, which follow the order of the signature. Raises BadRequest."""
    if model.columns and not _all_numbers(model):
        width = len(model.columns)
        for row in rows:
            if len(row) != width:
                raise _width(len(row), width)
        return _columns({c.name: [row[i] for row in rows] for i, c in enumerate(model.columns)}, len(rows), model)
    return of_matrix(_matrix(rows, model.width), model)


def of_matrix(matrix: Any, model: Model) -> Inputs:
    """The inputs in one array [rows, columns]. Raises BadRequest."""
    rows, given = matrix.shape
    if model.width not in (0, given):
        raise _width(given, model.width)
    if not rows:
        raise BadRequest("Expected the input to hold at least one row")
    if not model.columns or (model.form == "matrix" and all(c.dtype == "float64" for c in model.columns)):
        if matrix.dtype == object:
            matrix = _matrix(matrix.tolist(), given)
        return Inputs({"": _as_float(matrix)}, rows)
    return _inputs({c.name: _typed(matrix[:, i], c) for i, c in enumerate(model.columns)}, rows, model)


def of_tensors(given: Mapping[str, Any], model: Model) -> Inputs:
    """The inputs in V2 tensors: arrays by name; one a column, or one of shape [rows, columns].

    Raises:
        BadRequest: not what the model wants.
    """
    if model.form == "tensors" and not model.columns:
        return _by_signature(given, model)
    first = next(iter(given.values()))
    if len(given) == 1 and first.ndim == 2 and (first.shape[1] != 1 or (model.width == 1 and not model.columns)):
        return of_matrix(first, model)
    flat = {name: values.reshape(-1) for name, values in given.items()}
    lengths = {len(values) for values in flat.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise BadRequest(f"The inputs have no rows, or different numbers of rows: {sorted(lengths)}")
    rows = lengths.pop()
    _refuse_unknown(flat, model)
    if not model.columns:
        return Inputs({"": np.column_stack([_as_float(values) for values in flat.values()])}, rows)
    given = {c.name: _typed(flat[c.name], c) if c.name in flat else _series([None] * rows, c) for c in model.columns}
    return _inputs(given, rows, model)


def _unrolled(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows out of instances that are small tables, as KServe's server also takes them: a list of values a column, or
    pandas' mapping of index to value. Others stay as they are."""
    if not all(row and all(isinstance(value, list | dict) for value in row.values()) for row in rows):
        return rows
    made = []
    for row in rows:
        columns = [list(value.values()) if isinstance(value, dict) else value for value in row.values()]
        lengths = {len(values) for values in columns}
        if len(lengths) != 1 or 0 in lengths:
            raise BadRequest(f"The columns of an instance have no values, or different numbers: {sorted(lengths)}")
        made += [dict(zip(row, values, strict=True)) for values in zip(*columns, strict=True)]
    return made


def _of_mappings(rows: list[dict[str, Any]], model: Model) -> Inputs:
    given, data = dict.fromkeys(rows[0]), None
    try:
        data = _of_one_kind(rows, list(given))
    except KeyError:
        for row in rows[1:]:
            given |= dict.fromkeys(row)
    if model.form == "tensors" and not model.columns:
        lacking = [name for row in rows for name in given if name not in row]
        if lacking:
            raise BadRequest(f"Every row wants a value for {lacking[0]}")
        return _by_signature({name: _stacked(name, [row[name] for row in rows]) for name in given}, model)
    _refuse_unknown(given, model)
    if not model.columns:
        return of_matrix(_matrix([[row.get(name) for name in given] for row in rows], len(given)), model)
    # A row that lacks a column has None there.
    return _columns(data or {name: [row.get(name) for row in rows] for name in given}, len(rows), model)


def _of_one_kind(rows: list[dict[str, Any]], names: list[str]) -> dict[str, Any]:
    """Each column's values in rows that all have these columns. Raises KeyError when they have not."""
    if set(map(len, rows)) != {len(names)}:
        raise KeyError
    if len(names) < 2:
        return {name: [row[name] for row in rows] for name in names}
    return dict(zip(names, zip(*map(itemgetter(*names), rows), strict=True), strict=True))


def _columns(data: Mapping[str, list[Any]], rows: int, model: Model) -> Inputs:
    """The signature's columns with their types; what is not given is missing."""
    given = {column.name: _series(data.get(column.name) or [None] * rows, column) for column in model.columns}
    return _inputs(given, rows, model)


def _inputs(columns: dict[str, Any], rows: int, model: Model) -> Inputs:
    if model.form == "matrix":
        return Inputs({"": np.column_stack(list(columns.values())).astype(float, copy=False)}, rows)
    return Inputs(columns, rows)


def _series(values: list[Any], column: Column) -> Any:
    what = f"Column {column.name}"
    if column.dtype == "string":
        return texts_of(what, values)
    if column.dtype == "object":
        made = np.empty(len(values), object)
        made[:] = values
        return made
    return values_of(what, column.datatype, values)


def _typed(values: Any, column: Column) -> Any:
    """A column out of an array. Raises BadRequest."""
    if column.dtype == "object":
        return values
    if values.dtype == object:
        return _series(values.tolist(), column)
    if column.dtype == "string":
        raise BadRequest(f"Column {column.name} wants text, not {values[0]}")
    if values.dtype.kind == "f" and column.datatype.startswith(("INT", "UINT", "BOOL")) and np.isnan(values).any():
        raise BadRequest(f"Column {column.name} wants a value in every row ({column.datatype})")
    return converted(f"Column {column.name}", column.datatype, values)


def _matrix(rows: list[list[Any]], width: int) -> Any:
    """Rows of numbers as an array of float64; null is a missing number. Raises BadRequest."""
    if len(rows) > 1 and set(map(len, rows)) == {width}:
        made = packed(list(chain.from_iterable(rows)))
        if made is not None:
            return made.reshape(-1, width)
    try:
        made = np.array(rows)
    except (ValueError, OverflowError):  # rows of different lengths, lists within
        made = np.empty(0, object)
    if made.ndim == 2 and made.dtype.kind in "iuf" and width in (0, made.shape[1]):
        return made.astype(float, copy=False)
    width = width or len(rows[0])
    for row in rows:
        if len(row) != width:
            raise _width(len(row), width)
        for value in row:
            if value is not None and type(value) not in (int, float, bool):
                raise BadRequest(f"A value is not a number: {short(value)}")
    try:
        return np.array(rows, dtype=float).reshape(len(rows), width)
    except OverflowError as error:
        raise BadRequest(f"A value is not a number that fits: {error}") from error


def _as_float(values: Any) -> Any:
    if values.dtype == object:
        raise BadRequest(f"A value is not a number: {short(values.flat[0])}")
    return values.astype(float, copy=False)


def _one_tensor(rows: list[Any], model: Model) -> Inputs:
    if len(model.inputs) != 1:
        names = ", ".join(tensor.name for tensor in model.inputs)
        raise BadRequest(f"Expected every instance to be a mapping with {names}")
    name = model.inputs[0].name
    return _by_signature({name: _stacked(name, rows)}, model)


def _stacked(name: str, values: list[Any]) -> Any:
    """One value, list or list of lists a row, as an array. Raises BadRequest."""
    if any(isinstance(value, dict) for value in values):
        raise BadRequest(f"Input {name} wants numbers or text, not mappings")
    try:
        made = np.array(values)
    except (ValueError, OverflowError) as error:
        raise BadRequest(f"Input {name} has rows of different shapes") from error
    if made.dtype.kind in "biuf":
        return made
    flat = made.reshape(-1).tolist()
    if all(value is None or type(value) in (int, float, bool) for value in flat):
        return values_of(f"Input {name}", "FP64", flat).reshape(made.shape)
    return texts_of(f"Input {name}", flat).reshape(made.shape)


def _by_signature(given: Mapping[str, Any], model: Model) -> Inputs:
    """Tensors with the names, datatypes and shapes of the signature. Raises BadRequest."""
    if len(given) == 1 and len(model.inputs) == 1:  # whatever the client calls it
        given = {model.inputs[0].name: next(iter(given.values()))}
    wanted = [tensor.name for tensor in model.inputs]
    _refuse(given, wanted, wanted, "inputs")
    arrays = {tensor.name: _fitted(given[tensor.name], tensor) for tensor in model.inputs}
    lengths = {len(values) for values in arrays.values() if values.ndim}
    if 0 in lengths:
        raise BadRequest("Expected the input to hold at least one row")
    if len(lengths) > 1 and all(tensor.shape[:1] == [-1] for tensor in model.inputs):
        raise BadRequest(f"The inputs have different numbers of rows: {sorted(lengths)}")
    return Inputs(arrays, max(lengths, default=1))


def _fitted(values: Any, wanted: Tensor) -> Any:
    shape = wanted.shape
    if len(shape) == values.ndim + 1 and shape[-1] == 1:
        values = values.reshape(*values.shape, 1)
    if len(shape) != values.ndim or any(w not in (-1, given) for w, given in zip(shape, values.shape, strict=True)):
        raise BadRequest(f"Input {wanted.name} has the shape {list(values.shape)}, the model wants {shape}")
    if (values.dtype == object) != (wanted.datatype == "BYTES"):
        raise BadRequest(
            f"Input {wanted.name} wants {wanted.datatype}, not {'BYTES' if values.dtype == object else values.dtype}"
        )
    if wanted.datatype == "BYTES":
        return values
    if values.dtype.kind == "f" and DATATYPES[wanted.datatype].kind != "f" and not np.isfinite(values).all():
        raise BadRequest(f"Input {wanted.name} wants a value in every place ({wanted.datatype})")
    return converted(f"Input {wanted.name}", wanted.datatype, values)


def _refuse_unknown(given: Mapping[str, Any], model: Model) -> None:
    wanted = [column.name for column in model.columns]
    if not wanted:
        if model.width not in (0, len(given)):
            raise _width(len(given), model.width)
        return
    _refuse(given, wanted, [c.name for c in model.columns if c.required], "columns")


def _refuse(given: Mapping[str, Any], wanted: list[str], required: list[str], what: str) -> None:
    missing = sorted(name for name in required if name not in given)
    unknown = sorted(name for name in given if name not in wanted)
    if unknown or missing:
        parts = [f"missing: {', '.join(missing)}"] * bool(missing)
        parts += [f"unknown: {', '.join(unknown)[:200]}"] * bool(unknown)
        raise BadRequest(f"The model wants the {what} {', '.join(wanted)}; {'; '.join(parts)}")


def _all_numbers(model: Model) -> bool:
    """Whether rows of this model may be read as one array: all columns are of floating point."""
    return all(column.dtype.startswith("float") for column in model.columns)


def _width(given: int, wanted: int) -> BadRequest:
    return BadRequest(f"A row has {given} values, the model wants {wanted}")


def _neither() -> BadRequest:
    return BadRequest("Expected every instance to be a list of numbers, or a mapping of column names to values")
