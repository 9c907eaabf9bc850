import pytest
from kfp import dsl

from headrace.components import register


@pytest.fixture
def registered(inside, models):
    """Registers the good model as the task would; its address."""

    def once(**metadata):
        metrics = dsl.Metrics(name="metrics", uri="/none", metadata={"auc": 0.75, "rows": 40, "note": "not a number"})
        model = dsl.Model(name="model", uri=str(models / "good"), metadata={"trees": 60, **metadata})
        return register.python_func(model=model, metrics=metrics, name="delay", data_version="d1")

    return once


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
