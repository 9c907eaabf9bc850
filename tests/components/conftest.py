import asyncio
import json
import shutil
import time
import warnings

import pytest
from kfp import compiler

from headrace.catalog.registry import ModelRegistry
from headrace.clock import SystemClock
from headrace.contracts import pipeline_spec
from headrace.project.wiring import open_database
from headrace.runs import queries
from headrace.runs.engine import Engine
from headrace.runs.submit import create_run
from headrace.store.home import Home


class Workshop:
    """A home with an embedded MLflow and an engine that runs pipelines in it."""

    def __init__(self, folder, mlflow):
        self.folder = folder
        self.home = Home(folder / "home").create()
        self.database = open_database(self.home)
        shutil.copy(mlflow, self.home.path / "mlflow.db")
        self.registry = ModelRegistry(self.home.mlflow_uri)
        self.environment = {"HEADRACE_HOME": str(self.home.path), "MLFLOW_TRACKING_URI": self.home.mlflow_uri}

    def document(self, pipeline):
        file = self.folder / f"{pipeline.name}.yaml"
        compiler.Compiler().compile(pipeline, str(file))
        return pipeline_spec.parse(file.read_text(), str(file))

    def drive(self, run_id):
        engine = Engine(
            home=self.home, database=self.database, clock=SystemClock(), environment=self.environment, parallel=1
        )
        asyncio.run(engine.drive(run_id))
        told = queries.run_json(self.database, run_id)
        return told, {task["name"]: task for task in told["run_details"]["task_details"]}

    def run(self, pipeline, **parameters):
        created = create_run(
            self.database, self.document(pipeline), pipeline=pipeline.name, parameters=parameters, environment="dev",
            actor="user:ann", at=time.time(), reason="new data", commit="c0ffee",
        )  # fmt: skip
        return self.drive(created)


@pytest.fixture(scope="session")
def mlflow_database(tmp_path_factory):
    """An MLflow database with its tables, to be copied: making them takes seconds."""
    place = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert ModelRegistry(f"sqlite:///{place}").client
    return place


@pytest.fixture
def workshop(tmp_path, mlflow_database):
    made = Workshop(tmp_path, mlflow_database)
    yield made
    made.database.close()


@pytest.fixture(scope="module")
def module_workshop(tmp_path_factory, mlflow_database):
    made = Workshop(tmp_path_factory.mktemp("workshop"), mlflow_database)
    yield made
    made.database.close()


@pytest.fixture
def inside(workshop, monkeypatch):
    """The surroundings of a task, for components that are called as functions."""
    task = {
        "HEADRACE_RUN_ID": "run1", "HEADRACE_TASK": "register", "HEADRACE_PIPELINE": "retrain",
        "HEADRACE_COMMIT": "c0ffee", "HEADRACE_ACTOR": "user:ann", "HEADRACE_REASON": "new data",
    }  # fmt: skip
    for name, value in {**workshop.environment, **task}.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.fixture(scope="session")
def tables(tmp_path_factory):
    """A folder with flights.parquet (40 rows: `distance`, `night`, `late`), broken.parquet and a suite for them."""
    import pandas as pd

    folder = tmp_path_factory.mktemp("tables")
    rows = pd.DataFrame({"distance": [float(n) for n in range(40)], "night": [n % 2 for n in range(40)]})
    rows["late"] = (rows["distance"] + 6 * (rows["night"] - 0.5) > 20).astype("int64")
    rows.to_parquet(folder / "flights.parquet")
    rows.to_csv(folder / "flights.csv", index=False)
    rows.assign(distance=rows["distance"].where(rows.index > 3, -7.0)).to_parquet(folder / "broken.parquet")
    rows.drop(columns="distance").to_parquet(folder / "narrow.parquet")
    expectations = [
        {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 10}},
        {"type": "expect_column_values_to_be_between", "kwargs": {"column": "distance", "min_value": 0}},
        {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "late", "value_set": [0, 1]}},
    ]
    (folder / "suite.json").write_text(json.dumps({"name": "flights", "expectations": expectations}))
    return folder


@pytest.fixture(scope="session")
def models(tables, tmp_path_factory):
    """A folder with two saved MLflow models for the table: `good`, and `poor`, which looks at `night` only."""
    import pandas as pd
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    folder = tmp_path_factory.mktemp("models")
    rows = pd.read_parquet(tables / "flights.parquet")
    late = rows.pop("late")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.sklearn

        for name, columns in (("good", ["distance", "night"]), ("poor", ["night"])):
            seen = make_column_transformer(("passthrough", columns))
            model = make_pipeline(seen, LogisticRegression()).fit(rows, late)
            mlflow.sklearn.save_model(
                model, str(folder / name), pip_requirements=["scikit-learn"], serialization_format="cloudpickle"
            )
    return folder
