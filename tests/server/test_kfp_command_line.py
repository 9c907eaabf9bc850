"""The unmodified `kfp` command line: every command that speaks with a server."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from click.testing import CliRunner
from kfp.cli import cli


@pytest.fixture
def kfp(served):
    """`kfp …` in this process, with JSON for an answer."""

    def run(*words, said="y\n", code=0):
        held = {}
        with warnings.catch_warnings():
            # Its client warns each user of versions that nobody has any more.
            warnings.simplefilter("ignore")
            arguments = ["--endpoint", served.address, "--output", "json", *map(str, words)]
            done = CliRunner().invoke(cli.cli, arguments, obj=held, input=said)
        held["client"]._run_api.api_client.rest_client.pool_manager.clear()
        assert done.exit_code == code, (done.output, done.exception)
        return _json(done.output)

    return run


def _json(text):
    """The JSON document that a command prints below what it tells people."""
    starts = [place for place, letter in enumerate(text) if letter in '{["' and text[place - 1 : place] in ("", "\n")]
    for start in starts:
        try:
            return json.loads(text[start:])
        except ValueError:
            continue
    return text


def test_pipelines(kfp, packages, name):
    made = kfp("pipeline", "create", "-p", name, "-d", "adds", packages("total"))
    assert (made["display_name"], made["description"]) == (name, "adds")
    pipeline = made["pipeline_id"]
    version = kfp("pipeline", "create-version", packages("tree"), "-v", "second", "-p", pipeline)["pipeline_version_id"]
    assert kfp("pipeline", "create-version", packages("tree"), "-v", "third", "-n", name)["display_name"] == "third"
    assert name in [found["display_name"] for found in kfp("pipeline", "list")]
    versions = kfp("pipeline", "list-versions", pipeline)
    assert {found["display_name"] for found in versions} == {name, "second", "third"}
    assert kfp("pipeline", "get", pipeline)["pipeline_id"] == pipeline
    assert kfp("pipeline", "get-version", pipeline, version)["display_name"] == "second"
    for found in versions:
        kfp("pipeline", "delete-version", pipeline, found["pipeline_version_id"])
    kfp("pipeline", "delete", pipeline)
    kfp("pipeline", "get", pipeline, code=1)


def test_experiments(kfp, name):
    made = kfp("experiment", "create", name, "-d", "a try")["experiment_id"]
    assert kfp("experiment", "get", made)["description"] == "a try"
    assert name in [found["display_name"] for found in kfp("experiment", "list")]
    assert kfp("experiment", "archive", "--experiment-name", name)["storage_state"] == "ARCHIVED"
    assert kfp("experiment", "unarchive", "--experiment-id", made)["storage_state"] == "AVAILABLE"
    kfp("experiment", "delete", made)
    kfp("experiment", "get", made, code=1)


def test_runs(kfp, served, packages, name):
    made = kfp("run", "create", "-e", name, "-r", name, "-f", packages("total"), "a=5")
    assert (made["display_name"], made["runtime_config"]["parameters"]) == (name, {"a": 5, "b": 2})
    served.drive(made["run_id"])
    run = kfp("run", "get", made["run_id"])
    assert run["state"] == "SUCCEEDED"
    assert [task["task_id"] for task in run["run_details"]["task_details"]] == ["root", "add"]
    listed = kfp("run", "list", "-e", run["experiment_id"])
    assert [found["run_id"] for found in listed] == [run["run_id"]]
    assert kfp("run", "archive", run["run_id"])["storage_state"] == "ARCHIVED"
    assert kfp("run", "unarchive", run["run_id"])["storage_state"] == "AVAILABLE"
    kfp("run", "delete", run["run_id"])
    kfp("run", "get", run["run_id"], code=1)


def test_a_version_is_run(kfp, packages, name):
    pipeline = kfp("pipeline", "create", "-p", name, packages("total"))["pipeline_id"]
    (version,) = kfp("pipeline", "list-versions", pipeline)
    run = kfp("run", "create", "-e", name, "-n", name, "-v", version["pipeline_version_id"])
    assert run["pipeline_version_reference"]["pipeline_version_id"] == version["pipeline_version_id"]


def test_recurring_runs(kfp, packages, name):
    made = kfp(
        "recurring-run", "create", "--experiment-name", name, "--job-name", name, "--cron-expression", "0 0 9 ? * 2-6",
        "--pipeline-package-path", packages("total"), "--enabled", "--max-concurrency", "2",
    )  # fmt: skip
    assert (made["display_name"], made["status"], made["no_catchup"]) == (name, "ENABLED", True)
    recurring = made["recurring_run_id"]
    assert kfp("recurring-run", "get", recurring)["trigger"]["cron_schedule"]["cron"] == "0 0 9 ? * 2-6"
    assert recurring in [found["recurring_run_id"] for found in kfp("recurring-run", "list")]
    assert kfp("recurring-run", "disable", recurring)["status"] == "DISABLED"
    assert kfp("recurring-run", "enable", recurring)["status"] == "ENABLED"
    every = kfp(
        "recurring-run", "create", "--experiment-name", name, "--job-name", name, "--interval-second", "60",
        "--pipeline-package-path", packages("total"), "--catchup",
    )  # fmt: skip
    assert (every["trigger"]["periodic_schedule"]["interval_second"], every["no_catchup"]) == ("60", False)
    for found in (made, every):
        kfp("recurring-run", "delete", found["recurring_run_id"])
    kfp("recurring-run", "get", recurring, code=1)


def test_as_a_process_with_tables(served, client, packages, name):
    run_id = client.create_run_from_pipeline_package(str(packages("total")), run_name=name).run_id
    done = subprocess.run(
        [Path(sys.executable).with_name("kfp"), "--endpoint", served.address, "run", "list"],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    head, *rows = done.stdout.splitlines()
    assert head.split() == ["ID", "NAME", "CREATED", "AT", "STATE", "STORAGE", "STATE"]
    (row,) = [row.split() for row in rows if row.startswith(run_id)]
    assert (row[1], row[-2:]) == (name, ["PENDING", "AVAILABLE"])
