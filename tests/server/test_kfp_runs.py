"""Runs through the unmodified `kfp.Client`; a real engine drives them when a test says so."""

import datetime
import importlib.util
import json
import warnings

import pytest
import yaml

BASE = "/apis/v2beta1/runs"


@pytest.fixture
def version(client, packages, name):
    """An uploaded pipeline: its id and that of its version."""
    pipeline = client.upload_pipeline(str(packages("total")), name)
    (version,) = client.list_pipeline_versions(pipeline.pipeline_id).pipeline_versions
    return pipeline.pipeline_id, version.pipeline_version_id


def _run(client, packages, name, function="total", **more):
    return client.create_run_from_pipeline_package(str(packages(function)), run_name=name, **more).run_info


def test_a_function_is_run_and_waited_for(client, served, packages, name):
    spec = importlib.util.spec_from_file_location("pipelines", packages("total").parent / "pipelines.py")
    module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        # The SDK announces its next base image.
        warnings.simplefilter("ignore", FutureWarning)
        spec.loader.exec_module(module)
    result = client.create_run_from_pipeline_func(
        module.total, arguments={"a": 40}, run_name=name, experiment_name="by function", enable_caching=False
    )
    served.drive(result.run_id)
    run = result.wait_for_run_completion(timeout=10)
    assert (run.state, run.display_name, run.error) == ("SUCCEEDED", name, None)
    assert run.runtime_config.parameters == {"a": 40, "b": 2}
    assert run.experiment_id == client.get_experiment(experiment_name="by function").experiment_id
    assert run.pipeline_spec["root"]["dag"]["tasks"]["add"]["cachingOptions"] == {}
    status, told = served.send("GET", f"{BASE}/{run.run_id}")
    assert (status, told["outputs"]) == (200, {"Output": 42})


def test_a_run_tells_what_was_asked_and_where_it_stands(client, served, packages, name):
    asked = datetime.datetime.fromtimestamp(served.platform.clock.now(), datetime.UTC)
    run = client.run_pipeline("", name, str(packages("total")), pipeline_root="/elsewhere", service_account="robot")
    assert (run.state, run.storage_state, run.experiment_id) == ("PENDING", "AVAILABLE", "default")
    assert (run.created_at, run.scheduled_at, run.finished_at) == (asked, asked, None)
    assert (run.service_account, run.runtime_config.pipeline_root) == ("robot", "/elsewhere")
    assert run.pipeline_spec == yaml.safe_load(packages("total").read_text())
    assert [(s.state, s.update_time) for s in run.state_history] == [("PENDING", asked)]
    assert [(t.task_id, t.state) for t in run.run_details.task_details] == [("root", "PENDING")]


def test_artifacts_lie_below_the_pipeline_root(client, served, packages, name, tmp_path, refused):
    run = client.run_pipeline(
        "", name, str(packages("tree")), pipeline_root=str(tmp_path / "root"), enable_caching=False
    )  # fmt: skip
    served.drive(run.run_id)
    assert client.get_run(run.run_id).state == "SUCCEEDED"
    assert [file.read_text() for file in (tmp_path / "root" / run.run_id).rglob("model")] == ["1"]
    for elsewhere in ("gs://bucket/root", "relative/root"):
        told = refused(400, client.run_pipeline, "", name, str(packages("tree")), pipeline_root=elsewhere)
        assert (told["code"], f"artifacts cannot go to {elsewhere}" in told["message"]) == (9, True)


def test_a_version_is_run_by_reference(client, served, version, name):
    pipeline_id, version_id = version
    run = client.run_pipeline("", name, pipeline_id=pipeline_id, version_id=version_id, params={"a": 2})
    reference = run.pipeline_version_reference
    assert (reference.pipeline_id, reference.pipeline_version_id) == version
    assert run.pipeline_spec is None
    served.drive(run.run_id)
    assert client.get_run(run.run_id).state == "SUCCEEDED"
    client.delete_pipeline_version(pipeline_id, version_id)
    assert client.get_run(run.run_id).pipeline_version_reference == reference


def test_a_pipeline_alone_means_its_newest_version(served, client, version, packages, name):
    pipeline_id, _ = version
    served.platform.clock.time += 1
    newest = client.upload_pipeline_version(str(packages("tree")), "newest", pipeline_id)
    body = {"display_name": name, "pipeline_version_reference": {"pipeline_id": pipeline_id}}
    status, run = served.send("POST", BASE, json=body)
    assert (status, run["pipeline_version_reference"]["pipeline_version_id"]) == (200, newest.pipeline_version_id)


def test_wrong_references_are_refused(served, client, version, packages, name, refused):
    pipeline_id, version_id = version
    refused(404, client.run_pipeline, "", name, pipeline_id=pipeline_id, version_id="nowhere")
    refused(404, client.run_pipeline, "nowhere", name, str(packages("total")))
    told = refused(400, client.run_pipeline, "", name, pipeline_id="another", version_id=version_id)
    assert f"belongs to pipeline {pipeline_id} (not another)" in told["message"]
    both = {"pipeline_id": pipeline_id, "pipeline_version_id": version_id}
    for body in (
        {},
        {"pipeline_version_reference": {}},
        {"pipeline_spec": {"a": 1}, "pipeline_version_reference": both},
        {"pipeline_spec": "text"},
        {"pipeline_spec": {"pipeline_spec": 5}},
        {"pipeline_spec": {"a": 1}},
        {"pipeline_version_reference": both, "runtime_config": 5},
        {"pipeline_version_reference": both, "runtime_config": {"parameters": [1]}},
        {"pipeline_version_reference": both, "plugins_input": {"mlflow": 5}},
        {"pipeline_version_reference": both, "plugins_input": {"mlflow": {"experiment": "x"}}},
        {"pipeline_version_reference": both, "plugins_input": {"mlflow": {"disabled": "yes"}}},
    ):
        assert served.send("POST", BASE, json={"display_name": name, **body})[0] == 400, body
    assert served.send("POST", BASE, json={"display_name": " ", "pipeline_version_reference": both})[0] == 400


GOOD = {"whole": 1, "real": 2, "text": "t", "truth": True, "items": [1, 2.0], "fields": {"n": 3}}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"whole": "1"}, "input parameter whole requires type double or integer"),
        ({"whole": 1.5}, "whole must be of type int"),
        ({"whole": True}, "whole requires type double or integer"),
        ({"whole": None}, "whole requires type double or integer"),
        ({"real": "2"}, "real requires type double or integer"),
        ({"text": 5}, "text requires type string"),
        ({"truth": "true"}, "truth requires type bool"),
        ({"truth": 1}, "truth requires type bool"),
        ({"items": "[1]"}, "items requires type list"),
        ({"items": {}}, "items requires type list"),
        ({"fields": []}, "fields requires type struct"),
        ({"more": 1}, "parameter(s) provided are not required by pipeline: more"),
        ({"text": ...}, "parameter text is not optional, yet has neither default value nor user provided value"),
    ],
)
def test_parameters_are_of_exactly_the_declared_types(client, served, packages, name, refused, changed, message):
    given = {key: value for key, value in {**GOOD, **changed}.items() if value is not ...}
    told = refused(400, client.run_pipeline, "", name, str(packages("every_kind")), params=given)
    assert (told["code"], message in told["message"]) == (3, True), told["message"]


def test_numbers_keep_their_kind_on_the_way_through(client, served, packages, name):
    run = _run(client, packages, name, "every_kind", arguments=GOOD)
    served.drive(run.run_id)
    _, told = served.send("GET", f"{BASE}/{run.run_id}")
    assert (told["state"], told["outputs"]) == ("SUCCEEDED", {"Output": 1e-05})
    parameters = told["runtime_config"]["parameters"]
    assert json.dumps({key: parameters[key] for key in GOOD}) == json.dumps({**GOOD, "real": 2.0, "items": [1, 2]})


def test_what_cannot_run_here_is_refused_before_anything_is_written(client, packages, name, refused):
    before = client.list_runs().total_size
    told = refused(400, client.run_pipeline, "", name, str(packages("huge")))
    assert (told["code"], "component add" in told["message"]) == (9, True), told
    assert client.list_runs().total_size == before


def test_task_details_are_a_tree_with_artifacts_and_history(client, served, packages, name):
    run_id = _run(client, packages, name, "tree", enable_caching=False).run_id
    served.drive(run_id)
    run = client.get_run(run_id)
    details = {task.task_id: task for task in run.run_details.task_details}
    assert set(details) == {
        "root", "for-loop-2", "for-loop-2/0", "for-loop-2/0/add", "for-loop-2/1", "for-loop-2/1/add", "keep", "read",
    }  # fmt: skip
    order = [task.task_id for task in run.run_details.task_details]
    assert all(d.parent_task_id is None or order.index(d.parent_task_id) < order.index(t) for t, d in details.items())
    children = {t: [c.task_id for c in d.child_tasks or []] for t, d in details.items()}
    assert sorted(children["root"]) == ["for-loop-2", "keep", "read"]
    assert sorted(children["for-loop-2"]) == ["for-loop-2/0", "for-loop-2/1"]
    assert {d.parent_task_id for d in details.values()} == {None, "root", "for-loop-2", "for-loop-2/0", "for-loop-2/1"}
    assert {d.state for d in details.values()} == {"SUCCEEDED"}
    assert all(d.create_time and d.start_time and d.end_time and d.run_id == run_id for d in details.values())

    (number,) = details["keep"].outputs["model"].artifact_ids
    assert number.isdigit()
    assert details["read"].inputs["model"].artifact_ids == [number]
    assert details["keep"].executor_detail.main_job == "keep/1"
    assert [s.state for s in details["keep"].state_history] == ["RUNNING", "SUCCEEDED"]
    assert [s.state for s in run.state_history] == ["PENDING", "RUNNING", "SUCCEEDED"]
    times = [s.update_time for s in run.state_history]
    assert times == sorted(times)


def test_a_failed_run_says_why_and_is_retried_where_it_failed(client, served, packages, name, tmp_path, refused):
    file = tmp_path / "wanted"
    run_id = _run(client, packages, name, "needy", arguments={"file": str(file)}).run_id
    served.drive(run_id)
    run = client.wait_for_run_completion(run_id, timeout=10)
    task = next(t for t in run.run_details.task_details if t.task_id == "needs")
    assert (run.state, task.state, task.executor_detail.failed_main_jobs) == ("FAILED", "FAILED", ["needs/1"])
    assert "FileNotFoundError" in run.error.message
    assert "FileNotFoundError" in task.error.message
    assert "FileNotFoundError" in run.state_history[-1].error.message

    file.write_text("here")
    assert client.runs.run_service_retry_run(run_id=run_id) == {}
    assert client.get_run(run_id).state == "PENDING"
    served.drive(run_id)
    run = client.get_run(run_id)
    assert (run.state, run.error) == ("SUCCEEDED", None)
    assert [s.state for s in run.state_history] == ["PENDING", "RUNNING", "FAILED", "PENDING", "RUNNING", "SUCCEEDED"]
    assert "SUCCEEDED" in refused(400, client.runs.run_service_retry_run, run_id=run_id)["message"]


def test_a_failed_run_goes_on_in_a_new_one_with_other_parameters(client, served, packages, name, tmp_path):
    (tmp_path / "there").write_text("here")
    experiment = client.create_experiment(name).experiment_id
    old = _run(client, packages, name, "needy", arguments={"file": "/nowhere"}, experiment_id=experiment).run_id
    served.drive(old)
    path = f"/apis/headrace/v1/runs/{old}:rerun"
    status, made = served.send("POST", path, json={"parameters": {"file": str(tmp_path / "there")}, "actor": "ann"})
    assert (status, made["actor"], made["experiment_id"], made["reason"]) == (
        200, "user:ann", experiment, f"rerun of {old}",
    )  # fmt: skip
    served.drive(made["run_id"])
    assert client.get_run(made["run_id"]).state == "SUCCEEDED"
    for body, answer in (
        ({"from": ["nothing"]}, 404), ({"from": "needs"}, 400), ({"parameters": {"other": 1}}, 400),
        ({"parameters": 5}, 400),
    ):  # fmt: skip
        assert served.send("POST", path, json=body)[0] == answer, body
    assert served.send("POST", "/apis/headrace/v1/runs/nowhere:rerun", json={})[0] == 404


def test_a_terminated_run_is_canceled_and_the_client_does_not_call_that_an_end(client, served, packages, name, refused):
    run_id = _run(client, packages, name).run_id
    assert client.terminate_run(run_id) == {}
    assert client.get_run(run_id).state == "CANCELING"
    served.drive(run_id)
    run = client.get_run(run_id)
    assert (run.state, run.finished_at is not None, run.error) == ("CANCELED", True, None)
    assert [s.state for s in run.state_history] == ["PENDING", "CANCELING", "CANCELED"]
    assert "CANCELED already" in refused(400, client.terminate_run, run_id)["message"]
    with pytest.raises(TimeoutError):
        client.wait_for_run_completion(run_id, timeout=0)
    assert client.runs.run_service_retry_run(run_id=run_id) == {}


def test_a_run_that_waits_for_a_person_is_paused(client, served, packages, name):
    run_id = _run(client, packages, name, "asks").run_id
    served.drive(run_id)
    run = client.get_run(run_id)
    assert (run.state, run.finished_at) == ("PAUSED", None)
    task = next(task for task in run.run_details.task_details if task.task_id == "ask")
    assert (task.state, task.state_history[-1].state) == ("PAUSED", "PAUSED")
    (gate,) = [
        gate for gate in served.send("GET", "/apis/headrace/v1/gates?state=waiting")[1] if run_id in gate["subject"]
    ]
    assert served.send("POST", f"/apis/headrace/v1/gates/{gate['id']}:approve", json={"actor": "ann"})[0] == 200
    served.drive(run_id)
    run = client.get_run(run_id)
    assert [s.state for s in run.state_history] == ["PENDING", "RUNNING", "PAUSED", "RUNNING", "SUCCEEDED"]


def test_runs_are_archived_and_brought_back(client, packages, name):
    run_id = _run(client, packages, name).run_id
    only = json.dumps(
        {"predicates": [
            {"operation": 1, "key": "storage_state", "stringValue": "ARCHIVED"},
            {"operation": 1, "key": "display_name", "stringValue": name},
        ]}
    )  # fmt: skip
    assert client.list_runs(filter=only).runs == []
    for _ in range(2):
        assert client.archive_run(run_id) == {}
    assert [run.run_id for run in client.list_runs(filter=only).runs] == [run_id]
    for _ in range(2):
        assert client.unarchive_run(run_id) == {}
    assert client.get_run(run_id).storage_state == "AVAILABLE"


def test_a_run_that_goes_on_can_be_deleted_at_once(client, served, packages, name, refused):
    """As KFP's own client tests clean up: terminate, archive, delete."""
    run_id = _run(client, packages, name).run_id
    client.terminate_run(run_id)
    client.archive_run(run_id)
    assert client.delete_run(run_id) == {}
    refused(404, client.get_run, run_id)
    refused(404, client.delete_run, run_id)
    assert run_id not in [run.run_id for run in client.list_runs(page_size=200).runs]
    assert served.database.one("SELECT state FROM run WHERE id = ?", (run_id,))["state"] == "CANCELING"
    served.drive(run_id)
    served.platform.deleted_runs().one_pass()
    assert served.database.one("SELECT * FROM run WHERE id = ?", (run_id,)) is None


def test_what_is_not_there_is_not_found(client, packages, name, refused):
    run_id = _run(client, packages, name).run_id
    for call in (client.get_run, client.archive_run, client.unarchive_run, client.terminate_run, client.delete_run):
        assert refused(404, call, "nowhere")["code"] == 5
        # The beginning of an id is enough at a terminal, and too little for a program.
        refused(404, call, run_id[:6])


def test_runs_are_listed_in_pages_by_experiment(client, served, packages, name, refused):
    experiment = client.create_experiment(name).experiment_id
    made = []
    for number in range(5):
        served.platform.clock.time += 1
        made.append(_run(client, packages, f"{name} {number}", experiment_id=experiment).run_id)
    assert [r.run_id for r in client.list_runs(experiment_id=experiment).runs] == made
    found, token = [], ""
    while True:
        page = client.list_runs(experiment_id=experiment, page_size=2, sort_by="created_at desc", page_token=token)
        assert page.total_size == 5
        found += [run.run_id for run in page.runs]
        token = page.next_page_token
        if not token:
            break
    assert found == made[::-1]
    second = json.dumps({"predicates": [{"operation": "EQUALS", "key": "name", "string_value": f"{name} 1"}]})
    assert [r.run_id for r in client.list_runs(experiment_id=experiment, filter=second).runs] == [made[1]]
    after = json.dumps(
        {"predicates": [
            {"operation": "GREATER_THAN", "key": "created_at",
             "timestamp_value": client.get_run(made[2]).created_at.isoformat()},
        ]}
    )  # fmt: skip
    assert [r.run_id for r in client.list_runs(experiment_id=experiment, filter=after).runs] == made[3:]
    assert client.list_runs(namespace="any", page_size=1).total_size >= 5
    refused(404, client.list_runs, experiment_id="nowhere")
    for wrong in (
        {"page_size": -1}, {"page_token": "x"}, {"sort_by": "nothing"}, {"sort_by": "created_at up"}, {"filter": "{"},
        {"page_size": 10**30},
    ):  # fmt: skip
        assert refused(400, client.list_runs, **wrong)["code"] == 3


def test_times_in_parameters_are_filled_in(client, served, packages, name):
    arguments = {**GOOD, "text": "[[RunUUID]] at [[CurrentTime]], [[CurrentTime.2006-01-02]], [[ScheduledTime]]"}
    run = _run(client, packages, name, "every_kind", arguments=arguments)
    now = datetime.datetime.fromtimestamp(served.platform.clock.now(), datetime.UTC)
    text = run.runtime_config.parameters["text"]
    assert text == f"{run.run_id} at {now:%Y%m%d%H%M%S}, {now:%Y-%m-%d}, [[ScheduledTime]]"
