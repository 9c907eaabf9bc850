"""Artifacts that are there already: given to the pipeline, or imported by it."""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from kfp import dsl

from headrace.errors import UsageError

component = partial(dsl.component, base_image="python:3.12")
sharing = partial(dsl.pipeline, pipeline_config=dsl.PipelineConfig(workspace=dsl.WorkspaceConfig("1Mi")))


@component
def word(text: str) -> str:
    return text


@component
def show(data: dsl.Input[dsl.Dataset]) -> list:
    from pathlib import Path

    place = Path(data.path)
    content = sorted(one.name for one in place.iterdir()) if place.is_dir() else place.read_text()
    return [data.name, data.uri, content, data.metadata]


@dsl.pipeline
def described(file: str, n: int, x: str) -> list:
    key = word(text="key")
    metadata = {
        "n": n, "list": [key.output, n, {"deep": f"a-{x}"}], key.output: "value", "whole": 3, "half": 0.5,
        "plain": "text", "job": dsl.PIPELINE_JOB_ID_PLACEHOLDER,
    }  # fmt: skip
    return show(data=dsl.importer(artifact_uri=file, artifact_class=dsl.Dataset, metadata=metadata).output).output


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_an_artifact_is_imported_with_metadata_of_parameters_and_outputs(run, tmp_path, prefix):
    file = tmp_path / "it's.csv"
    file.write_text("a,b")
    result = run(described, file=f"{prefix}{file}", n=5, x="y")
    assert result.state == "SUCCEEDED", result.error
    assert result.outputs["Output"] == [
        "artifact", str(file), "a,b",
        {"n": 5, "list": ["key", 5, {"deep": "a-y"}], "key": "value", "job": result.run_id, "whole": 3, "half": 0.5,
         "plain": "text"},
    ]  # fmt: skip


class Downloaded(NamedTuple):
    file: list
    folder: list


@sharing
def downloading(file: str, folder: str) -> Downloaded:
    take = partial(dsl.importer, artifact_class=dsl.Dataset, download_to_workspace=True)
    return Downloaded(show(data=take(file).output).output, show(data=take(folder).output).output)


def test_an_artifact_is_copied_to_the_workspace_where_the_pipeline_asks_for_that(run, tmp_path, home):
    file, folder = tmp_path / "a.csv", tmp_path / "folder"
    file.write_text("a,b")
    folder.mkdir()
    for name in ("b.csv", "c.csv"):
        (folder / name).write_text(name)
    result = run(downloading, file=str(file), folder=str(folder))
    assert result.state == "SUCCEEDED", result.error
    workspace = home.path / "workspaces" / result.run_id
    for name, wanted in (("file", "a,b"), ("folder", ["b.csv", "c.csv"])):
        _, uri, content, _ = result.outputs[name]
        assert Path(uri).is_relative_to(workspace)
        assert content == wanted
    assert file.read_text() == "a,b"


@pytest.mark.parametrize(
    ("uri", "message"),
    [("s3://bucket/a.csv", "s3://bucket/a.csv cannot be downloaded to the workspace"), ("/nowhere/a", "/nowhere/a")],
)  # fmt: skip
def test_what_cannot_be_copied_to_the_workspace_fails_the_importer(run, uri, message):
    @sharing
    def one(uri: str):
        dsl.importer(artifact_uri=uri, artifact_class=dsl.Dataset, download_to_workspace=True)

    result = run(one, uri=uri)
    assert (result.state, result.tasks["importer"]["state"]) == ("FAILED", "FAILED")
    assert message in result.error


@component
def write_to(folder: str, name: str) -> str:
    from pathlib import Path

    Path(folder, name).write_text("shared")
    return name


@sharing
def from_the_workspace(x: str) -> list:
    written = write_to(folder=dsl.WORKSPACE_PATH_PLACEHOLDER, name=x)
    there = dsl.importer(artifact_uri=f"{dsl.WORKSPACE_PATH_PLACEHOLDER}/{x}", artifact_class=dsl.Dataset)
    return show(data=there.after(written).output).output


def test_what_lies_in_the_workspace_is_imported_by_a_composed_uri(run, home):
    result = run(from_the_workspace, x="a.csv")
    assert result.state == "SUCCEEDED", result.error
    _, uri, content, _ = result.outputs["Output"]
    assert (uri, content) == (str(home.path / "workspaces" / result.run_id / "a.csv"), "shared")


@component
def describe(data: dsl.Input[dsl.Dataset], model: dsl.Input[dsl.Model] = None) -> list:
    from pathlib import Path

    return [data.name, Path(data.path).read_text(), data.uri, None if model is None else model.uri]


@dsl.pipeline(name="inner")
def inner(data: dsl.Input[dsl.Dataset], model: dsl.Input[dsl.Model] = None) -> list:
    return describe(data=data, model=model).output


@dsl.pipeline(name="given")
def given(text: str, data: dsl.Input[dsl.Dataset], model: dsl.Input[dsl.Model] = None) -> list:
    word(text=text)
    return inner(data=data, model=model).output


def test_a_pipeline_is_given_artifacts_as_paths_and_uris(runner, compiled, tmp_path, monkeypatch):
    (tmp_path / "a.csv").write_text("a,b")
    monkeypatch.chdir(tmp_path)
    result = runner.run(compiled(given), {"text": "t", "data": "a.csv", "model": "s3://bucket/model"})
    assert result.state == "SUCCEEDED", result.error
    assert result.outputs["Output"] == ["data", "a,b", str(tmp_path / "a.csv"), "s3://bucket/model"]


def test_an_optional_artifact_of_a_pipeline_need_not_be_given(runner, compiled, tmp_path):
    (tmp_path / "a.csv").write_text("a,b")
    result = runner.run(compiled(given), {"text": "t", "data": str(tmp_path / "a.csv")})
    assert result.outputs["Output"][-1] is None, result.error


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({"text": "t"}, r"the pipeline given needs the artifact data \(system.Dataset\)"),
        ({"text": "t", "data": "/nowhere/a.csv"}, "input artifact data: .*/nowhere/a.csv does not exist"),
        ({"text": "t", "dato": "/nowhere/a.csv"}, "the pipeline given has no parameter dato"),
    ],
)
def test_an_artifact_that_is_missing_or_does_not_exist_is_refused_first(runner, compiled, parameters, problem):
    with pytest.raises(UsageError, match=problem):
        runner.create(compiled(given), parameters)
    assert runner.database.query("SELECT * FROM run") == []


def test_another_content_of_a_given_artifact_is_another_input(runner, compiled, tmp_path):
    file = tmp_path / "a.csv"
    told = []
    for content in ("first", "second", "second"):
        file.write_text(content)
        result = runner.run(compiled(given), {"text": "t", "data": str(file)})
        told.append((result.outputs["Output"][1], bool(result.tasks["inner/describe"]["cached"])))
    assert told == [("first", False), ("second", False), ("second", True)]
