"""What goes into a task, what comes out of it, and where it works."""

import json
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from kfp import dsl

from headrace.errors import UsageError
from headrace.runs import queries
from headrace.runs.attempts import log_path
from headrace.store import events

component = partial(dsl.component, base_image="python:3.12")


@component
def kinds(i: int, f: float, s: str, b: bool, numbers: list, table: dict) -> dict:
    given = {"i": i, "f": f, "s": s, "b": b, "numbers": numbers[0], "table": table["deep"][0]["n"]}
    return {name: f"{type(value).__name__} {value}" for name, value in given.items()}


@component
def several(n: int) -> NamedTuple("Several", [("whole", int), ("half", float), ("names", list), ("yes", bool)]):
    return n, n / 2, [str(n), "ünï 'quoted' \"text\""], n > 1


class Typed(NamedTuple):
    told: dict
    names: list
    again: dict


@dsl.pipeline
def typed(i: int, f: float, s: str, b: bool, numbers: list, table: dict) -> Typed:
    made = several(n=i)
    told = kinds(i=i, f=f, s=s, b=b, numbers=numbers, table=table)
    again = kinds(
        i=made.outputs["whole"], f=made.outputs["half"], s=f"{i} of {s}", b=made.outputs["yes"],
        numbers=made.outputs["names"], table=table,
    )  # fmt: skip
    return Typed(told.output, made.outputs["names"], again.output)


def test_values_of_each_type_arrive_as_what_they_are(run):
    result = run(typed, i=4, f=3, s="four", b=True, numbers=[4, 5.5], table={"deep": [{"n": 4}]})
    assert result.state == "SUCCEEDED", result.error
    assert result.outputs["told"] == {
        "i": "int 4", "f": "float 3.0", "s": "str four", "b": "bool True", "numbers": "int 4", "table": "int 4",
    }  # fmt: skip
    assert result.outputs["again"] == {
        "i": "int 4", "f": "float 2.0", "s": "str 4 of four", "b": "bool True", "numbers": "str 4", "table": "int 4",
    }  # fmt: skip
    assert result.outputs["names"] == ["4", "ünï 'quoted' \"text\""]
    assert type(result.tasks["several"]["outputs"]["whole"]) is int


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "needs the parameter n"),
        ({"n": "three"}, "parameter n must be of type int, not 'three'"),
        ({"n": 1, "m": 2}, "has no parameter m"),
    ],
)
def test_wrong_parameters_are_refused_and_leave_no_run(runner, compiled, given, message):
    with pytest.raises(UsageError, match=message):
        runner.create(compiled(several), given)
    assert runner.database.query("SELECT id FROM run") == []
    assert events.read(runner.database) == []


@component
def write(
    table: dsl.Output[dsl.Dataset], model: dsl.Output[dsl.Model], metrics: dsl.Output[dsl.Metrics],
    curve: dsl.Output[dsl.ClassificationMetrics], page: dsl.Output[dsl.HTML], text: dsl.Output[dsl.Markdown],
):  # fmt: skip
    from pathlib import Path

    Path(table.path).write_text("a,b\n1,2\n")
    table.metadata.update(rows=1, columns=["a", "b"])
    Path(model.path).mkdir()
    Path(model.path, "weights").write_text("0.5")
    model.framework = "made"
    metrics.log_metric("auc", 0.75)
    metrics.log_metric("rows", 3)
    curve.log_confusion_matrix(["no", "yes"], [[3, 1], [0, 2]])
    curve.log_roc_curve([0.0, 1.0], [0.0, 1.0], [1.0, 0.0])
    Path(page.path).write_text("<h1>Hello</h1>")
    Path(text.path).write_text("# Hello")


@component
def read(table: dsl.Input[dsl.Dataset], model: dsl.Input[dsl.Model], metrics: dsl.Input[dsl.Metrics]) -> dict:
    from pathlib import Path

    return {
        "table": Path(table.path).read_text(),
        "weights": Path(model.path, "weights").read_text(),
        "rows": table.metadata["rows"],
        "framework": model.framework,
        "metrics": metrics.metadata,
        "names": [table.name, model.name],
    }


class Seen(NamedTuple):
    table: dsl.Dataset
    seen: dict


@dsl.pipeline
def artifacts() -> Seen:
    made = write()
    seen = read(table=made.outputs["table"], model=made.outputs["model"], metrics=made.outputs["metrics"])
    return Seen(made.outputs["table"], seen.output)


def test_artifacts_of_each_type_keep_their_content_and_metadata(run, database):
    result = run(artifacts)
    assert result.state == "SUCCEEDED", result.error
    assert result.outputs["seen"] == {
        "table": "a,b\n1,2\n", "weights": "0.5", "rows": 1, "framework": "made",
        "metrics": {"auc": 0.75, "rows": 3}, "names": ["table", "model"],
    }  # fmt: skip
    kept = {row["name"]: row for row in database.query("SELECT * FROM artifact WHERE path = 'write'")}
    assert {name: row["type"] for name, row in kept.items()} == {
        "table": "system.Dataset", "model": "system.Model", "metrics": "system.Metrics",
        "curve": "system.ClassificationMetrics", "page": "system.HTML", "text": "system.Markdown",
    }  # fmt: skip
    assert json.loads(kept["table"]["metadata"]) == {"rows": 1, "columns": ["a", "b"]}
    curve = json.loads(kept["curve"]["metadata"])
    assert curve["confusionMatrix"]["rows"] == [{"row": [3, 1]}, {"row": [0, 2]}]
    assert len(curve["confidenceMetrics"]) == 2
    assert Path(kept["page"]["uri"]).read_text() == "<h1>Hello</h1>"
    assert (kept["table"]["bytes"], kept["model"]["bytes"]) == (8, 3)
    assert kept["table"]["digest"].startswith("sha256:")
    (table,) = result.artifacts["table"]
    assert (table["uri"], table["metadata"]["rows"]) == (kept["table"]["uri"], 1)


@component
def name_alike(
    parameters: dsl.Output[dsl.Dataset],
    work: dsl.Output[dsl.Model],
    claim: dsl.Output[dsl.Artifact],
    artifacts: dsl.Output[dsl.Artifact],
    number: dsl.OutputPath(int),
):
    from pathlib import Path

    for artifact in (parameters, claim, artifacts):
        Path(artifact.path).write_text(artifact.name)
    Path(work.path).mkdir()
    Path(work.path, "weights").write_text("work")
    Path(number).write_text("7")


@component
def read_alike(
    parameters: dsl.Input[dsl.Dataset],
    work: dsl.Input[dsl.Model],
    claim: dsl.Input[dsl.Artifact],
    artifacts: dsl.Input[dsl.Artifact],
    number: int,
) -> list:
    from pathlib import Path

    files = [parameters.path, claim.path, artifacts.path, Path(work.path, "weights")]
    return [*(Path(file).read_text() for file in files), number]


@dsl.pipeline
def namesakes() -> list:
    return read_alike(**name_alike().outputs).output


def test_artifacts_may_be_named_as_what_is_in_an_attempts_folder(run, home):
    result = run(namesakes)
    assert result.state == "SUCCEEDED", result.error
    assert result.outputs == {"Output": ["parameters", "claim", "artifacts", "work", 7]}
    place = home.artifacts / result.run_id / "name-alike" / "1" / "artifacts"
    assert sorted(file.name for file in place.iterdir()) == [
        "artifacts",
        "claim",
        "executor_output.json",
        "parameters",
        "work",
    ]


def test_a_run_tells_its_tasks_outputs_as_the_interface_promises(run, database):
    told = queries.run_json(database, run(artifacts).run_id)
    assert told["state"] == "SUCCEEDED"
    assert told["outputs"]["table"]["type"] == "system.Dataset"
    details = {task["task_id"]: task for task in told["run_details"]["task_details"]}
    assert details["write"]["outputs_values"]["metrics"]["metadata"] == {"auc": 0.75, "rows": 3}
    assert details["read"]["inputs"]["artifacts"]["table"] == told["outputs"]["table"]
    assert details["read"]["outputs_values"]["Output"] == told["outputs"]["seen"]
    assert [details[name]["attempts"] for name in ("write", "read")] == [1, 1]


@component
def elsewhere(there: dsl.Output[dsl.Model], moved: dsl.Output[dsl.Dataset]):
    from pathlib import Path

    there.uri = "s3://bucket/models/7"
    there.metadata["size"] = 7
    Path("moved.csv").write_text("a\n1\n")
    moved.custom_path = str(Path("moved.csv").resolve())


@component
def look(there: dsl.Input[dsl.Model], moved: dsl.Input[dsl.Dataset]) -> list:
    from pathlib import Path

    return [there.uri, there.metadata["size"], Path(moved.path).read_text()]


@dsl.pipeline
def remote() -> list:
    made = elsewhere()
    return look(there=made.outputs["there"], moved=made.outputs["moved"]).output


def test_an_artifact_may_lie_where_its_component_says(run):
    result = run(remote)
    assert result.state == "SUCCEEDED", result.error
    assert result.outputs["Output"] == ["s3://bucket/models/7", 7, "a\n1\n"]


@component
def surroundings(name: str) -> dict:
    import os
    import sys
    from pathlib import Path

    assert not hasattr(sys, "left_behind")
    left = [path.name for path in Path().iterdir()] + [name for name in ("LEFT_BEHIND",) if name in os.environ]
    Path(name).write_text("left behind")
    os.environ["LEFT_BEHIND"] = name
    sys.left_behind = name
    sys.stderr.write(f"I am {name}\n")
    wanted = ("HEADRACE_RUN_ID", "HEADRACE_TASK", "HEADRACE_PROJECT", "HEADRACE_COMMIT", "HEADRACE_ACTOR", "LEVEL")
    return {"left": left, **{one: os.environ[one] for one in wanted}}


class Both(NamedTuple):
    first: dict
    second: dict


@dsl.pipeline
def apart() -> Both:
    first = surroundings(name="first").set_env_variable("LEVEL", "of $(HEADRACE_TASK)")
    second = surroundings(name="second").set_env_variable("LEVEL", "2").after(first)
    return Both(first.output, second.output)


def test_each_task_has_a_folder_environment_and_log_of_its_own(runner, compiled):
    created = runner.create(compiled(apart), source_dir="/project", commit="abc")
    result = runner.drive(created)
    assert result.state == "SUCCEEDED", result.error
    for name, level in (("first", "of surroundings"), ("second", "2")):
        task = {"first": "surroundings", "second": "surroundings-2"}[name]
        assert result.outputs[name] == {
            "left": [], "HEADRACE_RUN_ID": created, "HEADRACE_TASK": task,
            "HEADRACE_PROJECT": "/project", "HEADRACE_COMMIT": "abc", "HEADRACE_ACTOR": "user:test", "LEVEL": level,
        }  # fmt: skip
        assert log_path(runner.home, created, task, 1).read_text() == f"I am {name}\n"


@dsl.pipeline
def importing(uri: str, version: str) -> dsl.Dataset:
    return dsl.importer(
        artifact_uri=uri, artifact_class=dsl.Dataset, metadata={"version": version, "tags": [version, "a"]}
    ).output


def test_what_is_there_already_becomes_an_artifact_with_its_metadata(run, tmp_path):
    (tmp_path / "raw.csv").write_text("a\n")
    result = run(importing, uri=str(tmp_path / "raw.csv"), version="7")
    (raw,) = result.artifacts["Output"]
    assert (raw["uri"], raw["bytes"]) == (str(tmp_path / "raw.csv"), 2)
    assert raw["metadata"] == {"version": "7", "tags": ["7", "a"]}
    (raw,) = run(importing, uri="s3://bucket/raw.csv", version="8").artifacts["Output"]
    assert (raw["uri"], raw["digest"]) == ("s3://bucket/raw.csv", "")


def test_what_is_not_there_is_imported_all_the_same_and_missed_by_who_reads_it(run, tmp_path):
    result = run(importing, uri=f"file://{tmp_path}/none.csv", version="7")
    (raw,) = result.artifacts["Output"]
    assert (result.state, raw["uri"], raw["digest"]) == ("SUCCEEDED", f"{tmp_path}/none.csv", "")


@component
def whoami(job: str, task: str, text: str) -> list:
    return [job, task, text]


@dsl.pipeline
def placeholders() -> list:
    return whoami(
        job=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        task=dsl.PIPELINE_TASK_NAME_PLACEHOLDER,
        text=f"run {dsl.PIPELINE_JOB_ID_PLACEHOLDER}",
    ).output


def test_placeholders_stand_for_the_run_and_the_task(run):
    result = run(placeholders)
    assert result.outputs["Output"] == [result.run_id, "whoami", f"run {result.run_id}"]


def test_every_state_is_told_once_in_the_event_log(run, database):
    result = run(apart)
    told = [(event.kind, event.subject.removeprefix(f"run/{result.run_id}")) for event in events.read(database)]
    assert told == [
        ("run.created", ""), ("run.started", ""),
        ("task.started", "/task/surroundings"), ("task.succeeded", "/task/surroundings"),
        ("task.started", "/task/surroundings-2"), ("task.succeeded", "/task/surroundings-2"),
        ("run.succeeded", ""),
    ]  # fmt: skip
    assert events.first_broken(database) is None
