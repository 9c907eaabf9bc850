"""Recurring runs through the unmodified `kfp.Client`; the schedule is looked at when a test says so."""

import datetime
import json

import pytest

from headrace.clock import rfc3339

BASE = "/apis/v2beta1/recurringruns"


def _make(client, packages, name, function="total", **more):
    schedule = {} if "cron_expression" in more else {"interval_second": 60}
    return client.create_recurring_run(
        "", name, pipeline_package_path=str(packages(function)), **{**schedule, **more}
    )  # fmt: skip


@pytest.fixture(autouse=True)
def alone(client):
    """No recurring run of another test is due."""
    for recurring in client.list_recurring_runs(page_size=200).recurring_runs:
        client.disable_recurring_run(recurring.recurring_run_id)


def _time(served):
    return datetime.datetime.fromtimestamp(served.platform.clock.now(), datetime.UTC)


def test_a_recurring_run_tells_what_was_asked(client, served, packages, name):
    made = _make(
        client, packages, name, description="hourly", cron_expression="0 0 * * * *", max_concurrency=3,
        start_time="2026-11-01T00:00:00Z", end_time="2026-12-01T00:00:00+01:00", no_catchup=True, params={"a": 5},
    )  # fmt: skip
    assert (made.display_name, made.description, made.experiment_id) == (name, "hourly", "default")
    assert (made.mode, made.status, made.max_concurrency, made.no_catchup) == ("ENABLE", "ENABLED", "3", True)
    cron = made.trigger.cron_schedule
    assert (cron.cron, cron.start_time.isoformat()[:19]) == ("0 0 * * * *", "2026-11-01T00:00:00")
    assert cron.end_time == datetime.datetime(2026, 11, 30, 23, tzinfo=datetime.UTC)
    assert made.trigger.periodic_schedule is None
    assert made.runtime_config.parameters == {"a": 5}
    assert made.pipeline_spec["pipelineInfo"] == {"name": "sum"}
    assert made.created_at == made.updated_at == _time(served)
    assert client.get_recurring_run(made.recurring_run_id) == made


def test_runs_start_when_they_are_due_and_once(client, served, packages, name):
    made = _make(client, packages, name, params={"a": 5, "b": 6}, max_concurrency=10)
    trigger = served.platform.recurring()
    assert trigger.start_due() == []
    served.platform.clock.time += 59
    assert trigger.start_due() == []
    served.platform.clock.time += 1
    (run_id,) = trigger.start_due()
    assert trigger.start_due() == []
    run = client.get_run(run_id)
    assert (run.recurring_run_id, run.display_name, run.state) == (made.recurring_run_id, f"{name} 1", "PENDING")
    assert (run.scheduled_at, run.runtime_config.parameters) == (_time(served), {"a": 5, "b": 6})
    served.drive(run_id)
    assert client.get_run(run_id).state == "SUCCEEDED"
    only = json.dumps(
        {"predicates": [{"operation": 1, "key": "recurring_run_id", "stringValue": made.recurring_run_id}]}
    )  # fmt: skip
    assert [found.run_id for found in client.list_runs(filter=only).runs] == [run_id]


def test_missed_runs_are_caught_up_one_by_one(client, served, packages, name):
    _make(client, packages, name, max_concurrency=10)
    trigger = served.platform.recurring()
    start = served.platform.clock.time
    served.platform.clock.time += 185
    runs = [run_id for _ in range(5) for run_id in trigger.start_due()]
    scheduled = [client.get_run(run_id).scheduled_at.timestamp() - start for run_id in runs]
    assert scheduled == [60, 120, 180]


def test_without_catching_up_only_the_last_missed_run_starts(client, served, packages, name):
    _make(client, packages, name, max_concurrency=10, no_catchup=True)
    trigger = served.platform.recurring()
    start = served.platform.clock.time
    served.platform.clock.time += 185
    (run_id,) = [run_id for _ in range(3) for run_id in trigger.start_due()]
    assert client.get_run(run_id).scheduled_at.timestamp() - start == 180
    served.platform.clock.time = start + 240
    assert len(trigger.start_due()) == 1


def test_no_more_runs_than_allowed_go_on_at_once(client, served, packages, name):
    _make(client, packages, name, max_concurrency=2)
    trigger = served.platform.recurring()
    served.platform.clock.time += 600
    runs = [run_id for _ in range(4) for run_id in trigger.start_due()]
    assert len(runs) == 2
    served.drive(runs[0])
    assert len([run_id for _ in range(4) for run_id in trigger.start_due()]) == 1


def test_a_disabled_one_starts_nothing_until_it_is_enabled(client, served, packages, name):
    made = _make(client, packages, name, enabled=False)
    trigger = served.platform.recurring()
    assert (made.mode, made.status) == ("DISABLE", "DISABLED")
    served.platform.clock.time += 60
    assert trigger.start_due() == []
    for _ in range(2):
        assert client.enable_recurring_run(made.recurring_run_id) == {}
    enabled = client.get_recurring_run(made.recurring_run_id)
    assert (enabled.status, enabled.updated_at) == ("ENABLED", _time(served))
    assert len(trigger.start_due()) == 1
    assert client.disable_recurring_run(made.recurring_run_id) == {}
    served.platform.clock.time += 600
    assert trigger.start_due() == []


def test_a_schedule_ends(client, served, packages, name):
    end = _time(served) + datetime.timedelta(seconds=90)
    _make(client, packages, name, end_time=end.isoformat(), max_concurrency=10)
    trigger = served.platform.recurring()
    served.platform.clock.time += 1000
    assert len([run_id for _ in range(5) for run_id in trigger.start_due()]) == 1


def test_a_cron_schedule_starts_runs_at_its_moments(client, served, packages, name):
    _make(client, packages, name, cron_expression="30 */10 * ? * *", max_concurrency=10)
    trigger = served.platform.recurring()
    served.platform.clock.time += 3600
    runs = [run_id for _ in range(10) for run_id in trigger.start_due()]
    moments = [client.get_run(run_id).scheduled_at.astimezone(datetime.UTC) for run_id in runs]
    assert len(moments) == 6
    assert {(moment.minute % 10, moment.second) for moment in moments} == {(0, 30)}


def test_each_run_takes_the_newest_version_when_none_is_named(client, served, packages, name):
    pipeline = client.upload_pipeline(str(packages("total")), name)
    body = {
        "display_name": name, "mode": "ENABLE", "max_concurrency": "1",
        "trigger": {"periodic_schedule": {"interval_second": "60"}},
        "pipeline_version_reference": {"pipeline_id": pipeline.pipeline_id},
    }  # fmt: skip
    status, made = served.send("POST", BASE, json=body)
    assert (status, made["trigger"]) == (200, {"periodic_schedule": {"interval_second": "60"}})
    served.platform.clock.time += 60
    newest = client.upload_pipeline_version(str(packages("tree")), "newest", pipeline.pipeline_id)
    (run_id,) = served.platform.recurring().start_due()
    assert client.get_run(run_id).pipeline_version_reference.pipeline_version_id == newest.pipeline_version_id


def test_what_cannot_be_started_is_told_and_the_next_time_is_tried(client, served, packages, name):
    pipeline = client.upload_pipeline(str(packages("total")), name)
    (version,) = client.list_pipeline_versions(pipeline.pipeline_id).pipeline_versions
    made = client.create_recurring_run(
        "", name, interval_second=60, pipeline_id=pipeline.pipeline_id, version_id=version.pipeline_version_id
    )
    client.delete_pipeline_version(pipeline.pipeline_id, version.pipeline_version_id)
    trigger = served.platform.recurring()
    served.platform.clock.time += 60
    for _ in range(2):
        assert trigger.start_due() == []
        told = client.get_recurring_run(made.recurring_run_id)
        assert f"Pipeline version {version.pipeline_version_id} not found" in told.error.message
    failures = [
        event
        for event in served.send("GET", f"/apis/headrace/v1/events?subject=recurring-run/{made.recurring_run_id}")[1]
        if event["kind"] == "recurring-run.failed"
    ]
    assert len(failures) == 1


def test_scheduled_times_are_filled_in(client, served, packages, name):
    params = {"whole": 1, "real": 2, "truth": True, "items": [], "fields": {}}
    text = "[[Index]]: [[ScheduledTime]] {{$.scheduledTime.strftime('%Y')}} [[Unknown]]"
    _make(client, packages, name, "every_kind", params={**params, "text": text})
    served.platform.clock.time += 61
    (run_id,) = served.platform.recurring().start_due()
    run = client.get_run(run_id)
    at = run.scheduled_at.astimezone(datetime.UTC)
    assert run.runtime_config.parameters["text"] == f"1: {at:%Y%m%d%H%M%S} {at:%Y} [[Unknown]]"


def test_a_task_is_told_when_its_run_was_due(client, served, packages, name):
    _make(client, packages, name, "scheduled")
    due = served.platform.clock.time + 60
    served.platform.clock.time += 75
    (run_id,) = served.platform.recurring().start_due()
    served.drive(run_id)
    assert served.send("GET", f"/apis/v2beta1/runs/{run_id}")[1]["outputs"] == {"Output": rfc3339(due)}


def test_a_deleted_one_leaves_its_runs(client, served, packages, name, refused):
    made = _make(client, packages, name)
    served.platform.clock.time += 60
    (run_id,) = served.platform.recurring().start_due()
    assert client.delete_recurring_run(made.recurring_run_id) == {}
    refused(404, client.get_recurring_run, made.recurring_run_id)
    assert client.get_run(run_id).recurring_run_id == made.recurring_run_id


def test_they_are_listed_in_pages_by_experiment(client, packages, name, refused):
    experiment = client.create_experiment(name).experiment_id
    for number in range(3):
        client.create_recurring_run(
            experiment, f"{name} {number}", interval_second=60, pipeline_package_path=str(packages("total")),
            enabled=number != 1,
        )  # fmt: skip
    first = client.list_recurring_runs(experiment_id=experiment, page_size=2, sort_by="display_name desc")
    assert ([r.display_name for r in first.recurring_runs], first.total_size) == ([f"{name} 2", f"{name} 1"], 3)
    rest = client.list_recurring_runs(experiment_id=experiment, page_size=2, page_token=first.next_page_token)
    assert [r.display_name for r in rest.recurring_runs] == [f"{name} 0"]
    off = json.dumps({"predicates": [{"operation": "EQUALS", "key": "status", "string_value": "DISABLED"}]})
    found = client.list_recurring_runs(experiment_id=experiment, filter=off).recurring_runs
    assert [r.display_name for r in found] == [f"{name} 1"]
    refused(404, client.list_recurring_runs, experiment_id="nowhere")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"cron_expression": "* * * *"}, "Expected 5 to 6 fields, found 4"),
        ({"cron_expression": "61 * * * * *"}, "not a supported format"),
        ({"cron_expression": "0 0 0 31 2 *"}, "it never comes"),
        ({"cron_expression": "0 0 L * * *"}, '"L" cannot be read'),
        ({"interval_second": -1}, "invalid period schedule interval"),
        ({"interval_second": 10**18}, "invalid period schedule interval"),
        ({"max_concurrency": 11}, "at least 1 and at most 10. Received 11"),
        ({"max_concurrency": 0}, "at least 1 and at most 10. Received 0"),
        ({"start_time": "yesterday"}, "'yesterday' is not a time"),
        ({"start_time": "2026-11-01T00:00:00"}, "is not a time"),
        ({"start_time": "2026-11-02T00:00:00Z", "end_time": "2026-11-01T00:00:00Z"}, "ends before it starts"),
        ({"params": {"a": "5"}}, "requires type double or integer"),
        ({"params": {"c": 5}}, "not required by pipeline: c"),
        ({"job_name": " "}, "name is empty"),
        ({"function": "huge"}, "component add"),
    ],
)
def test_a_wrong_recurring_run_is_refused(client, packages, name, refused, more, message):
    before = client.list_recurring_runs().total_size
    wanted = {"name": name, **{{"job_name": "name"}.get(key, key): value for key, value in more.items()}}
    told = refused(400, _make, client, packages, **wanted)
    assert message in told["message"], told
    assert client.list_recurring_runs().total_size == before


def test_a_trigger_is_one_schedule(served, packages, name):
    pipeline = {"pipeline_spec": {"a": 1}}
    for trigger in (None, {}, {"cron_schedule": {}}, {"cron_schedule": {"cron": ""}}, 5, {"cron_schedule": 5},
                    {"cron_schedule": {"cron": "@daily"}, "periodic_schedule": {"interval_second": 1}}):  # fmt: skip
        body = {"display_name": name, "max_concurrency": 1, "trigger": trigger, **pipeline}
        status, told = served.send("POST", BASE, json=body)
        assert (status, "trigger" in told["message"]) == (400, True), told
    assert served.send("POST", BASE, json={"mode": "OFTEN", "trigger": {"cron_schedule": {"cron": "@daily"}}})[0] == 400


def test_what_is_not_there_is_not_found(client, refused):
    for call in (
        client.get_recurring_run, client.enable_recurring_run, client.disable_recurring_run,
        client.delete_recurring_run,
    ):  # fmt: skip
        assert refused(404, call, "nowhere")["code"] == 5
