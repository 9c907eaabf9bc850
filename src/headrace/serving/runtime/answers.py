"""A model's answer as arrays by name, and whether it is fit to be given out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from headrace.serving.runtime.errors import BadAnswer
from headrace.serving.runtime.models import Tensor
from headrace.serving.runtime.tensors import DATATYPES, datatype_of

_KINDS = {"b": "b", "i": "i", "u": "i", "f": "f", "O": "O", "U": "O", "S": "O"}


def arrays_of(answer: Any, outputs: tuple[Tensor, ...]) -> dict[str, Any]:
    """What a model answered as arrays by name: those of the signature, else `output-0`, … or its own names.

    Raises:
        BadAnswer: it is nothing that arrays can be made of.
    """
    if isinstance(answer, np.ndarray) and len(outputs) <= 1:
        return {outputs[0].name if outputs else "output-0": _held(answer)}
    if isinstance(answer, Mapping):
        return {str(name): _held(values) for name, values in answer.items()}
    columns = getattr(answer, "columns", None)
    if columns is not None:  # a DataFrame
        return {str(name): _held(answer[name].to_numpy()) for name in columns}
    if isinstance(answer, tuple) or (isinstance(answer, list) and len(outputs) > 1 and len(outputs) == len(answer)):
        names = [output.name for output in outputs] or [f"output-{index}" for index in range(len(answer))]
        if len(names) != len(answer):
            raise BadAnswer(f"The model gave {len(answer)} outputs, its signature has {len(names)}")
        return {name: _held(values) for name, values in zip(names, answer, strict=True)}
    made = _held(answer)
    if len(outputs) > 1 and made.ndim == 2 and made.shape[1] == len(outputs):
        return {output.name: made[:, index] for index, output in enumerate(outputs)}
    return {outputs[0].name if outputs else "output-0": made}


def _held(values: Any) -> Any:
    try:
        made = np.asarray(values)
    except ValueError as error:
        raise BadAnswer(f"The model's answer is no array: {error}") from error
    if made.dtype.kind not in _KINDS:
        made = made.astype(object)
    return made.reshape(1) if made.ndim == 0 else made


def check(arrays: Mapping[str, Any], outputs: tuple[Tensor, ...], rows: int | None) -> None:
    """See that an answer may be given out; `rows` is how many it must have, None when nobody knows.

    Raises:
        BadAnswer: NaN or infinity, another number of rows, or not what the signature says.
    """
    for name, array in arrays.items():
        if rows is not None and len(array) != rows:
            raise BadAnswer(f"The model gave {len(array)} predictions for {rows} rows ({name})")
        if array.dtype.kind == "f":
            bad = array.size - int(np.count_nonzero(np.isfinite(array)))
            if bad:
                raise BadAnswer(f"The model gave {bad} predictions that are NaN or infinite ({name})")
        elif array.dtype.kind == "O":
            _check_objects(name, array)
    for output in outputs:
        if output.name not in arrays:
            raise BadAnswer(f"The model did not give {output.name}, which its signature has")
        array = arrays[output.name]
        if output.datatype and _KINDS[DATATYPES[output.datatype].kind] != _KINDS[array.dtype.kind]:
            raise BadAnswer(
                f"The model gave {datatype_of(array)} for {output.name}, its signature says {output.datatype}"
            )
        if not _fits(array.shape, output.shape):
            raise BadAnswer(
                f"The model gave the shape {list(array.shape)} for {output.name}, its signature says {output.shape}"
            )


def _check_objects(name: str, array: Any) -> None:
    for value in array.reshape(-1).tolist():
        if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
            raise BadAnswer(f"The model gave predictions that are NaN or infinite ({name})")


def _fits(given: tuple[int, ...], wanted: list[int]) -> bool:
    """Whether a shape is the signature's. A trailing 1 more or less is the same thing to everybody's tools."""
    if len(given) != len(wanted):
        longer, shorter = (list(given), wanted) if len(given) > len(wanted) else (wanted, list(given))
        return len(longer) == len(shorter) + 1 and longer[-1] in (1, -1)
    return all(w in (-1, g) for g, w in zip(given, wanted, strict=True))
