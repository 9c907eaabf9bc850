"""A faster form of a scikit-learn model: converted to ONNX, kept beside it only if it gives the same answers.

`python -m headrace.serving.runtime.faster MODEL_FOLDER [--data ROWS]` makes it; the model server then uses it. The
same answers: equal classes, and numbers within `tolerance` times the larger of 1 and the original's, on the model's
input example, the rows of `--data`, and 1,000 rows mixed from those (each value from some row; numbers of floating
point also moved about). Rows that ONNX could read differently are predicted by the original:
those with a missing value in a column for which that was not compared, and numbers that it cannot hold.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headrace.errors import DocumentError, HeadraceError
from headrace.serving.runtime import tables
from headrace.serving.runtime.models import Inputs, Model

FILE = "headrace-faster.onnx"
RECORD = "headrace-faster.json"
TOLERANCE = 1e-4
_MIXED_ROWS = 1000
_MIN_CLEAN_ROWS = 100
_VERSION = 1
_REACHES = (1.0, 3.0, 10.0)
_OWN = {FILE, RECORD}


@dataclass(frozen=True)
class Outcome:
    """Whether a faster form is kept, and why (not)."""

    kept: bool
    why: str


class Predictor:
    """The faster form behind the method of the original, which is asked about rows that it could read differently."""

    def __init__(self, session: Any, record: Mapping[str, Any], original: Callable[[], Model]) -> None:
        self.session = session
        self.types = {name: np.dtype(kind) for name, kind in record["inputs"].items()}
        self.missing = set(record["missing"])
        self.dtype = np.dtype(record["dtype"])
        self.matrix = record["form"] == "matrix"
        self._load = original
        self._original: Model | None = None

    def predict(self, given: Any) -> Any:
        """Predictions, of the type that the original gives. [rows]"""
        arrays = {"": given} if self.matrix else given
        fed, odd = self.fed(arrays)
        if not odd.any():
            return self.run(fed)
        if self._original is None:
            self._original = self._load()
        answer = np.empty(len(odd), self.dtype)
        answer[odd] = self._original.predict(Inputs({name: a[odd] for name, a in arrays.items()}, int(odd.sum())))
        if not odd.all():
            answer[~odd] = self.run({name: array[~odd] for name, array in fed.items()})
        return answer

    def run(self, fed: dict[str, Any]) -> Any:
        """What ONNX Runtime says. [rows]"""
        found = next(iter(self.session.predict(fed).values()))
        if found.ndim == 2 and found.shape[1] == 1:
            found = found[:, 0]
        return found.astype(self.dtype, copy=False)

    def fed(self, arrays: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
        """The arrays as ONNX Runtime gets them, and which rows would not mean the same to it. [rows]"""
        fed, odd = {}, np.zeros(len(next(iter(arrays.values()))), bool)
        for (name, dtype), array in zip(self.types.items(), arrays.values(), strict=True):
            made, strange = _fed(array, dtype, name in self.missing)
            fed[name] = made
            if strange is not None:
                odd |= strange
        return fed, odd


def _fed(array: Any, dtype: Any, missing: bool) -> tuple[Any, Any]:
    """An array as ONNX Runtime gets it, [rows, columns], and which rows it would read differently (None: none).

    `missing` says that what is missing was compared as well, and agreed: NaN, and "" for text.
    """
    if dtype.kind == "O":
        absent = np.array([value is None for value in array.tolist()])
        if not absent.any():
            return array.reshape(-1, 1), None
        return np.where(absent, "", array).reshape(-1, 1), None if missing else absent
    with np.errstate(over="ignore"):
        made = array.astype(dtype, copy=False)
    made = made if made.ndim == 2 else made.reshape(-1, 1)
    if made.dtype.kind != "f" or np.isfinite(made).all():
        return made, None
    strange = np.isinf(made) if missing else ~np.isfinite(made)
    return made, strange.any(axis=1)


def make(folder: Path, *, data: Path | None = None, tolerance: float = TOLERANCE) -> Outcome:
    """Convert the MLflow scikit-learn model in `folder`, compare, and keep the result beside it if it agrees.

    Raises:
        HeadraceError: the model cannot be loaded, there are no rows to compare on, or skl2onnx is not installed.
    """
    from headrace.serving.runtime.loaders import mlflow_folder, plain_files, predictors

    for name in _OWN:
        (folder / name).unlink(missing_ok=True)
    model = mlflow_folder.load(folder, 1)
    if not model.platform.startswith("sklearn"):
        return Outcome(False, f"only scikit-learn models are converted, this is {model.platform}")
    plain_files.library("onnxruntime")
    plain_files.library("skl2onnx")
    rows = _rows(folder, data)
    inputs = _mixed(tables.of_rows(rows, model), np.random.default_rng(0))
    try:
        wanted = model.predict(inputs)
    except Exception as error:  # noqa: BLE001 - a model may raise anything at rows that were mixed
        return Outcome(False, f"the original raises at the rows to compare on: {type(error).__name__}: {error}")
    if not isinstance(wanted, np.ndarray) or wanted.ndim != 1:
        return Outcome(False, "the model does not predict one value a row")
    if wanted.dtype.kind != "f" and len(set(wanted.tolist())) < 2:
        return Outcome(False, "all rows that there are to compare on get the same answer: give others by --data")
    estimator = getattr(model.predictor, "pipeline", model.predictor)
    if not predictors.is_rowwise(estimator):
        return Outcome(False, "the model holds code that is not scikit-learn's own")
    why = ""
    for number in ("float64", "float32"):
        record, why = _try(folder, model, inputs, wanted, number, tolerance)
        if record is not None:
            record |= {"version": _VERSION, "given_rows": len(rows), "digest": digest(folder)}
            (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
            return Outcome(True, f"it agrees on {record['compared']} rows within {tolerance:g}, with {number}")
        (folder / FILE).unlink(missing_ok=True)
    return Outcome(False, why)


def _try(
    folder: Path, model: Model, inputs: Inputs, wanted: Any, number: str, tolerance: float
) -> tuple[dict[str, Any] | None, str]:
    """The record of a conversion that agrees, or why there is none."""
    import skl2onnx

    estimator = getattr(model.predictor, "pipeline", model.predictor)
    from skl2onnx.common import data_types

    from headrace.serving.runtime.loaders import plain_files

    kinds = {
        "f": data_types.DoubleTensorType if number == "float64" else data_types.FloatTensorType,
        "i": data_types.Int64TensorType, "b": data_types.BooleanTensorType, "O": data_types.StringTensorType,
    }  # fmt: skip
    given = {name or "X": array for name, array in inputs.arrays.items()}
    widths = {name: array.shape[1] if array.ndim == 2 else 1 for name, array in given.items()}
    types = [(name, kinds[array.dtype.kind]([None, widths[name]])) for name, array in given.items()]
    try:
        made = skl2onnx.to_onnx(estimator, initial_types=types, options={"zipmap": False}, target_opset=18)
    except Exception:  # noqa: BLE001 - converters raise anything; options are for classifiers only
        try:
            made = skl2onnx.to_onnx(estimator, initial_types=types, target_opset=18)
        except Exception as error:  # noqa: BLE001
            return None, f"skl2onnx does not convert it: {type(error).__name__}: {str(error).splitlines()[0][:200]}"
    (folder / FILE).write_bytes(made.SerializeToString())
    record = {
        "form": "matrix" if "" in inputs.arrays else "frame",
        "inputs": {name: _dtype(array, number) for name, array in given.items()},
        "outputs": [list(output) for output in model.outputs],
        "dtype": wanted.dtype.str, "tolerance": tolerance, "skl2onnx": skl2onnx.__version__,
    }  # fmt: skip
    try:
        session = plain_files.onnx_model(folder / FILE, 1, outputs=1).predictor
        record["missing"] = list(record["inputs"])
        whole = Predictor(session, record, lambda: model)
        fed, odd = whole.fed(inputs.arrays)
        found = whole.run(fed)
    except Exception as error:  # noqa: BLE001 - what ONNX Runtime does not take is not faster
        return None, f"ONNX Runtime does not take it: {type(error).__name__}: {str(error).splitlines()[0][:200]}"
    lacking = {name: _lacking(array) for name, array in given.items()}
    clean = ~odd & ~np.any(list(lacking.values()), axis=0)
    if clean.sum() < _MIN_CLEAN_ROWS:
        return None, f"only {clean.sum()} rows to compare on have no missing values: give others by --data"
    apart = _apart(wanted[clean], found[clean], tolerance)
    if apart:
        return None, f"it does not agree: {apart} of {clean.sum()} rows differ, with {number}"
    # Missing values are its to read only where it was seen to read them as the original does.
    agree = not _apart(wanted[~odd], found[~odd], tolerance)
    record["missing"] = [name for name, rows in lacking.items() if agree and rows.any() and widths[name] == 1]
    record["compared"] = int((~odd).sum() if record["missing"] else clean.sum())
    return record, ""


def _lacking(array: Any) -> Any:
    """Which rows lack a value. [rows]"""
    if array.dtype.kind == "O":
        return np.array([value is None for value in array.tolist()])
    if array.dtype.kind != "f":
        return np.zeros(len(array), bool)
    return np.isnan(array.reshape(len(array), -1)).any(axis=1)


def _dtype(array: Any, number: str) -> str:
    return {"f": number, "i": "int64", "b": "bool", "O": "object"}[array.dtype.kind]


def _apart(wanted: Any, found: Any, tolerance: float) -> int:
    """How many predictions differ by more than is allowed."""
    if len(found) != len(wanted):
        return len(wanted)
    if wanted.dtype.kind == "f":
        return int(np.count_nonzero(np.abs(found - wanted) > tolerance * np.maximum(1.0, np.abs(wanted))))
    return int(np.count_nonzero(found != wanted))


def _rows(folder: Path, data: Path | None) -> list[Any]:
    """The rows to compare on, as V1 instances. Raises HeadraceError."""
    from headrace.serving.runtime.warm_up import example_of

    rows = example_of(folder)
    if data is not None:
        import pandas as pd

        try:
            table = pd.read_csv(data) if data.suffix == ".csv" else pd.read_parquet(data)
        except (OSError, ValueError) as error:
            raise DocumentError(f"holds no rows: {error}", file=str(data), remedy="Give a .parquet or .csv.") from error
        if rows and isinstance(rows[0], dict):
            table = table[[name for name in table if name in rows[0]]]
        rows = rows + json.loads(table.to_json(orient="records", double_precision=15))
    if not rows:
        raise HeadraceError(
            "there are no rows to compare a faster form on", where=str(folder),
            remedy="Log the model with input_example=…, or give --data ROWS.parquet.",
        )  # fmt: skip
    return rows


def _mixed(inputs: Inputs, random: np.random.Generator) -> Inputs:
    """The rows, and more that are mixed from them column by column."""
    return Inputs(
        {name: np.concatenate([array, _mix(array, random)]) for name, array in inputs.arrays.items()},
        inputs.rows + _MIXED_ROWS,
    )


def _mix(array: Any, random: np.random.Generator) -> Any:
    columns = array if array.ndim == 2 else array.reshape(-1, 1)
    picks = random.integers(0, len(columns), (_MIXED_ROWS, columns.shape[1]))
    made = np.take_along_axis(columns, picks, axis=0)
    if made.dtype.kind == "f":
        spread = np.nanstd(columns, axis=0) + 0.1 * np.abs(np.nanmean(columns, axis=0))
        # Some near the given rows, some far: an example's few rows are often of one kind.
        reach = random.choice(_REACHES, size=(len(made), 1))
        made = (made + reach * random.normal(size=made.shape) * np.nan_to_num(spread)).astype(made.dtype)
    return made if array.ndim == 2 else made[:, 0]


def digest(folder: Path) -> str:
    """SHA-256 of the model's own files, by which a faster form knows its original."""
    total = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.name not in _OWN:
            total.update(file.relative_to(folder).as_posix().encode() + b"\0")
            total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def record_of(folder: Path) -> dict[str, Any] | None:
    """What is told of the faster form in a model's folder; None when there is none."""
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else {}


def problem_of(folder: Path, record: Mapping[str, Any]) -> str:
    """Why the faster form may not be used; "" when it may."""
    if record.get("version") != _VERSION:
        return "its faster form was made by another version of Headrace; make it again"
    if record.get("digest") != digest(folder):
        return "its faster form was made from other files; make it again"
    if not (folder / FILE).exists():
        return f"{FILE} is missing"
    try:
        import onnxruntime  # noqa: F401
    except ImportError:
        return "ONNX Runtime is not installed: pip install onnxruntime"
    return ""


def parameters(record: Mapping[str, Any]) -> dict[str, str]:
    """What the metadata says of it."""
    return {
        "form": "ONNX made from the scikit-learn model", "compared_rows": str(record["compared"]),
        "tolerance": f"{record['tolerance']:g}", "skl2onnx": str(record["skl2onnx"]),
    }  # fmt: skip


def main() -> int:
    """Exit code 0 when a faster form is kept, 1 when not, 2 when the model or the rows are wrong."""
    parser = argparse.ArgumentParser(prog="headrace.serving.runtime.faster", description=__doc__)
    parser.add_argument("model_folder", type=Path)
    parser.add_argument("--data", type=Path, help="rows to compare on as well, .parquet or .csv")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE)
    asked = parser.parse_args()
    try:
        outcome = make(asked.model_folder, data=asked.data, tolerance=asked.tolerance)
    except HeadraceError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    word = "a faster form is kept" if outcome.kept else "the original stays in use"
    sys.stdout.write(f"{word}: {outcome.why}\n")
    return 0 if outcome.kept else 1


if __name__ == "__main__":
    sys.exit(main())
