import warnings

import pytest
from kfp import dsl

from headrace.components import register
from headrace.errors import HeadraceError
from headrace.serving.runtime import conversion
from headrace.serving.runtime.loaders import load


@pytest.fixture
def registered(inside, models):
    """Registers a model (default: the good one) as the task would; its address."""

    def once(folder=models / "good", holdout=None, **metadata):
        metrics = dsl.Metrics(name="metrics", uri="/none", metadata={"auc": 0.75, "rows": 40, "note": "not a number"})
        model = dsl.Model(name="model", uri=str(folder), metadata={"trees": 60, **metadata})
        return register.python_func(model=model, metrics=metrics, name="delay", data_version="d1", holdout=holdout)

    return once


@pytest.fixture(scope="module")
def signed(tables, tmp_path_factory):
    """A saved model for the table with a signature and an input example, and the table as a dataset."""
    import pandas as pd
    from sklearn.linear_model import LogisticRegression

    folder = tmp_path_factory.mktemp("signed") / "model"
    rows = pd.read_parquet(tables / "flights.parquet").astype({"night": "float64"})
    late = rows.pop("late")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.sklearn

        model = LogisticRegression().fit(rows, late)
        mlflow.sklearn.save_model(
            model, str(folder), pip_requirements=["scikit-learn"], serialization_format="cloudpickle",
            signature=mlflow.models.infer_signature(rows, model.predict(rows)), input_example=rows.head(5),
        )  # fmt: skip
    return folder, dsl.Dataset(name="rows", uri=str(tables / "flights.parquet"))


def test_the_model_goes_to_mlflow_with_all_that_is_known_about_it(registered, workshop, models):
    uri = registered(rate=0.1)
    assert uri == "models:/delay/1"
    client = workshop.registry.client
    version = workshop.registry.version("models:/delay@challenger")
    assert (version.uri, version.tags["headrace.run"], version.tags["data_version"]) == (uri, "run1", "d1")
    run = client.get_run(version.run_id)
    assert run.info.run_name == "retrain run1"
    assert run.data.params == {"trees": "60", "rate": "0.1", "data_version": "d1"}
    assert run.data.metrics == {"auc": 0.75, "rows": 40.0}
    assert run.data.tags["mlflow.source.git.commit"] == "c0ffee"
    assert run.data.tags["headrace.reason"] == "new data"
    assert client.get_experiment(run.info.experiment_id).name == "delay"
    kept = workshop.registry.folder(uri)
    assert workshop.home.path in kept.parents
    assert (kept / "model.pkl").read_bytes() == (models / "good" / "model.pkl").read_bytes()


def test_a_task_that_is_done_again_makes_no_second_version(registered, workshop):
    assert registered() == registered() == "models:/delay/1"
    assert len(workshop.registry.client.search_model_versions("name = 'delay'")) == 1


def test_another_run_makes_another_version_and_it_is_the_challenger(registered, workshop, inside):
    registered()
    workshop.registry.promoted("models:/delay/1")
    inside.setenv("HEADRACE_RUN_ID", "run2")
    assert registered() == "models:/delay/2"
    assert workshop.registry.version("models:/delay@challenger").version == 2
    assert workshop.registry.champion("delay").version == 1


def test_a_faster_form_that_agrees_on_the_holdout_is_registered_with_the_model(registered, workshop, signed, capsys):
    kept = workshop.registry.folder(registered(*signed))
    assert "a faster form is kept: it agrees on 1045 rows" in capsys.readouterr().out
    assert load(kept).platform == "onnxruntime_onnx"
    assert load(kept, faster=False).platform == "sklearn_mlflow"


def test_one_that_does_not_agree_is_told_and_the_original_serves(
    registered, workshop, signed, monkeypatch, tmp_path
):  # fmt: skip
    differ = conversion._Comparison._differ
    monkeypatch.setattr(conversion._Comparison, "_differ", lambda self, *given: ~differ(self, *given))
    kept = workshop.registry.folder(registered(*signed))
    # A server that could make one itself, on less evidence, does not.
    model = load(kept, forms=tmp_path / "forms")
    assert model.platform == "sklearn_mlflow"
    assert "it does not agree: " in model.parameters["why"]
    assert not (tmp_path / "forms").exists()


def test_of_many_rows_a_sample_is_compared(registered, signed, monkeypatch, capsys):
    monkeypatch.setattr(conversion, "MOST_ROWS", 30)
    registered(*signed)
    assert "it agrees on 1035 rows" in capsys.readouterr().out


def test_rows_that_lack_a_column_of_the_model_are_told(registered, signed, tables):
    with pytest.raises(HeadraceError, match="lacks the model's column distance") as caught:
        registered(signed[0], dsl.Dataset(name="rows", uri=str(tables / "narrow.parquet")))
    assert "narrow.parquet" in str(caught.value)
