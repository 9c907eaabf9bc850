"""Pipelines that begin with a ColumnTransformer predict without a table, and exactly the same."""

import random
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler

from headrace.serving.runtime import tables
from headrace.serving.runtime.loaders import load
from headrace.serving.runtime.models import frame

CARRIERS = ["AA", "UA", "B6", None]


def flights(rows=300):
    chance = random.Random(4)
    numbers = np.random.default_rng(4)
    table = pd.DataFrame(
        {
            "carrier": [chance.choice(CARRIERS) for _ in range(rows)],
            "hour": numbers.integers(0, 24, rows).astype(float),
            "seats": np.where(numbers.random(rows) < 0.2, np.nan, numbers.integers(2, 400, rows)),
            "origin": [chance.choice(["JFK", "EWR"]) for _ in range(rows)],
        }
    )
    late = ((table["hour"] > 15) ^ (table["carrier"] == "AA")).astype(int)
    return table, late


def boosted():
    encode = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=np.nan)
    boost = HistGradientBoostingClassifier(max_iter=5, categorical_features=[0, 1], random_state=0)
    return make_pipeline(make_column_transformer((encode, ["origin", "carrier"]), remainder="passthrough"), boost)


def linear():
    text = OneHotEncoder(handle_unknown="ignore")
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    chosen = make_column_transformer((text, ["carrier"]), (numbers, make_column_selector(dtype_include=float)))
    return make_pipeline(chosen, LogisticRegression(max_iter=1000))


def own():
    return make_pipeline(FunctionTransformer(lambda table: table), *(step for _, step in boosted().steps))


@pytest.fixture
def saved(tmp_path):
    """Fits and saves a pipeline; its folder, and the pipeline."""

    def save(pipeline, **more):
        import mlflow.sklearn
        from mlflow.models import infer_signature

        table, late = flights()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pipeline.fit(table, late)
            mlflow.sklearn.save_model(
                pipeline, tmp_path / "model", serialization_format="cloudpickle", pip_requirements=[],
                signature=infer_signature(table, pipeline.predict(table)), **more,
            )  # fmt: skip
        return tmp_path / "model", pipeline

    return save


@pytest.mark.parametrize("made", [boosted, linear])
def test_it_gives_the_answers_of_the_pipeline(saved, made):
    table, _ = flights()
    folder, pipeline = saved(made(), input_example=table.head(5))
    model = load(folder)
    assert model.form == "columns"
    rows = [{k: None if v != v else v for k, v in row.items()} for row in table.to_dict("records")]
    rows += [{**rows[0], "carrier": "never seen"}, {**rows[0], "seats": None, "carrier": None}]
    inputs = tables.of_rows(rows, model)
    assert np.array_equal(model.predict(inputs), pipeline.predict(frame(inputs)))
    for row in rows[:20]:
        one = tables.of_rows([row], model)
        assert np.array_equal(model.predict(one), pipeline.predict(frame(one)))


def test_without_an_example_or_with_code_of_ones_own_there_is_a_table(saved):
    folder, _ = saved(boosted())
    assert load(folder).form == "frame"


def test_code_of_ones_own_gets_a_table(saved):
    table, _ = flights()
    folder, pipeline = saved(own(), input_example=table.head(5))
    model = load(folder)
    assert (model.form, model.rowwise) == ("frame", False)
    assert np.array_equal(model.predict(tables.of_rows([table.iloc[0].to_dict()], model)), pipeline.predict(table[:1]))
