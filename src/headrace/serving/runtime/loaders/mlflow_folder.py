"""MLflow models. The usual flavors are loaded without importing mlflow, which costs seconds and a hundred megabytes in
every model server; any other is left to mlflow's python_function.

Format: https://mlflow.org/docs/latest/ml/model/
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from headrace.errors import DocumentError, HeadraceError
from headrace.serving.runtime.loaders import plain_files, predictors
from headrace.serving.runtime.loaders.direct import without_table
from headrace.serving.runtime.models import Column, Inputs, Model, Tensor

# MLflow's column types, as pandas dtypes and as Open Inference Protocol datatypes
_TYPES = {
    "string": ("string", "BYTES"), "double": ("float64", "FP64"), "float": ("float32", "FP32"),
    "long": ("int64", "INT64"), "integer": ("int32", "INT32"), "boolean": ("bool", "BOOL"),
}  # fmt: skip
_DTYPES = {
    "bool": "BOOL", "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64", "uint8": "UINT8",
    "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64", "float16": "FP16", "float32": "FP32",
    "float64": "FP64",
}  # fmt: skip


class Signature(NamedTuple):
    """What an MLmodel says of columns, outputs and tensors."""

    columns: tuple[Column, ...]
    outputs: tuple[Tensor, ...]
    inputs: tuple[Tensor, ...]


def load(path: Path, threads: int) -> Model:
    """The MLflow model in folder `path`.

    Raises:
        DocumentError: no MLflow model.
        HeadraceError: its file cannot be loaded, or a library is not installed.
    """
    description = path / "MLmodel"
    told = _read(description)
    loaders: dict[str, Callable[[Path, dict[str, Any], int], Model]] = {
        "sklearn": _sklearn, "xgboost": _xgboost, "lightgbm": _lightgbm, "onnx": _onnx,
    }  # fmt: skip
    found = next((name for name in loaders if name in told["flavors"]), "")
    if not found:
        return _python_function(path, told)
    flavor = told["flavors"][found]
    if not isinstance(flavor, dict):
        raise DocumentError("is no mapping", file=str(description), field=f"flavors.{found}")
    return loaders[found](path, told, threads)


def signature_of(path: Path) -> Signature:
    """What the signature of the model in folder `path` says. Raises DocumentError."""
    return _signature(path, _read(path / "MLmodel"))


def has_flavor(path: Path, flavor: str) -> bool:
    """Whether the model in folder `path` is of that flavor. Raises DocumentError."""
    return flavor in _read(path / "MLmodel")["flavors"]


def _read(description: Path) -> dict[str, Any]:
    """The content of a file MLmodel, which has `flavors`."""
    import yaml

    try:
        told = yaml.load(description.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except OSError as error:
        raise DocumentError(
            f"there is no MLflow model here: {error.strerror}", file=str(description),
            remedy=f"Give its folder, or a model file: {plain_files.NAMES}.",
        ) from error  # fmt: skip
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DocumentError(f"not valid YAML: {error}", file=str(description)) from error
    if not isinstance(told, dict) or not isinstance(told.get("flavors"), dict) or not told["flavors"]:
        raise DocumentError("describes no MLflow model: it has no flavors", file=str(description), field="flavors")
    return told


def _file(path: Path, told: dict[str, Any], flavor: str, key: str) -> Path:
    """The file that a flavor names."""
    name = told["flavors"][flavor].get(key)
    if not isinstance(name, str):
        raise DocumentError("does not name the model's file", file=str(path / "MLmodel"), field=f"flavors.{flavor}")
    return path / name


def _sklearn(path: Path, told: dict[str, Any], threads: int) -> Model:
    flavor = told["flavors"]["sklearn"]
    signature = _signature(path, told)
    file = _file(path, told, "sklearn", "pickled_model")
    with _without_pandas() if signature.inputs and "pandas" not in sys.modules else nullcontext():
        estimator = _unpickle(file, flavor)
    model = of_estimator(estimator, signature, "sklearn_mlflow")
    if model.form != "frame":
        return model
    direct = without_table(estimator, model.columns, _example(path, model))
    return replace(model, predictor=direct, form="columns") if direct else model


def _example(path: Path, model: Model) -> Inputs | None:
    """The model's input example as it would reach it; None when there is none, or a wrong one."""
    from headrace.serving.runtime import tables
    from headrace.serving.runtime.errors import BadRequest
    from headrace.serving.runtime.warm_up import example_of

    rows = example_of(path)
    try:
        return tables.of_rows(rows, model) if rows else None
    except BadRequest:
        return None


@contextmanager
def _without_pandas() -> Iterator[None]:
    """Keep scikit-learn from importing pandas, which it does where it finds it: half a second and 35 MB, for nothing
    where a model takes bare numbers. What needs pandas afterwards can import it."""
    sys.modules["pandas"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if sys.modules.get("pandas") is None:
            sys.modules.pop("pandas", None)


def of_estimator(estimator: Any, signature: Signature, platform: str) -> Model:
    """A model of scikit-learn's kind; what its signature does not say is asked of itself."""
    columns, outputs, inputs = signature
    if not columns and not inputs:
        columns, inputs = predictors.columns_of(estimator), predictors.inputs_of(estimator)
    form = "frame" if columns else "matrix"
    if columns and predictors.takes_numbers(estimator, columns):
        predictors.forget_names(estimator)
        form = "matrix"
    return Model(
        estimator, columns, outputs or predictors.outputs_of(estimator), () if columns else inputs, form, platform,
        predictors.is_rowwise(estimator),
    )  # fmt: skip


def _unpickle(file: Path, flavor: dict[str, Any]) -> Any:
    with plain_files.told_of(file):
        if flavor.get("serialization_format") in ("cloudpickle", "pickle"):
            import cloudpickle

            plain_files.warn_of_code(file)
            try:
                with file.open("rb") as stream:
                    return cloudpickle.load(stream)
            except ImportError:
                if sys.modules.get("pandas", file) is not None:
                    raise
            # It holds something of pandas.
            del sys.modules["pandas"]
            with file.open("rb") as stream:
                return cloudpickle.load(stream)
        import skops.io

        return skops.io.load(file, trusted=flavor.get("skops_trusted_types") or [])


def _xgboost(path: Path, told: dict[str, Any], threads: int) -> Model:
    xgboost = plain_files.library("xgboost")
    file = _file(path, told, "xgboost", "data")
    kind = str(told["flavors"]["xgboost"].get("model_class") or "xgboost.core.Booster")
    if kind.endswith(".Booster"):
        found = plain_files.xgboost_model(file, threads)
        return _signed(found, _signature(path, told), "xgboost_mlflow")
    with plain_files.told_of(file):
        estimator = getattr(importlib.import_module("xgboost"), kind.rpartition(".")[2])(n_jobs=threads)
        estimator.load_model(file)
        estimator.get_booster().set_param({"nthread": threads})
    assert xgboost is not None
    return of_estimator(estimator, _signature(path, told), "xgboost_mlflow")


def _lightgbm(path: Path, told: dict[str, Any], threads: int) -> Model:
    plain_files.library("lightgbm")
    file = _file(path, told, "lightgbm", "data")
    if file.suffix not in (".pkl", ".skops"):
        return _signed(plain_files.lightgbm_model(file, threads), _signature(path, told), "lightgbm_mlflow")
    flavor = told["flavors"]["lightgbm"]
    estimator = _unpickle(file, {"serialization_format": "pickle"} if file.suffix == ".pkl" else flavor)
    estimator.set_params(n_jobs=threads)
    return of_estimator(estimator, _signature(path, told), "lightgbm_mlflow")


def _onnx(path: Path, told: dict[str, Any], threads: int) -> Model:
    return plain_files.onnx_model(_file(path, told, "onnx", "data"), threads)


def _signed(model: Model, signature: Signature, platform: str) -> Model:
    """A booster's model with its signature's columns; they reach it as bare numbers, in their order."""
    columns, outputs, inputs = signature
    numbers = all(column.dtype not in ("string", "object") for column in columns)
    if columns and not numbers:
        raise HeadraceError(
            f"the model has columns of text ({', '.join(c.name for c in columns if c.dtype == 'string')})",
            remedy="Put the encoding of text and the booster into one scikit-learn pipeline, and log that.",
        )
    return Model(
        model.predictor, columns, outputs, () if columns else (inputs or model.inputs), "matrix", platform, True
    )


def _python_function(path: Path, told: dict[str, Any]) -> Model:
    """Any other flavor, by mlflow itself; its own code runs, in this process."""
    if "python_function" not in told["flavors"]:
        raise DocumentError(
            f"the model has no flavor that can be served, only {', '.join(told['flavors'])}",
            file=str(path / "MLmodel"), remedy="Log it with a python_function flavor, as all of mlflow's own do.",
        )  # fmt: skip
    with plain_files.told_of(path):
        import mlflow.pyfunc

        plain_files.warn_of_code(path)
        predictor = mlflow.pyfunc.load_model(str(path))
    columns, outputs, inputs = _signature(path, told)
    form = "tensors" if inputs and (len(inputs) > 1 or inputs[0].name != "input-0") else "matrix"
    if len(inputs) == 1 and len(inputs[0].shape) != 2:
        form = "tensors"
    return Model(
        _Bare(predictor) if form == "tensors" and [i.name for i in inputs] == ["input-0"] else predictor,
        columns, outputs, () if columns else inputs, "frame" if columns else form, "python_function_mlflow",
    )  # fmt: skip


class _Bare:
    """A python_function whose one tensor has no name: it wants the array itself."""

    def __init__(self, predictor: Any) -> None:
        self.predictor = predictor

    def predict(self, arrays: dict[str, Any]) -> Any:
        return self.predictor.predict(next(iter(arrays.values())))


def _signature(path: Path, told: dict[str, Any]) -> Signature:
    given = told.get("signature") or {}
    try:
        inputs = json.loads(given.get("inputs") or "[]")
        outputs = json.loads(given.get("outputs") or "[]")
        columns = tuple(
            Column(str(spec["name"]), *_TYPES.get(_word(spec), ("object", "BYTES")), bool(spec.get("required", True)))
            for spec in inputs
            if "name" in spec and spec.get("type") != "tensor"
        )
        tensors = tuple(_tensor("input", i, spec) for i, spec in enumerate(inputs) if spec.get("type") == "tensor")
        return Signature(columns, tuple(_tensor("output", i, spec) for i, spec in enumerate(outputs)), tensors)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DocumentError(f"is none: {error}", file=str(path / "MLmodel"), field="signature") from error


def _word(spec: dict[str, Any]) -> str:
    """A column's type; those that are mappings or lists (arrays, objects) have no word here."""
    kind = spec.get("type")
    return kind if isinstance(kind, str) else ""


def _tensor(word: str, index: int, spec: dict[str, Any]) -> Tensor:
    tensor = spec.get("tensor-spec", {})
    kind = _DTYPES.get(tensor.get("dtype"), _TYPES.get(_word(spec), ("", "BYTES"))[1])
    return Tensor(spec.get("name") or f"{word}-{index}", kind, list(tensor.get("shape", [-1])))
