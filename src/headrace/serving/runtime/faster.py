"""A faster form of a scikit-learn model: converted to ONNX, kept only if it gives the same answers.

`python -m headrace.serving.runtime.faster MODEL_FOLDER [--data ROWS]` makes it by hand; the model server of a revision
makes it when it starts, where there is none. The same answers: equal classes, and numbers (a classifier's
probabilities too) within `tolerance` times the larger of 1 and the original's, on the model's input example, the rows
of `--data`, and 1,000 rows mixed from those (each value from some row; numbers of floating point also moved about).
Rows that ONNX could read differently are predicted by the original: those with a missing value in a column, or a text
that is unknown, for which that was not compared and did not agree, and numbers that it cannot hold.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from headrace.errors import DocumentError, HeadraceError
from headrace.serving.runtime import boosted_trees, tables
from headrace.serving.runtime.models import Inputs, Model

FILE = "headrace-faster.onnx"
RECORD = "headrace-faster.json"
TOLERANCE = 1e-4
_MIXED_ROWS = 1000
_PROBE_ROWS = 40
_MIN_CLEAN_ROWS = 100
_MOST_TEXTS = 10_000
_VERSION = 2
_REACHES = (1.0, 3.0, 10.0)
_OWN = {FILE, RECORD}
# "" is what ONNX gets for a missing text, "nan" is how skl2onnx writes down a missing category.
_STRANGE_TEXTS = ("", "nan", "a text that nobody knows")


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
        self.texts = {name: frozenset(texts) for name, texts in record["texts"].items()}
        self.dtype = np.dtype(record["dtype"])
        self.matrix = record["form"] == "matrix"
        self._load = original
        self._original: Model | None = None

    def predict(self, given: Any) -> Any:
        """Predictions, of the type that the original gives. [rows]"""
        arrays = {"": given} if self.matrix else given
        fed, odd = self.fed(arrays)
        if odd is None or not odd.any():
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
        """The arrays as ONNX Runtime gets them, [rows, columns], and which rows would not mean the same to it, [rows]
        (None: each means the same)."""
        fed, odd, numbers = {}, [], []
        for (name, dtype), array in zip(self.types.items(), arrays.values(), strict=True):
            if dtype.kind == "O":
                array, strange = self._text(name, array)
                odd += strange
            else:
                with np.errstate(over="ignore"):
                    array = array.astype(dtype, copy=False)
                if dtype.kind == "f":
                    numbers.append((name, array))
            fed[name] = array if array.ndim == 2 else array.reshape(-1, 1)
        if numbers and not np.isfinite(np.concatenate([array.reshape(-1) for _, array in numbers])).all():
            for name, _ in numbers:
                strange = np.isinf(fed[name]) if name in self.missing else ~np.isfinite(fed[name])
                odd.append(strange.any(axis=1))
        return fed, np.any(odd, axis=0) if odd else None

    def _text(self, name: str, array: Any) -> tuple[Any, list[Any]]:
        """A column of text with "" for what is missing, and which rows would not mean the same (none, or one array)."""
        values = array.tolist()
        odd = []
        if name in self.texts:
            known = self.texts[name]
            odd = [np.array([value is not None and value not in known for value in values])]
        if None not in values:
            return array, odd
        absent = np.array([value is None for value in values])
        return np.where(absent, "", array), odd if name in self.missing else [*odd, absent]


def make(folder: Path, *, data: Path | None = None, tolerance: float = TOLERANCE, into: Path | None = None) -> Outcome:
    """Convert the MLflow scikit-learn model in `folder`, compare, and keep the result if it agrees.

    It is kept beside the model, or in the folder `into`; there, also why there is none.

    Raises:
        HeadraceError: the model cannot be loaded, there are no rows to compare on, or skl2onnx is not installed.
    """
    kept_in = into or folder
    for name in _OWN:
        (kept_in / name).unlink(missing_ok=True)
    kept_in.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept_in) as made:
        record, why = _made(folder, data, tolerance, Path(made) / FILE)
        if record is None and into is None:
            return Outcome(False, why)
        told = {"version": _VERSION, "digest": digest(folder), "kept": record is not None, "why": why}
        if record is not None:
            (Path(made) / FILE).replace(kept_in / FILE)
        (Path(made) / RECORD).write_text(json.dumps(told | (record or {}), indent=1) + "\n", encoding="utf-8")
        (Path(made) / RECORD).replace(kept_in / RECORD)
    return Outcome(record is not None, why)


def _made(folder: Path, data: Path | None, tolerance: float, file: Path) -> tuple[dict[str, Any] | None, str]:
    """The record of a conversion in `file` that agrees, or None, and why."""
    from headrace.serving.runtime.loaders import mlflow_folder, plain_files, predictors

    model = mlflow_folder.load(folder, 1)
    if not model.platform.startswith("sklearn"):
        return None, f"only scikit-learn models are converted, this is {model.platform}"
    plain_files.library("onnxruntime")
    plain_files.library("skl2onnx")
    rows = _rows(folder, data)
    original = _Original(model)
    inputs = _mixed(tables.of_rows(rows, model), np.random.default_rng(0))
    try:
        wanted = original.answers(inputs)
    except Exception as error:  # noqa: BLE001 - a model may raise anything at rows that were mixed
        return None, f"the original raises at the rows to compare on: {type(error).__name__}: {error}"
    values, chances = wanted
    if not isinstance(values, np.ndarray) or values.ndim != 1:
        return None, "the model does not predict one value a row"
    if values.dtype.kind != "f" and chances is None and len(set(values.tolist())) < 2:
        return None, "all rows that there are to compare on get the same answer: give others by --data"
    if not predictors.is_rowwise(original.estimator):
        return None, "the model holds code that is not scikit-learn's own"
    why = ""
    for number in ("float64", "float32"):
        record, why = _try(file, original, inputs, wanted, number, tolerance)
        if record is not None:
            why = f"it agrees on {record['compared']} rows within {tolerance:g}, with {number}"
            return record | {"given_rows": len(rows)}, why
    return None, why


class _Original:
    """The model, and what it answers: values [rows], and a classifier's probabilities [rows, classes], else None."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.estimator = getattr(model.predictor, "pipeline", model.predictor)

    def answers(self, inputs: Inputs) -> tuple[Any, Any]:
        values = self.model.predict(inputs)
        if not hasattr(self.estimator, "predict_proba"):
            return values, None
        return values, self.model.predictor.predict_proba(self.model.given(inputs))


def _try(
    file: Path, original: _Original, inputs: Inputs, wanted: tuple[Any, Any], number: str, tolerance: float
) -> tuple[dict[str, Any] | None, str]:
    """The record of a conversion that agrees, or why there is none."""
    import skl2onnx

    from headrace.serving.runtime.loaders import plain_files

    given = {name or "X": array for name, array in inputs.arrays.items()}
    why = _convert(original.estimator, given, number, file)
    if why:
        return None, why
    record: dict[str, Any] = {
        "form": "matrix" if "" in inputs.arrays else "frame",
        "inputs": {name: _dtype(array, number) for name, array in given.items()},
        "outputs": [list(output) for output in original.model.outputs],
        "dtype": wanted[0].dtype.str, "tolerance": tolerance, "skl2onnx": skl2onnx.__version__,
        "missing": list(given), "texts": {},
    }  # fmt: skip
    try:
        session = plain_files.onnx_model(file, 1).predictor
        compared = _Comparison(original, Predictor(session, record, lambda: original.model), tolerance)
        apart, odd = compared.apart(inputs, wanted)
    except Exception as error:  # noqa: BLE001 - what ONNX Runtime does not take is not faster
        return None, f"ONNX Runtime does not take it: {type(error).__name__}: {str(error).splitlines()[0][:200]}"
    lacking = np.any([_lacking(array) for array in given.values()], axis=0)
    clean = ~odd & ~lacking
    if clean.sum() < _MIN_CLEAN_ROWS:
        return None, f"only {clean.sum()} rows to compare on have no missing values: give others by --data"
    if apart[clean].any():
        return None, f"it does not agree: {apart[clean].sum()} of {clean.sum()} rows differ, with {number}"
    some = np.flatnonzero(clean)[:_PROBE_ROWS]
    probes = Inputs({name: array[some] for name, array in inputs.arrays.items()}, len(some))
    # Missing values are its to read only where it was seen to read them as the original does; so is unknown text.
    record["missing"] = [] if apart[~odd].any() else [n for n in inputs.arrays if compared.same_without(probes, n)]
    record["missing"] = [name or "X" for name in record["missing"]]
    record["compared"] = int((~odd).sum() if record["missing"] else clean.sum())
    for name, array in inputs.arrays.items():
        if array.dtype.kind == "O" and not compared.same_with(probes, name, _STRANGE_TEXTS):
            record["texts"][name] = compared.known_texts(probes, name, array)
    return record, ""


def _convert(estimator: Any, given: Mapping[str, Any], number: str, file: Path) -> str:
    """Write the ONNX of an estimator; why there is none, "" when there is."""
    import skl2onnx
    from skl2onnx.common import data_types

    kinds = {
        "f": data_types.DoubleTensorType if number == "float64" else data_types.FloatTensorType,
        "i": data_types.Int64TensorType, "b": data_types.BooleanTensorType, "O": data_types.StringTensorType,
    }  # fmt: skip
    types = [
        (name, kinds[array.dtype.kind]([None, array.shape[1] if array.ndim == 2 else 1]))
        for name, array in given.items()
    ]  # fmt: skip
    conversions, shapes = boosted_trees.converters()
    more: dict[str, Any] = {
        "initial_types": types, "target_opset": 18, "custom_conversion_functions": conversions,
        "custom_shape_calculators": shapes,
    }  # fmt: skip
    try:
        made = skl2onnx.convert_sklearn(estimator, options={id(estimator): {"zipmap": False}}, **more)
    except Exception:  # noqa: BLE001 - converters raise anything; options are for classifiers only
        try:
            made = skl2onnx.convert_sklearn(estimator, **more)
        except Exception as error:  # noqa: BLE001
            return f"skl2onnx does not convert it: {type(error).__name__}: {str(error).splitlines()[0][:200]}"
    boosted_trees.set_opset(made)
    file.write_bytes(made.SerializeToString())
    return ""


class _Comparison:
    """The original beside its conversion."""

    def __init__(self, original: _Original, form: Predictor, tolerance: float) -> None:
        self.original = original
        self.form = form
        self.tolerance = tolerance

    def apart(self, inputs: Inputs, wanted: tuple[Any, Any]) -> tuple[Any, Any]:
        """Which rows get another answer, and which the conversion cannot be asked about at all. [rows]"""
        values, chances = wanted
        fed, odd = self.form.fed(inputs.arrays)
        odd = np.zeros(inputs.rows, bool) if odd is None else odd
        apart = self._differ(values, self.form.run(fed))
        others = list(self.form.session.predict(fed).values())[1:]
        if chances is not None and others and others[0].shape == chances.shape:
            apart |= self._differ(chances, others[0]).any(axis=1)
        return apart, odd

    def _differ(self, wanted: Any, found: Any) -> Any:
        if len(found) != len(wanted):
            return np.ones(len(wanted), bool)
        if wanted.dtype.kind != "f":
            return found != wanted
        return ~(np.abs(found - wanted) <= self.tolerance * np.maximum(1.0, np.abs(wanted)))

    def same_without(self, probes: Inputs, name: str) -> bool:
        """Whether both answer alike where a column has no values; the original may not take that."""
        array = probes.arrays[name]
        if array.dtype.kind not in "Of":
            return False
        if array.ndim == 2:  # each row lacks another value
            lacking = array.copy()
            lacking[np.arange(len(array)), np.arange(len(array)) % array.shape[1]] = np.nan
        else:
            lacking = np.full(len(array), None if array.dtype.kind == "O" else np.nan, array.dtype)
        return self._same(probes, name, lacking)

    def same_with(self, probes: Inputs, name: str, texts: tuple[str, ...]) -> bool:
        """Whether both answer alike where a column has these texts."""
        return all(self._same(probes, name, np.full(probes.rows, text, object)) for text in texts)

    def known_texts(self, probes: Inputs, name: str, array: Any) -> list[str]:
        """The texts of a column, and those of the model's encoders, at which both answer alike."""
        given = {value for value in array.tolist() if value is not None}
        found = sorted(given | _categories(self.original.estimator, given))[:_MOST_TEXTS]
        one = Inputs({key: values[:1] for key, values in probes.arrays.items()}, 1)
        return [text for text in found if self.same_with(one, name, (text,))]

    def _same(self, probes: Inputs, name: str, array: Any) -> bool:
        inputs = replace(probes, arrays={**probes.arrays, name: array})
        try:
            wanted = self.original.answers(inputs)
        except Exception:  # noqa: BLE001 - a model may raise anything at what it does not know
            return False
        return not self.apart(inputs, wanted)[0].any()


def _categories(estimator: Any, given: set[str]) -> set[str]:
    """The texts that the encoders in a model know, of those that know one of `given`."""
    from headrace.serving.runtime.loaders.predictors import steps_of

    found: set[str] = set()
    for step in steps_of(estimator):
        for values in getattr(step, "categories_", ()):
            texts = {value for value in values.tolist() if isinstance(value, str)}
            if texts & given:
                found |= texts
    return found


def _lacking(array: Any) -> Any:
    """Which rows lack a value. [rows]"""
    if array.dtype.kind == "O":
        return np.array([value is None for value in array.tolist()])
    if array.dtype.kind != "f":
        return np.zeros(len(array), bool)
    return np.isnan(array.reshape(len(array), -1)).any(axis=1)


def _dtype(array: Any, number: str) -> str:
    return {"f": number, "i": "int64", "b": "bool", "O": "object"}[array.dtype.kind]


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


def problem_of(folder: Path, record: Mapping[str, Any], model: str) -> str:
    """Why the faster form in a folder may not be used for the model of this digest; "" when it may."""
    if record.get("version") != _VERSION:
        return "its faster form was made by another version of Headrace; make it again"
    if record.get("digest") != model:
        return "its faster form was made from other files; make it again"
    if not record.get("kept"):
        return f"it has no faster form: {record.get('why')}"
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
