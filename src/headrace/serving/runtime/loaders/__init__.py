"""Load a saved model, and learn what it takes and gives.

Loading a pickle runs the code that is in it: only models that come from the team's own registry belong here.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from headrace.errors import HeadraceError
from headrace.serving.runtime.loaders import mlflow_folder, plain_files
from headrace.serving.runtime.models import Column, Model, Tensor

FORMATS = ("mlflow", *plain_files.FORMATS)

__all__ = ["FORMATS", "Column", "Model", "Tensor", "load"]


def load(
    path: Path, *, format: str = "", threads: int = 1, faster: bool = True, forms: Path | None = None
) -> Model:  # fmt: skip
    """The model at `path`: an MLflow model's folder, or a file or folder as KServe's runtimes take them.

    `format` is one of FORMATS; "" looks at what is there. `threads` bounds those of a prediction. With `faster`, the
    faster form that was kept beside the model (see faster.py) is what predicts; with `forms`, a folder, one is made
    there when the model has none.

    Raises:
        DocumentError: no model there, or one that this server does not serve.
        HeadraceError: a file that cannot be loaded, or a library that is not installed.
    """
    if format not in ("mlflow", "") or (not format and plain_files.is_plain(path)):
        return plain_files.load(path, format, threads)
    if not faster:
        return mlflow_folder.load(path, threads)
    found, why = _faster_form(path, threads, forms)
    if found is not None:
        told = ", ".join(f"{key} {value}" for key, value in found.parameters.items())
        sys.stderr.write(f"the model's faster form is used: {told}\n")
        return found
    model = mlflow_folder.load(path, threads)
    if not why:
        return model
    sys.stderr.write(f"the original of the model is used: {why}\n")
    return replace(model, parameters={"form": "the original", "why": why})


def _faster_form(path: Path, threads: int, forms: Path | None) -> tuple[Model | None, str]:
    """The model with its faster form, or why there is none ("": nobody asked for one)."""
    from headrace.serving.runtime import faster

    kept_in, record = path, faster.record_of(path)
    if record is not None:
        model = faster.digest(path)
    elif forms is not None:
        kept_in, why = faster.made_in(path, forms)
        record, model = faster.record_of(kept_in), kept_in.name
        if why:
            return None, why
    if record is None:
        return None, ""
    problem = faster.problem_of(kept_in, record, model)
    if problem:
        return None, problem
    try:
        form = plain_files.onnx_model(kept_in / faster.FILE, threads, outputs=1)
    except HeadraceError as error:
        return None, error.problem
    signature = mlflow_folder.signature_of(path)
    predictor = faster.Predictor(form.predictor, record, lambda: mlflow_folder.load(path, threads))
    if record["needs_original"]:
        # Now, and not when the first such row comes: that would hold up all others.
        _ = predictor.original
    return Model(
        predictor, signature.columns,
        signature.outputs or tuple(Tensor(*output) for output in record["outputs"]), signature.inputs,
        "matrix" if record["form"] == "matrix" else "tensors", "onnxruntime_onnx", True, faster.parameters(record),
    ), ""  # fmt: skip
