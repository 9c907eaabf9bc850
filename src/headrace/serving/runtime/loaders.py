"""Load a saved model, and learn from its signature which columns it wants.

Loading a pickle runs the code that is in it: only models that come from the team's own registry belong here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.errors import DocumentError, HeadraceError

# MLflow's column types, as pandas dtypes and as Open Inference Protocol datatypes
_TYPES = {
    "string": ("string", "BYTES"), "double": ("float64", "FP64"), "float": ("float32", "FP32"),
    "long": ("int64", "INT64"), "integer": ("int32", "INT32"), "boolean": ("bool", "BOOL"),
}  # fmt: skip


@dataclass(frozen=True)
class Column:
    """One named input of a model."""

    name: str
    dtype: str
    datatype: str
    required: bool


@dataclass(frozen=True)
class Model:
    """A loaded model. `columns` is empty when it has no signature of named columns."""

    predictor: Any
    columns: tuple[Column, ...]
    outputs: tuple[tuple[str, str, list[int]], ...]

    def predict(self, table: Any) -> Any:
        """Predictions as an array, one row of `table` each."""
        return self.predictor.predict(table)


def load(path: Path) -> Model:
    """The MLflow scikit-learn model in folder `path`.

    Raises:
        DocumentError: no MLflow model, or one of another flavor.
        HeadraceError: its file cannot be loaded.
    """
    description = path / "MLmodel"
    told = _read(description)
    flavor = told["flavors"].get("sklearn")
    if flavor is None:
        raise DocumentError(
            f"the model has no sklearn flavor, only {', '.join(told['flavors'])}", file=str(description),
            remedy="Log it with mlflow.sklearn.log_model.",
        )  # fmt: skip
    if not isinstance(flavor, dict) or "pickled_model" not in flavor:
        raise DocumentError("does not name the model's file", file=str(description), field="flavors.sklearn")
    signature = told.get("signature") or {}
    return Model(_unpickle(path, flavor), _columns(signature), _outputs(signature))


def _read(description: Path) -> dict[str, Any]:
    """The content of a file MLmodel, which has `flavors`."""
    import yaml

    try:
        told = yaml.safe_load(description.read_text(encoding="utf-8"))
    except OSError as error:
        raise DocumentError(
            f"there is no MLflow model here: {error.strerror}", file=str(description), remedy="Give its folder."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DocumentError(f"not valid YAML: {error}", file=str(description)) from error
    if not isinstance(told, dict) or not isinstance(told.get("flavors"), dict) or not told["flavors"]:
        raise DocumentError("describes no MLflow model: it has no flavors", file=str(description), field="flavors")
    return told


def _unpickle(path: Path, flavor: dict[str, Any]) -> Any:
    file = path / flavor["pickled_model"]
    try:
        if flavor.get("serialization_format") in ("cloudpickle", "pickle"):
            # Importing mlflow would cost seconds and a hundred megabytes in every model server.
            import cloudpickle

            with file.open("rb") as stream:
                return cloudpickle.load(stream)
        import skops.io

        return skops.io.load(file, trusted=flavor.get("skops_trusted_types") or [])
    except Exception as error:
        raise HeadraceError(f"the model cannot be loaded: {type(error).__name__}: {error}", where=str(file)) from error


def _columns(signature: dict[str, Any]) -> tuple[Column, ...]:
    inputs = json.loads(signature.get("inputs") or "[]")
    return tuple(
        Column(spec["name"], *_TYPES.get(spec["type"], ("object", "BYTES")), spec.get("required", True))
        for spec in inputs
        if "name" in spec and spec.get("type") != "tensor"
    )


def _outputs(signature: dict[str, Any]) -> tuple[tuple[str, str, list[int]], ...]:
    names = {"int64": "INT64", "int32": "INT32", "float64": "FP64", "float32": "FP32", "bool": "BOOL"}
    outputs = []
    for index, spec in enumerate(json.loads(signature.get("outputs") or "[]")):
        tensor = spec.get("tensor-spec", {})
        kind = names.get(tensor.get("dtype"), _TYPES.get(spec.get("type"), ("", "BYTES"))[1])
        outputs.append((spec.get("name", f"output-{index}"), kind, list(tensor.get("shape", [-1]))))
    return tuple(outputs)
