"""Model files and folders as KServe's runtimes take them: scikit-learn, XGBoost, LightGBM, ONNX."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from headrace.errors import DocumentError, HeadraceError
from headrace.serving.runtime.models import Model, Tensor

FORMATS = ("sklearn", "xgboost", "lightgbm", "onnx")
_SUFFIXES = {
    "sklearn": (".joblib", ".pkl", ".pickle", ".skops"),
    "xgboost": (".bst", ".json", ".ubj"),
    "lightgbm": (".txt", ".bst"),
    "onnx": (".onnx",),
}
NAMES = "model.joblib, .pkl, .pickle, .skops, .bst, .json, .ubj, .txt, .onnx"
_ONNX_TYPES = {
    "tensor(bool)": "BOOL", "tensor(int8)": "INT8", "tensor(int16)": "INT16", "tensor(int32)": "INT32",
    "tensor(int64)": "INT64", "tensor(uint8)": "UINT8", "tensor(uint16)": "UINT16", "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64", "tensor(float16)": "FP16", "tensor(float)": "FP32", "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}  # fmt: skip


def is_plain(path: Path) -> bool:
    """Whether there is a model file at `path`, or in that folder, and no MLflow model."""
    return path.is_file() or (not (path / "MLmodel").exists() and bool(_candidates(path, "")))


def load(path: Path, format: str, threads: int) -> Model:
    """The model in the file or folder `path`.

    Raises:
        DocumentError: no file of the format, or more than one.
        HeadraceError: it cannot be loaded, or a library is not installed.
    """
    found = _candidates(path, format)
    if len(found) != 1:
        words = f"more than one model file: {', '.join(f.name for f in found)}" if found else "there is no model file"
        wanted = ", ".join(f"model{suffix}" for suffix in _SUFFIXES[format]) if format else NAMES
        raise DocumentError(words, file=str(path), remedy=f"Have exactly one of {wanted} there, or name the file.")
    file = found[0]
    loaders: dict[str, Callable[[Path, int], Model]] = {
        "sklearn": sklearn_model, "xgboost": xgboost_model, "lightgbm": lightgbm_model, "onnx": onnx_model,
    }  # fmt: skip
    return loaders[format or _format_of(file)](file, threads)


def _candidates(path: Path, format: str) -> list[Path]:
    """Model files at `path`; those called `model` before any other."""
    suffixes = _SUFFIXES[format] if format else tuple(s for several in _SUFFIXES.values() for s in several)
    if path.is_file():
        return [path] if format or path.suffix in suffixes else []
    if not path.is_dir():
        return []
    files = sorted(file for file in path.iterdir() if file.is_file() and file.suffix in suffixes)
    named = [file for file in files if file.stem == "model"]
    # Any text or JSON may lie beside a model.
    return named or [file for file in files if file.suffix not in (".txt", ".json")]


def _format_of(file: Path) -> str:
    if file.suffix == ".bst":
        with file.open("rb") as stream:
            return "lightgbm" if stream.read(5) in (b"tree\n", b"tree\r") else "xgboost"
    return next(format for format, suffixes in _SUFFIXES.items() if file.suffix in suffixes)


def sklearn_model(file: Path, threads: int) -> Model:
    """A pickled or skops estimator."""
    from headrace.serving.runtime.loaders.mlflow_folder import Signature, of_estimator

    with told_of(file):
        if file.suffix == ".skops":
            import skops.io

            estimator = skops.io.load(file)
        else:
            import joblib

            warn_of_code(file)
            estimator = joblib.load(file)
    if not callable(getattr(estimator, "predict", None)):
        raise HeadraceError(f"what is in it cannot predict: it is a {type(estimator).__name__}", where=str(file))
    return of_estimator(estimator, Signature((), (), ()), "sklearn")


def xgboost_model(file: Path, threads: int) -> Model:
    """An XGBoost Booster."""
    from headrace.serving.runtime.loaders.predictors import Booster, inputs_of

    xgboost = library("xgboost")
    with told_of(file):
        booster = xgboost.Booster({"nthread": threads})
        # Of a name that says nothing of the format, the content does.
        booster.load_model(bytearray(file.read_bytes()) if file.suffix == ".bst" else file)
        predictor = Booster(booster)
    return Model(predictor, (), (), inputs_of(predictor), "matrix", "xgboost", True)


def lightgbm_model(file: Path, threads: int) -> Model:
    """A LightGBM Booster."""
    from headrace.serving.runtime.loaders.predictors import LightBooster, inputs_of

    lightgbm = library("lightgbm")
    with told_of(file):
        predictor = LightBooster(lightgbm.Booster(model_file=str(file)), threads)
    return Model(predictor, (), (), inputs_of(predictor), "matrix", "lightgbm", True)


def onnx_model(file: Path, threads: int, outputs: int = 0) -> Model:
    """An ONNX model; its first `outputs` outputs, all when 0."""
    from headrace.serving.runtime.loaders.predictors import OnnxSession

    onnxruntime = library("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that spin between requests take the core from those that have work.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    with told_of(file):
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    predictor = OnnxSession(session, outputs)
    tensors = tuple(_tensor(one) for one in session.get_inputs())
    given = tuple(_tensor(one) for one in session.get_outputs() if one.name in predictor.names)
    return Model(predictor, (), given, tensors, "tensors", "onnxruntime_onnx")


def _tensor(one: Any) -> Tensor:
    shape = [length if isinstance(length, int) and length >= 0 else -1 for length in one.shape or []]
    return Tensor(one.name, _ONNX_TYPES.get(one.type, ""), shape)


def library(name: str) -> Any:
    """A library that only some models need.

    Raises:
        HeadraceError: it is not installed; the remedy is how to.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise HeadraceError(
            f"this model needs {name}, which cannot be imported: {error}",
            remedy=f"pip install {name}",
        ) from error


@contextlib.contextmanager
def told_of(file: Path) -> Iterator[None]:
    """Whatever happens while a file is loaded is told as a problem of that file."""
    try:
        yield
    except HeadraceError:
        raise
    except ImportError as error:
        raise HeadraceError(
            f"the model cannot be loaded: {type(error).__name__}: {error}", where=str(file),
            remedy=f"pip install {(error.name or 'the package').partition('.')[0]}, in the environment of the server.",
        ) from error  # fmt: skip
    except Exception as error:
        raise HeadraceError(f"the model cannot be loaded: {type(error).__name__}: {error}", where=str(file)) from error


def warn_of_code(file: Path) -> None:
    """Say in the log that loading this file runs code that is in it."""
    sys.stderr.write(f"{file} is a pickle: loading it runs the code that is in it. Serve only models of your own.\n")
