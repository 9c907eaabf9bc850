"""The models that are served: an SVC of iris flowers, and the pipeline of the flights example."""

from __future__ import annotations

import importlib.util
import json
import random
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).parents[2]
FLIGHTS = ROOT / "examples" / "flights"
FLOWERS = [[6.8, 2.8, 4.8, 1.4], [6.0, 3.4, 4.5, 1.6]]


def make(folder: Path) -> dict[str, list[Any]]:
    """Train both into `folder`/iris and `folder`/flights, as MLflow models; 1,000 rows of each to ask about."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {"iris": _iris(folder / "iris"), "flights": _flights(folder)}


def _iris(path: Path) -> list[Any]:
    import mlflow.sklearn
    from mlflow.models import infer_signature
    from sklearn.datasets import load_iris
    from sklearn.svm import SVC

    numbers, kinds = load_iris(return_X_y=True)
    model = SVC().fit(numbers, kinds)
    mlflow.sklearn.save_model(
        model, path, serialization_format="cloudpickle", signature=infer_signature(numbers, model.predict(numbers)),
        input_example=numbers[:5], pip_requirements=["scikit-learn"],
    )  # fmt: skip
    chance = random.Random(7)
    rows: list[Any] = [[round(value, 1) for value in chance.choice(numbers).tolist()] for _ in range(1000)]
    return rows


def _flights(folder: Path) -> list[Any]:
    import pandas as pd

    example = _example()
    data = FLIGHTS / "data"
    table = SimpleNamespace(path=str(folder / "rows.parquet"), metadata={})
    example.features.python_func(
        flights=SimpleNamespace(path=str(data / "flights-2013-01.parquet")),
        weather=SimpleNamespace(path=str(data / "weather.parquet")),
        planes=SimpleNamespace(path=str(data / "planes.parquet")), table=table,
    )  # fmt: skip
    made = pd.read_parquet(table.path).drop(columns="time_hour")
    made.to_parquet(table.path, index=False)
    model = SimpleNamespace(path=str(folder / "flights"), metadata={})
    example.train.python_func(rows=SimpleNamespace(path=table.path), model=model)
    whole = made.drop(columns="late").dropna().sample(1000, random_state=7)
    rows: list[Any] = json.loads(whole.to_json(orient="records"))
    return rows


def _example() -> Any:
    spec = importlib.util.spec_from_file_location("flights_example", FLIGHTS / "pipelines" / "retrain.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
