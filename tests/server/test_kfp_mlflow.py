"""Runs that ask for MLflow: a parent run, nested ones, and MLflow code in components that needs no setup."""

import json
import warnings

import kfp_server_api
import pytest
from mlflow.exceptions import MlflowException

from headrace.project.compile import compile_pipeline

PIPELINES = """
from kfp import dsl

@dsl.component
def train(rate: float, name: str, metrics: dsl.Output[dsl.Metrics]) -> str:
    import mlflow
    mlflow.log_metric("seen", 0.5)
    metrics.log_metric("auc", 0.75)
    metrics.metadata["note"] = "no number"
    return mlflow.active_run().info.run_id

@dsl.component
def square(number: int) -> int:
    return number * number

@dsl.component
def needs(file: str) -> str:
    with open(file) as stream:
        return stream.read()

@dsl.pipeline(name="tracked")
def tracked() -> str:
    with dsl.ParallelFor([2, 3]) as item:
        square(number=item)
    return train(rate=1e-05, name="first").outputs["Output"]

@dsl.pipeline(name="needy")
def needy(file: str):
    square(number=4)
    needs(file=file)
"""


@pytest.fixture(scope="module")
def mlflow(served):
    """MLflow's own client."""
    with warnings.catch_warnings():
        # MLflow and its libraries warn of each other while they are imported and make the tables.
        warnings.simplefilter("ignore")
        client = served.platform.registry.client
    served.platform.mlflow_runs.pages = "http://127.0.0.1:8082"
    return client


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    """The compiled pipelines as the API takes them."""
    import yaml

    source = tmp_path_factory.mktemp("tracked") / "tracked.py"
    source.write_text(PIPELINES)
    return {name: yaml.safe_load(compile_pipeline(source, name)) for name in ("tracked", "needy")}


@pytest.fixture
def start(client, documents, name):
    def run(function, plugin, **parameters):
        return client.runs.run_service_create_run(
            run=kfp_server_api.V2beta1Run(
                display_name=name, pipeline_spec=documents[function], plugins_input={"mlflow": plugin},
                runtime_config=kfp_server_api.V2beta1RuntimeConfig(parameters=parameters),
            )
        )  # fmt: skip

    return run


def _entries(run):
    output = run.plugins_output["mlflow"]
    assert (output.state, output.state_message) == ("PLUGIN_SUCCEEDED", "")
    return {name: entry.value for name, entry in output.entries.items()}


def _nested(mlflow, experiment_id, parent):
    """The runs below a parent by their names."""
    found = mlflow.search_runs([experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'")
    return {run.info.run_name: run for run in found}


def test_a_parent_run_with_nested_runs_for_tasks_loops_and_iterations(served, client, mlflow, start, name):
    run = start("tracked", {"experiment_name": name})
    entries = _entries(run)
    experiment, parent = entries["experiment_id"], entries["root_run_id"]
    assert (entries["experiment_name"], mlflow.get_experiment(experiment).name) == (name, name)
    assert entries["run_url"] == f"http://127.0.0.1:8082/#/experiments/{experiment}/runs/{parent}"
    assert run.plugins_output["mlflow"].entries["run_url"].render_type == "URL"
    assert mlflow.get_run(parent).info.status == "RUNNING"

    served.drive(run.run_id)
    served.platform.mlflow_runs.one_pass()
    root = mlflow.get_run(parent)
    assert (root.info.status, root.info.run_name, root.data.tags["kfp.pipeline_run_id"]) == (
        "FINISHED", name, run.run_id,
    )  # fmt: skip
    nested = _nested(mlflow, experiment, parent)
    assert set(nested) == {"train", "for-loop-2"}
    train = nested["train"]
    assert train.data.params == {"rate": "1e-05", "name": '"first"'}
    assert train.data.metrics == {"seen": 0.5, "auc": 0.75}
    _, told = served.send("GET", f"/apis/v2beta1/runs/{run.run_id}")
    assert told["outputs"] == {"Output": train.info.run_id}, "MLflow code in the component logged to the task's run"
    iterations = _nested(mlflow, experiment, nested["for-loop-2"].info.run_id)
    assert {key: one.data.params for key, one in iterations.items()} == {
        "0/square": {"number": "2"}, "1/square": {"number": "3"},
    }  # fmt: skip
    everything = [*nested.values(), *iterations.values()]
    assert {one.info.status for one in everything} == {"FINISHED"}

    again = start("tracked", {"experiment_name": name})
    served.drive(again.run_id)
    served.platform.mlflow_runs.one_pass()
    cached = _nested(mlflow, experiment, _entries(again)["root_run_id"])
    assert cached["train"].data.metrics == {"auc": 0.75}, "what comes from the cache is tracked, too"
    assert cached["train"].info.status == "FINISHED"


def test_a_retried_run_goes_on_in_the_same_runs(served, client, mlflow, start, name, tmp_path):
    run = start("needy", {"experiment_name": name}, file=str(tmp_path / "file"))
    entries = _entries(run)
    served.drive(run.run_id)
    served.platform.mlflow_runs.one_pass()
    first = _nested(mlflow, entries["experiment_id"], entries["root_run_id"])
    assert {key: one.info.status for key, one in first.items()} == {"square": "FINISHED", "needs": "FAILED"}
    assert mlflow.get_run(entries["root_run_id"]).info.status == "FAILED"

    (tmp_path / "file").write_text("here")
    client.runs.run_service_retry_run(run_id=run.run_id)
    served.platform.mlflow_runs.one_pass()
    assert mlflow.get_run(entries["root_run_id"]).info.status == "RUNNING"
    assert mlflow.get_run(first["needs"].info.run_id).info.status == "RUNNING"
    served.drive(run.run_id)
    served.platform.mlflow_runs.one_pass()
    second = _nested(mlflow, entries["experiment_id"], entries["root_run_id"])
    assert {key: one.info.run_id for key, one in second.items()} == {k: one.info.run_id for k, one in first.items()}
    assert {one.info.status for one in second.values()} == {"FINISHED"}
    assert mlflow.get_run(entries["root_run_id"]).info.status == "FINISHED"


def test_a_run_that_goes_on_from_another_is_tracked_anew_with_what_it_keeps(
    served, client, mlflow, start, name, tmp_path
):
    old = start("needy", {"experiment_name": name}, file="/nowhere")
    served.drive(old.run_id)
    (tmp_path / "file").write_text("here")
    body = {"parameters": {"file": str(tmp_path / "file")}}
    _, made = served.send("POST", f"/apis/headrace/v1/runs/{old.run_id}:rerun", json=body)
    served.drive(made["run_id"])
    served.platform.mlflow_runs.one_pass()
    run = client.get_run(made["run_id"])
    entries = _entries(run)
    assert entries["root_run_id"] != _entries(old)["root_run_id"]
    nested = _nested(mlflow, entries["experiment_id"], entries["root_run_id"])
    assert {key: one.info.status for key, one in nested.items()} == {"square": "FINISHED", "needs": "FINISHED"}
    kept = next(task for task in run.run_details.task_details if task.task_id == "square")
    assert [status.state for status in kept.state_history] == ["SUCCEEDED"]


def test_a_canceled_run_is_killed_there(served, client, mlflow, start, name):
    run = start("tracked", {"experiment_name": name})
    client.terminate_run(run.run_id)
    served.drive(run.run_id)
    served.platform.mlflow_runs.one_pass()
    assert mlflow.get_run(_entries(run)["root_run_id"]).info.status == "KILLED"


def test_the_experiment_may_be_named_by_its_id_and_is_default_else(mlflow, start, name):
    made = mlflow.create_experiment(name)
    assert _entries(start("tracked", {"experiment_id": made, "experiment_name": "another"}))["experiment_name"] == name
    assert _entries(start("tracked", {}))["experiment_name"] == "Default"


def test_a_run_that_does_not_ask_or_does_not_want_is_not_tracked(served, client, mlflow, start, packages, name):
    silent = client.create_run_from_pipeline_package(str(packages("total")), run_name=name).run_id
    unwilling = start("tracked", {"disabled": True}).run_id
    for run_id in (silent, unwilling):
        assert served.platform.mlflow_runs.environment(run_id, "train") == {}
        assert client.get_run(run_id).plugins_output == {}


def test_what_mlflow_does_not_take_does_not_stop_the_run(served, client, mlflow, start, name):
    run = start("needy", {"experiment_id": "987654321"}, file=__file__)
    output = run.plugins_output["mlflow"]
    assert (output.state, output.entries["experiment_id"].value) == ("PLUGIN_FAILED", "987654321")
    assert "No Experiment with id=987654321 exists" in output.state_message
    served.drive(run.run_id)
    served.platform.mlflow_runs.one_pass()
    assert client.get_run(run.run_id).state == "SUCCEEDED"


def test_a_run_that_was_deleted_in_mlflow_holds_nobody_up(served, client, mlflow, start, name):
    run = start("needy", {"experiment_name": name}, file=__file__)
    parent = _entries(run)["root_run_id"]
    mlflow.delete_run(parent)
    served.drive(run.run_id)
    served.platform.mlflow_runs.one_pass()
    assert client.get_run(run.run_id).state == "SUCCEEDED"
    assert client.get_run(run.run_id).plugins_output["mlflow"].state == "PLUGIN_FAILED"


def test_a_pass_that_mlflow_cuts_short_is_made_up_for(served, client, mlflow, start, name, monkeypatch):
    run = start("needy", {"experiment_name": name}, file=__file__)
    parent = _entries(run)["root_run_id"]
    served.drive(run.run_id)
    with monkeypatch.context() as patch:
        patch.setattr(mlflow, "log_batch", _unavailable)
        for _ in range(2):
            with pytest.raises(Exception, match="MLflow: the store is away"):
                served.platform.mlflow_runs.one_pass()
    assert mlflow.get_run(parent).info.status == "RUNNING"
    served.platform.mlflow_runs.one_pass()
    assert mlflow.get_run(parent).info.status == "FINISHED"


def _unavailable(*_, **__):
    raise MlflowException("the store is away")


def test_a_recurring_run_hands_its_input_on(served, client, mlflow, documents, name):
    body = {
        "display_name": name, "mode": "ENABLE", "max_concurrency": 1, "pipeline_spec": documents["tracked"],
        "trigger": {"periodic_schedule": {"interval_second": 60}},
        "plugins_input": {"mlflow": {"experiment_name": name}},
    }  # fmt: skip
    status, made = served.send("POST", "/apis/v2beta1/recurringruns", json=body)
    assert (status, made["plugins_input"]) == (200, {"mlflow": {"experiment_name": name}})
    served.platform.clock.time += 60
    (run_id,) = served.platform.recurring().start_due()
    served.platform.mlflow_runs.one_pass()
    assert _entries(client.get_run(run_id))["experiment_name"] == name


def test_a_deleted_run_is_forgotten_here_and_kept_there(served, client, mlflow, start, name):
    run = start("tracked", {"experiment_name": name})
    client.delete_run(run.run_id)
    served.drive(run.run_id)
    served.platform.mlflow_runs.one_pass()
    served.platform.deleted_runs().one_pass()
    served.platform.mlflow_runs.one_pass()
    rows = served.database.query("SELECT * FROM mlflow_run WHERE run_id = ?", (run.run_id,))
    assert rows == []
    assert mlflow.get_run(_entries(run)["root_run_id"]).info.status == "KILLED"


def test_the_input_is_checked(served, documents, name):
    for plugin in ({"experiment": "x"}, {"experiment_name": 5}, "text"):
        body = {"display_name": name, "pipeline_spec": documents["tracked"], "plugins_input": {"mlflow": plugin}}
        status, told = served.send("POST", "/apis/v2beta1/runs", json=body)
        assert (status, "plugins_input.mlflow" in told["message"]) == (400, True), json.dumps(told)
