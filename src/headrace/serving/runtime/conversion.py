"""Convert a scikit-learn model to ONNX, and compare: the making of what faster.py keeps and serves."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from headrace.errors import DocumentError, HeadraceError
from headrace.serving.runtime import boosted_trees, tables
from headrace.serving.runtime.errors import BadRequest
from headrace.serving.runtime.faster import FILE, OWN, TOLERANCE, VERSION, Predictor, digest, note
from headrace.serving.runtime.models import Inputs, Model

# Of those that are given; a million as Python's own values would take gigabytes.
MOST_ROWS = 50_000
_MIXED_ROWS = 1000
_PROBE_ROWS = 40
_MIN_CLEAN_ROWS = 100
_MOST_TEXTS = 10_000
_REACHES = (1.0, 3.0, 10.0)
# "" is what ONNX gets for a missing text, "nan" is how skl2onnx writes down a missing category.
_STRANGE_TEXTS = ("", "nan", "a text that nobody knows")


@dataclass(frozen=True)
class Outcome:
    """Whether a faster form is kept, and why (not)."""

    kept: bool
    why: str


def make(folder: Path, *, data: Path | None = None, tolerance: float = TOLERANCE, into: Path | None = None) -> Outcome:
    """Convert the MLflow scikit-learn model in `folder`, compare, and keep the result if it agrees.

    It is kept beside the model, or in the folder `into`; there, also why there is none.

    Raises:
        HeadraceError: the model cannot be loaded, there are no rows to compare on, or skl2onnx is not installed.
    """
    kept_in = into or folder
    for name in OWN:
        (kept_in / name).unlink(missing_ok=True)
    kept_in.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept_in) as made:
        record, why = _made(folder, data, tolerance, Path(made) / FILE)
        if record is None and into is None:
            return Outcome(False, why)
        told = {"version": VERSION, "digest": digest(folder), "kept": record is not None, "why": why}
        if record is not None:
            (Path(made) / FILE).replace(kept_in / FILE)
        note(kept_in, told | (record or {}))
    return Outcome(record is not None, why)


def _made(folder: Path, data: Path | None, tolerance: float, file: Path) -> tuple[dict[str, Any] | None, str]:
    """The record of a conversion in `file` that agrees, or None, and why."""
    from headrace.serving.runtime.loaders import mlflow_folder, plain_files, predictors

    model = mlflow_folder.load(folder, 1)
    if not model.platform.startswith("sklearn"):
        return None, f"only scikit-learn models are converted, this is {model.platform}"
    plain_files.library("onnxruntime")
    plain_files.library("skl2onnx")
    rows = _rows(folder, data, model)
    original = _Original(model)
    if not predictors.is_rowwise(original.estimator):
        return None, "the model holds code that is not scikit-learn's own"
    try:
        inputs = _mixed(tables.of_rows(rows, model), np.random.default_rng(0))
    except BadRequest as error:
        raise HeadraceError(
            f"the rows to compare on do not fit the model: {error}", where=str(data or folder)
        ) from error  # fmt: skip
    try:
        wanted = original.answers(inputs)
    except Exception as error:  # noqa: BLE001 - a model may raise anything at rows that were mixed
        return None, f"the original raises at the rows to compare on: {_short(error)}"
    values, chances = wanted
    if not isinstance(values, np.ndarray) or values.ndim != 1:
        return None, "the model does not predict one value a row"
    if values.dtype.kind != "f" and chances is None and len(set(values.tolist())) < 2:
        return None, "all rows that there are to compare on get the same answer: give others by --data"
    why = ""
    for number in ("float64", "float32"):
        record, why = _try(file, original, inputs, wanted, number, tolerance)
        if record is not None:
            why = f"it agrees on {record['compared']} rows within {tolerance:g}, with {number}"
            return record | {"given_rows": len(rows)}, why
    return None, why


def _short(error: Exception) -> str:
    """An error in a line."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]


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
        "missing": list(given), "refuses": {}, "texts": {},
    }  # fmt: skip
    try:
        session = plain_files.onnx_model(file, 1).predictor
        compared = _Comparison(original, Predictor(session, record, lambda: original.model), tolerance)
        apart, odd = compared.apart(inputs, wanted)
    except Exception as error:  # noqa: BLE001 - what ONNX Runtime does not take is not faster
        return None, f"ONNX Runtime does not take it: {_short(error)}"
    lacking = np.any([_lacking(array) for array in given.values()], axis=0)
    clean = ~odd & ~lacking
    if clean.sum() < _MIN_CLEAN_ROWS:
        return None, f"only {clean.sum()} rows to compare on have no missing values: give others by --data"
    if apart[clean].any():
        return None, f"it does not agree: {apart[clean].sum()} of {clean.sum()} rows differ, with {number}"
    widest = max(array.shape[-1] if array.ndim == 2 else 1 for array in inputs.arrays.values())
    some = np.flatnonzero(clean)[: max(_PROBE_ROWS, widest)]
    probes = Inputs({name: array[some] for name, array in inputs.arrays.items()}, len(some))
    # Missing values are its to read only where it was seen to read them as the original does; so is unknown text.
    record["missing"] = [] if apart[~odd].any() else [n for n in inputs.arrays if compared.same_without(probes, n)]
    record["missing"] = [name or "X" for name in record["missing"]]
    record["compared"] = int((~odd).sum() if record["missing"] else clean.sum())
    for name, array in inputs.arrays.items():
        if array.dtype.kind == "O" and not compared.same_with(probes, name, _STRANGE_TEXTS):
            record["texts"][name] = compared.known_texts(probes, name, array)
    unread = [
        name for name, array in inputs.arrays.items() if _may_lack(array) and (name or "X") not in record["missing"]
    ]
    record["refuses"] = {name or "X": why for name in unread if (why := compared.refusal(probes, name))}
    record["needs_original"] = bool(record["texts"]) or len(record["refuses"]) < len(unread)
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
            return f"skl2onnx does not convert it: {_short(error)}"
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
        return _may_lack(array) and _fits(array) and self._same(probes, name, _without(array))

    def refusal(self, probes: Inputs, name: str) -> str:
        """What the original says to each row that has no value in a column; "" when it answers one, or says several
        things."""
        told = set()
        arrays = {**probes.arrays, name: _without(probes.arrays[name])}
        for row in range(probes.rows):
            one = {key: values[row : row + 1] for key, values in arrays.items()}
            try:
                self.original.answers(Inputs(one, 1))
            except ValueError as error:
                told.add(str(error))
            except Exception:  # noqa: BLE001 - a model may raise anything; a ValueError is told again
                return ""
            else:
                return ""
        return told.pop() if len(told) == 1 and _fits(probes.arrays[name]) else ""

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


def _may_lack(array: Any) -> bool:
    """Whether there is a missing value of this type."""
    return bool(array.dtype.kind in "Of")


def _fits(array: Any) -> bool:
    """Whether there are enough rows for each column of it to lack a value once."""
    return bool(array.ndim == 1 or array.shape[1] <= len(array))


def _without(array: Any) -> Any:
    """A column without values; of several columns together, each row lacks another value."""
    if array.ndim == 1:
        return np.full(len(array), None if array.dtype.kind == "O" else np.nan, array.dtype)
    lacking = array.copy()
    lacking[np.arange(len(array)), np.arange(len(array)) % array.shape[1]] = np.nan
    return lacking


def _lacking(array: Any) -> Any:
    """Which rows lack a value. [rows]"""
    if array.dtype.kind == "O":
        return np.array([value is None for value in array.tolist()])
    if array.dtype.kind != "f":
        return np.zeros(len(array), bool)
    return np.isnan(array.reshape(len(array), -1)).any(axis=1)


def _dtype(array: Any, number: str) -> str:
    return {"f": number, "i": "int64", "b": "bool", "O": "object"}[array.dtype.kind]


def _rows(folder: Path, data: Path | None, model: Model) -> list[Any]:
    """The rows to compare on, as V1 instances. Raises HeadraceError."""
    from headrace.serving.runtime.warm_up import example_of

    rows = example_of(folder)
    if data is not None:
        import pandas as pd

        try:
            table = pd.read_csv(data) if data.suffix == ".csv" else pd.read_parquet(data)
        except (OSError, ValueError) as error:
            raise DocumentError(f"holds no rows: {error}", file=str(data), remedy="Give a .parquet or .csv.") from error
        # Rows that are held out have a label, too.
        wanted = [column.name for column in model.columns]
        if not wanted and rows and isinstance(rows[0], dict):
            wanted = list(rows[0])
        lacking = [column.name for column in model.columns if column.required and column.name not in table]
        if lacking:
            raise DocumentError(
                f"lacks the model's column {lacking[0]}", file=str(data), remedy=f"Give {', '.join(wanted)}."
            )
        table = table[[name for name in table if name in wanted or not wanted]]
        table = table.sample(min(len(table), MOST_ROWS), random_state=0)
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
