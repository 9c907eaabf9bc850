"""Experiments through the unmodified `kfp.Client`."""

import datetime
import json

import pytest


@pytest.fixture
def experiment(client, name):
    return client.create_experiment(name, description="a try")


def test_the_default_experiment_is_there_and_stays(client, refused):
    default = client.get_experiment(experiment_name="Default")
    assert (default.experiment_id, default.storage_state) == ("default", "AVAILABLE")
    told = refused(400, client.delete_experiment, default.experiment_id)
    assert "The default experiment cannot be deleted" in told["message"]


def test_an_experiment_is_made_once_and_found_by_name_and_id(client, experiment, name):
    assert (experiment.display_name, experiment.description) == (name, "a try")
    assert experiment.last_run_created_at == datetime.datetime.fromtimestamp(0, datetime.UTC)
    assert client.create_experiment(name).experiment_id == experiment.experiment_id
    assert client.get_experiment(experiment_id=experiment.experiment_id) == experiment
    assert client.get_experiment(experiment_name=name) == experiment


def test_names_are_unique_and_not_empty(served, experiment, name):
    path = "/apis/v2beta1/experiments"
    for body, status, code in (
        ({"display_name": name}, 409, 6),
        ({"displayName": name}, 409, 6),
        ({"display_name": " "}, 400, 3),
        ({}, 400, 3),
        ({"display_name": 5}, 400, 3),
        ({"display_name": "x" * 129}, 400, 3),
    ):
        answer = served.send("POST", path, json=body)
        assert (answer[0], answer[1]["code"]) == (status, code), body


def test_archiving_takes_the_runs_along_and_disables_what_would_start_more(client, experiment, packages, name, refused):
    run = client.run_pipeline(experiment.experiment_id, name, str(packages("total")))
    recurring = client.create_recurring_run(
        experiment.experiment_id, name, interval_second=60, pipeline_package_path=str(packages("total"))
    )
    assert client.get_experiment(experiment.experiment_id).last_run_created_at == run.created_at
    assert client.archive_experiment(experiment.experiment_id) == {}
    assert client.get_experiment(experiment.experiment_id).storage_state == "ARCHIVED"
    assert client.get_run(run.run_id).storage_state == "ARCHIVED"
    assert client.get_recurring_run(recurring.recurring_run_id).status == "DISABLED"
    told = refused(400, client.unarchive_run, run.run_id)
    assert "must be un-archived first" in told["message"]
    told = refused(400, client.enable_recurring_run, recurring.recurring_run_id)
    assert f"its experiment {experiment.experiment_id} is archived" in told["message"]

    assert client.unarchive_experiment(experiment.experiment_id) == {}
    assert client.get_experiment(experiment.experiment_id).storage_state == "AVAILABLE"
    assert client.get_run(run.run_id).storage_state == "ARCHIVED"
    assert client.unarchive_run(run.run_id) == {}
    assert client.get_run(run.run_id).storage_state == "AVAILABLE"


def test_a_deleted_experiment_leaves_its_runs(client, experiment, packages, name, refused):
    run = client.run_pipeline(experiment.experiment_id, name, str(packages("total")))
    recurring = client.create_recurring_run(
        experiment.experiment_id, name, interval_second=60, pipeline_package_path=str(packages("total"))
    )
    assert client.delete_experiment(experiment.experiment_id) == {}
    refused(404, client.get_experiment, experiment.experiment_id)
    refused(404, client.list_runs, experiment_id=experiment.experiment_id)
    assert client.get_run(run.run_id).experiment_id == experiment.experiment_id
    assert client.get_recurring_run(recurring.recurring_run_id).status == "DISABLED"
    told = refused(400, client.enable_recurring_run, recurring.recurring_run_id)
    assert "is deleted" in told["message"]


def test_what_is_not_there_is_not_found(client, refused):
    for call in (
        client.get_experiment, client.archive_experiment, client.unarchive_experiment, client.delete_experiment
    ):  # fmt: skip
        assert refused(404, call, "nowhere")["message"].startswith("Experiment nowhere not found")


def test_experiments_are_listed_in_pages(client, name):
    names = [f"{name} {letter}" for letter in "cab"]
    for each in names:
        client.create_experiment(each)
    wanted = json.dumps({"predicates": [{"operation": "IS_SUBSTRING", "key": "display_name", "stringValue": name}]})
    first = client.list_experiments(page_size=2, sort_by="display_name desc", filter=wanted)
    assert [e.display_name for e in first.experiments] == [f"{name} c", f"{name} b"]
    assert first.total_size == 3
    rest = client.list_experiments(page_size=2, page_token=first.next_page_token)
    assert [e.display_name for e in rest.experiments] == [f"{name} a"]
    assert rest.next_page_token == ""
    by_run = client.list_experiments(sort_by="last_run_created_at", filter=wanted)
    assert len(by_run.experiments) == 3
