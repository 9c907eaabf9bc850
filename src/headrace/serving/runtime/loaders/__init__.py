"""Load a saved model, and learn what it takes and gives.

Loading a pickle runs the code that is in it: only models that come from the team's own registry belong here.
"""

from __future__ import annotations

import sys
from pathlib import Path

from headrace.errors import HeadraceError
from headrace.serving.runtime.loaders import mlflow_folder, plain_files
from headrace.serving.runtime.models import Column, Model, Tensor

FORMATS = ("mlflow", *plain_files.FORMATS)

__all__ = ["FORMATS", "Column", "Model", "Tensor", "load"]


def load(path: Path, *, format: str = "", threads: int = 1, faster: bool = True) -> Model:
    """The model at `path`: an MLflow model's folder, or a file or folder as KServe's runtimes take them.

    `format` is one of FORMATS; "" looks at what is there. `threads` bounds those of a prediction. With `faster`, the
    faster form that was kept beside the model (see faster.py) is what predicts.

    Raises:
        DocumentError: no model there, or one that this server does not serve.
        HeadraceError: a file that cannot be loaded, or a library that is not installed.
    """
    if format not in ("mlflow", "") or (not format and plain_files.is_plain(path)):
        return plain_files.load(path, format, threads)
    if faster:
        found, why = _faster_form(path, threads)
        if why:
            sys.stderr.write(f"{why}\n")
        if found is not None:
            return found
    return mlflow_folder.load(path, threads)


def _faster_form(path: Path, threads: int) -> tuple[Model | None, str]:
    """The model with its faster form, and a word about it; (None, "") when none was made."""
    from headrace.serving.runtime import faster

    record = faster.record_of(path)
    if record is None:
        return None, ""
    problem = faster.problem_of(path, record, faster.digest(path))
    if problem:
        return None, f"the original of the model is used: {problem}"
    try:
        form = plain_files.onnx_model(path / faster.FILE, threads, outputs=1)
    except HeadraceError as error:
        return None, f"the original of the model is used: {error.problem}"
    signature = mlflow_folder.signature_of(path)
    told = faster.parameters(record)
    model = Model(
        faster.Predictor(form.predictor, record, lambda: mlflow_folder.load(path, threads)), signature.columns,
        signature.outputs or tuple(Tensor(*output) for output in record["outputs"]), signature.inputs,
        "matrix" if record["form"] == "matrix" else "tensors", "onnxruntime_onnx", True, told,
    )  # fmt: skip
    return model, f"the model's faster form is used: {', '.join(f'{key} {value}' for key, value in told.items())}"
