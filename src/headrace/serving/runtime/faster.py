"""A faster form of a scikit-learn model: converted to ONNX, kept only if it gives the same answers.

`python -m headrace.serving.runtime.faster MODEL_FOLDER [--data ROWS]` makes it by hand; the model server of a revision
makes it when it starts, where there is none. The same answers: equal classes, and numbers (a classifier's
probabilities too) within `tolerance` times the larger of 1 and the original's, on the model's input example, the rows
of `--data`, and 1,000 rows mixed from those (each value from some row; numbers of floating point also moved about).
Rows that ONNX could read differently are predicted by the original: those with a missing value in a column, or a text
that is unknown, for which that was not compared and did not agree, and numbers that it cannot hold. Where such rows may
come, the original is loaded as well before the server is ready, so that none of them has to wait for it; a missing
value that the original always refuses is refused in its words, without it.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from headrace.errors import HeadraceError
from headrace.serving.runtime.models import Inputs, Model

FILE = "headrace-faster.onnx"
RECORD = "headrace-faster.json"
TOLERANCE = 1e-4
MAKE_SECONDS = 30.0
OWN = {FILE, RECORD}
VERSION = 3


class Predictor:
    """The faster form behind the method of the original, which is asked about rows that it could read differently."""

    def __init__(self, session: Any, record: Mapping[str, Any], original: Callable[[], Model]) -> None:
        self.session = session
        self.types = {name: np.dtype(kind) for name, kind in record["inputs"].items()}
        self.missing = set(record["missing"])
        self.refuses: Mapping[str, str] = record.get("refuses", {})
        self.texts = {name: frozenset(texts) for name, texts in record["texts"].items()}
        self.dtype = np.dtype(record["dtype"])
        self.matrix = record["form"] == "matrix"
        self._load = original

    @cached_property
    def original(self) -> Model:
        """The model that was converted; it takes a second to load, and as much memory as scikit-learn."""
        return self._load()

    def predict(self, given: Any) -> Any:
        """Predictions, of the type that the original gives. [rows]"""
        arrays = {"": given} if self.matrix else given
        fed, odd = self.fed(arrays)
        if odd is None or not odd.any():
            return self.run(fed)
        answer = np.empty(len(odd), self.dtype)
        answer[odd] = self.original.predict(Inputs({name: a[odd] for name, a in arrays.items()}, int(odd.sum())))
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
        (None: each means the same).

        Raises:
            ValueError: a value is missing where the original refuses that.
        """
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
            for name, array in numbers:
                if name in self.refuses and np.isnan(array).any():
                    raise ValueError(self.refuses[name])
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
        if name in self.refuses:
            raise ValueError(self.refuses[name])
        absent = np.array([value is None for value in values])
        return np.where(absent, "", array), odd if name in self.missing else [*odd, absent]


def made_in(path: Path, forms: Path, seconds: float = MAKE_SECONDS) -> tuple[Path, str]:
    """The folder in `forms` for the model in folder `path`, called by its digest, and why there is no faster form in it
    ("": there may be one).

    What is not there yet is made, in a process of its own: what that needs takes memory that this one would not give
    back. Whatever happens to it in `seconds`, it is tried once; the folder says what came of it.
    """
    from headrace.serving.runtime.loaders import mlflow_folder
    from headrace.serving.runtime.warm_up import example_of

    if not mlflow_folder.has_flavor(path, "sklearn"):
        return forms, ""
    if not example_of(path):
        return forms, "it has no input example to compare a faster form on"
    for library in ("onnxruntime", "skl2onnx"):
        if importlib.util.find_spec(library) is None:
            return forms, f"{library} is not installed"
    model = digest(path)
    folder = forms / model
    if (record_of(folder) or {}).get("version") == VERSION:
        return folder, ""
    command = [sys.executable, "-P", "-W", "ignore", "-m", __spec__.name, str(path), "--into", str(folder)]
    why = ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)
        words = done.stderr.strip().splitlines()
        if done.returncode not in (0, 1) or record_of(folder) is None:
            why = f"making it failed: {words[-1] if words else f'exit code {done.returncode}'}"
    except subprocess.TimeoutExpired:
        why = f"making it took longer than {seconds:g} s"
    except OSError as error:
        return forms, f"it cannot be made: {error}"
    if why:
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            note(folder, {"version": VERSION, "digest": model, "kept": False, "why": why})
    return folder, why


def note(folder: Path, record: Mapping[str, Any]) -> None:
    """Write the record, whole or not at all."""
    written = folder / f"{RECORD}.{os.getpid()}"
    written.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    written.replace(folder / RECORD)


def digest(folder: Path) -> str:
    """SHA-256 of the model's own files, by which a faster form knows its original."""
    total = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.name not in OWN:
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
    if record.get("version") != VERSION:
        return "its faster form was made by another version of Headrace; make it again"
    if record.get("digest") != model:
        return "its faster form was made from other files; make it again"
    if not record.get("kept"):
        return str(record.get("why"))
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
        "form": "ONNX made from the scikit-learn model", "why": str(record["why"]),
        "compared_rows": str(record["compared"]), "tolerance": f"{record['tolerance']:g}",
        "skl2onnx": str(record["skl2onnx"]),
    }  # fmt: skip


def main() -> int:
    """Exit code 0 when a faster form is kept, 1 when not, 2 when the model or the rows are wrong."""
    parser = argparse.ArgumentParser(prog="headrace.serving.runtime.faster", description=__doc__)
    parser.add_argument("model_folder", type=Path)
    parser.add_argument("--data", type=Path, help="rows to compare on as well, .parquet or .csv")
    parser.add_argument("--into", type=Path, help="keep it in this folder instead of beside the model")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE)
    asked = parser.parse_args()
    try:
        from headrace.serving.runtime.conversion import make

        outcome = make(asked.model_folder, data=asked.data, tolerance=asked.tolerance, into=asked.into)
    except HeadraceError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    word = "a faster form is kept" if outcome.kept else "the original stays in use"
    sys.stdout.write(f"{word}: {outcome.why}\n")
    return 0 if outcome.kept else 1


if __name__ == "__main__":
    sys.exit(main())
