"""A scikit-learn pipeline that begins with a ColumnTransformer, predicting from arrays a column instead of a DataFrame.

Making the table and taking it apart again costs more than most models: here each part of the transformer gets its
columns as one array. Used only where all of the pipeline is scikit-learn's own, and where it gives exactly the answers
of the pipeline itself on the model's input example.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from headrace.serving.runtime.loaders.predictors import is_rowwise, steps_of
from headrace.serving.runtime.models import Column, Inputs, frame

_NUMBERS = ("float64", "float32", "int64", "int32")
_MISSING: Any = None


class Direct:
    """The pipeline; `parts` are its ColumnTransformer's: a transformer (None passes on) and its columns' names."""

    def __init__(self, pipeline: Any, parts: Sequence[tuple[Any, list[str]]]) -> None:
        self.pipeline = pipeline
        self.parts = parts

    def predict(self, arrays: dict[str, Any]) -> Any:
        """Predictions for columns by name. [rows]"""
        return self.pipeline.steps[-1][1].predict(self._table(arrays))

    def predict_proba(self, arrays: dict[str, Any]) -> Any:
        """Probabilities for columns by name; only where the model has them. [rows, classes]"""
        return self.pipeline.steps[-1][1].predict_proba(self._table(arrays))

    def _table(self, arrays: dict[str, Any]) -> Any:
        """What the last step gets."""
        made = []
        for transformer, names in self.parts:
            part = np.column_stack([arrays[name] for name in names])
            if part.dtype.kind == "O":
                part[np.equal(part, _MISSING)] = np.nan  # as pandas has it for missing text
            if transformer is not None:
                part = transformer.transform(part)
            made.append(part.toarray() if hasattr(part, "toarray") else part)
        table = np.hstack(made)
        for _, step in self.pipeline.steps[1:-1]:
            table = table if step == "passthrough" else step.transform(table)
        return table


def without_table(pipeline: Any, columns: Sequence[Column], example: Inputs | None) -> Direct | None:
    """The pipeline as a Direct one; None where it is not of that kind, or where there is no example that shows it."""
    if example is None or not is_rowwise(pipeline):
        return None
    parts = _parts(pipeline, {column.name: column for column in columns})
    if not parts:
        return None
    wanted = pipeline.predict(frame(example))
    forgotten = [
        (step, step.__dict__.pop("feature_names_in_"))
        for step in steps_of(pipeline)
        if "feature_names_in_" in getattr(step, "__dict__", {})
    ]
    made = Direct(pipeline, parts)
    try:
        found = made.predict(dict(example.arrays))
        same = type(found) is type(wanted) and found.dtype == wanted.dtype and np.array_equal(found, wanted)
    except Exception:  # noqa: BLE001 - then it stays as it was
        same = False
    if same:
        return made
    for step, names in forgotten:
        step.feature_names_in_ = names
    return None


def _output_of(step: Any) -> str:
    """What a transformer was set to give: arrays ("default"), or pandas' or polars' tables."""
    return str((getattr(step, "_sklearn_output_config", None) or {}).get("transform") or "default")


def _parts(pipeline: Any, columns: dict[str, Column]) -> list[tuple[Any, list[str]]]:
    """The parts of the pipeline's ColumnTransformer; empty where one is not all text or all numbers."""
    steps: list[Any] = list(getattr(pipeline, "steps", ()))
    first: Any = steps[0][1] if len(steps) > 1 else None
    if type(first).__name__ != "ColumnTransformer" or getattr(first, "sparse_output_", True):
        return []
    if any(_output_of(step) != "default" for step in steps_of(pipeline) if getattr(step, "func", step) is not None):
        return []
    known = list(first.feature_names_in_) if hasattr(first, "feature_names_in_") else []
    parts = []
    for _, transformer, chosen in first.transformers_:
        if isinstance(transformer, str) and transformer == "drop":
            continue
        if not isinstance(chosen, list) or not chosen:
            return []
        names = [known[one] if isinstance(one, int) else one for one in chosen]
        kinds = {columns[name].dtype if name in columns else "" for name in names}
        if kinds != {"string"} and not kinds <= set(_NUMBERS):
            return []
        passes = transformer == "passthrough" or (hasattr(transformer, "func") and transformer.func is None)
        parts.append((None if passes else transformer, names))
    return parts
