"""Let a model predict once before anybody asks: its first prediction can take a hundred times longer than the next."""

from __future__ import annotations

import json
from pathlib import Path

from headrace.serving.runtime.loaders import Model
from headrace.serving.runtime.protocol import table_of_instances

EXAMPLE = "serving_input_example.json"


def warm_up(model: Model, folder: Path) -> str:
    """Predict the input example that MLflow keeps with a model; what went wrong in words, "" when nothing did.

    A model without a table as its example stays cold. One that cannot predict its example serves all the same: whether
    it is any good is judged by live requests.
    """
    try:
        told = json.loads((folder / EXAMPLE).read_text(encoding="utf-8"))
        split = told["dataframe_split"]
        rows = [dict(zip(split["columns"], row, strict=True)) for row in split["data"][:1]]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    try:
        model.predict(table_of_instances({"instances": rows}, model))
    except Exception as error:  # noqa: BLE001 - a model may raise anything
        return f"the model cannot predict its own input example: {type(error).__name__}: {error}"
    return ""
