"""Let a model predict before anybody asks: its first prediction can take a hundred times longer than the next."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from headrace.serving.runtime import answers, tables
from headrace.serving.runtime.models import Inputs, Model

EXAMPLE = "serving_input_example.json"
_TIMES = 3


def warm_up(model: Model, folder: Path) -> str:
    """Predict the input example that MLflow keeps with a model; what went wrong in words, "" when nothing did.

    A model without an example predicts a row of zeros when it takes numbers, else it stays cold. One that cannot
    predict its example serves all the same: whether it is any good is judged by live requests.
    """
    return timed(model, folder)[0]


def timed(model: Model, folder: Path) -> tuple[str, float]:
    """As warm_up, and how many seconds the last prediction of a row took (0.0 when there was none)."""
    seconds = 0.0
    rows = example_of(folder)
    try:
        inputs = tables.of_rows(rows[:1], model) if rows else _zeros(model)
        for _ in range(_TIMES if inputs is not None else 0):
            start = time.perf_counter()
            found = answers.arrays_of(model.predict(inputs), model.outputs)
            seconds = time.perf_counter() - start
            answers.check(found, model.outputs, 1 if model.has_rows else None)
    except Exception as error:  # noqa: BLE001 - a model may raise anything
        if not rows:  # zeros were our own idea
            return "", 0.0
        return f"the model cannot predict its own input example: {type(error).__name__}: {error}", 0.0
    return "", seconds


def example_of(folder: Path) -> list[Any]:
    """The rows of a model's input example, as V1 instances; empty when there is none."""
    try:
        told = json.loads((folder / EXAMPLE).read_text(encoding="utf-8"))
        if "dataframe_split" in told:
            split = told["dataframe_split"]
            # MLflow writes NaN for what is missing, in columns of text too.
            lines = [[None if value != value else value for value in row] for row in split["data"]]
            return [dict(zip(split["columns"], line, strict=True)) for line in lines]
        rows = told.get("inputs", told.get("instances"))
        return rows if isinstance(rows, list) else []
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def _zeros(model: Model) -> Any:
    if model.form != "matrix" or not model.width:
        return None
    import numpy as np

    return Inputs({"": np.zeros((1, model.width))}, 1)
