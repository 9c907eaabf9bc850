"""Lineage over what real runs, a real registry and a real payload log have left."""

import asyncio
import json
import warnings
from dataclasses import replace

import pytest
from kfp import dsl

from flights import ROLLOUT, SERVICE
from headrace.catalog.registry import ModelRegistry
from headrace.components import PYTHON_IMAGE, deploy, register
from headrace.contracts import pipeline_spec
from headrace.control.triggers import push
from headrace.errors import NotFoundError, UsageError
from headrace.ports import free_port
from headrace.project import wiring
from headrace.project.lineage import MOST_NEIGHBOURS, MOST_NODES, examples, lineage, tree
from headrace.runs.storage import delete
from headrace.runs.submit import create_run
from headrace.serving.payload_log import PayloadWriter, path
from headrace.store import events

COMMIT = "c0ffee" * 6 + "c0de"


@dsl.component(base_image=PYTHON_IMAGE)
def train(rows: dsl.Input[dsl.Dataset], model: dsl.Output[dsl.Model], metrics: dsl.Output[dsl.Metrics]):
    import numpy as np
    import pandas as pd
    from mlflow.models import infer_signature
    from mlflow.sklearn import save_model
    from sklearn.linear_model import LinearRegression

    table = pd.DataFrame({"distance": pd.read_csv(rows.path, header=None)[0].astype("float64"), "hour": 1.0})
    fitted = LinearRegression().fit(table, np.arange(len(table)))
    save_model(fitted, model.path, signature=infer_signature(table, fitted.predict(table)), pip_requirements=[])
    metrics.log_metric("rows", len(table))


@dsl.component(base_image=PYTHON_IMAGE)
def look(model: dsl.Input[dsl.Model], report: dsl.Output[dsl.HTML]):
    import pathlib

    pathlib.Path(report.path).write_text("fine")


@dsl.pipeline(name="delivery")
def delivery(rows: str, service: str, rollout: str):
    data = dsl.importer(artifact_uri=rows, artifact_class=dsl.Dataset)
    manifest = dsl.importer(artifact_uri=service, artifact_class=dsl.Artifact)
    steps = dsl.importer(artifact_uri=rollout, artifact_class=dsl.Artifact)
    trained = train(rows=data.output)
    look(model=trained.outputs["model"])
    version = register(
        model=trained.outputs["model"], metrics=trained.outputs["metrics"], name="delay", data_version="d1"
    )
    deploy(model=version.output, manifest=manifest.output, rollout=steps.output)


@dsl.component(base_image=PYTHON_IMAGE)
def copy(rows: dsl.Input[dsl.Dataset], copied: dsl.Output[dsl.Dataset], number: int = 0):
    import shutil

    shutil.copyfile(rows.path, copied.path)


@dsl.pipeline(name="copies")
def copies(rows: str, numbers: list):
    data = dsl.importer(artifact_uri=rows, artifact_class=dsl.Dataset)
    with dsl.ParallelFor(numbers) as number:
        copy(rows=data.output, number=number)


class Project:
    """A folder under version control as a run sees it, and a platform whose engine runs its pipelines."""

    def __init__(self, folder, compiled):
        self.folder = folder
        self.compiled = compiled
        self.platform = wiring.build(folder)
        self.database = self.platform.database
        with warnings.catch_warnings():
            # MLflow's libraries deprecate each other while they are imported.
            warnings.simplefilter("ignore")
            assert self.platform.registry.client

    def write(self, name, text):
        place = self.folder / name
        place.parent.mkdir(exist_ok=True)
        place.write_text(text)
        return str(place)

    def run(self, pipeline, **parameters):
        document = pipeline_spec.parse(self.compiled(pipeline), "test.yaml")
        run = create_run(
            self.database, document, pipeline=pipeline.name, parameters=parameters, environment="dev",
            actor="user:ann", at=self.platform.clock.now(), commit=COMMIT, source_dir=str(self.folder),
        )  # fmt: skip
        asyncio.run(self.platform.engine().drive(run))
        row = self.database.one("SELECT state, error FROM run WHERE id = ?", (run,))
        assert row["state"] == "SUCCEEDED", row["error"]
        return run


@pytest.fixture(scope="module")
def project(tmp_path_factory, compiled):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("HEADRACE_HOME", raising=False)
        project = Project(tmp_path_factory.mktemp("project"), compiled)
    yield project
    project.database.close()


@pytest.fixture(scope="module")
def delivered(project):
    """A run that trained, registered and deployed; a second one that takes all that from the cache but those two."""
    given = {
        "rows": project.write("data/rows.csv", "1\n2\n3\n"),
        "service": project.write("serving/delay.yaml", SERVICE),
        "rollout": project.write("serving/rollout.yaml", ROLLOUT),
    }
    with project.database.transaction() as connection:
        events.append(
            connection, at=1.0, actor="user:git", kind=push.RECEIVED, subject="repository/x", reason="refs/heads/main",
            data={"after": COMMIT, "before": "0" * 40, "ref": "refs/heads/main", "repository": "/x"},
        )  # fmt: skip
    runs = project.run(delivery, **given), project.run(delivery, **given)
    writer = PayloadWriter(path(project.platform.home, "delay"), "delay-00001")
    for number in range(3):
        writer.add(f"prediction-{number}", number)
    writer.close()
    return runs


def _ids(found, kind):
    return {node.id for node in found.nodes if node.kind == kind}


def _links(found):
    return {(edge.source, edge.target): (edge.label, edge.by) for edge in found.edges}


def test_a_prediction_leads_back_to_the_file_and_the_commit(project, delivered):
    first, _ = delivered
    found = lineage(project.platform, "prediction:prediction-1")
    assert found.nodes[0].id == "prediction:prediction-1"
    assert _ids(found, "revision") == {"revision:delay-00001"}
    assert _ids(found, "model_version") == {"model:delay@1"}
    assert _ids(found, "task") == {f"task:{first}/{name}" for name in ("train", "register", "deploy")}
    assert _ids(found, "dataset") == {
        "dataset:data/rows.csv", "dataset:serving/delay.yaml", "dataset:serving/rollout.yaml",
    }  # fmt: skip
    assert (_ids(found, "run"), _ids(found, "commit")) == ({f"run:{first}"}, {f"commit:{COMMIT}"})
    assert _ids(found, "column") == {"column:distance", "column:hour"}
    (commit,) = (node for node in found.nodes if node.kind == "commit")
    assert commit.detail == "pushed to refs/heads/main by user:git, event 1"
    links = _links(found)
    assert links["revision:delay-00001", "prediction:prediction-1"] == ("answered", "record")
    assert links[f"task:{first}/register", "model:delay@1"] == ("registered", "record")
    assert {by for _, by in links.values()} == {"record"}
    assert found.notes == ()


def test_what_was_taken_from_the_cache_leads_to_the_task_that_made_it(project, delivered):
    first, second = delivered
    found = lineage(project.platform, "model:delay@2")
    assert _ids(found, "task") == {f"task:{second}/register", f"task:{first}/train"}
    assert {edge.by for edge in found.edges} == {"record"}


def test_a_file_leads_on_to_all_that_came_of_it(project, delivered):
    first, second = delivered
    found = lineage(project.platform, "dataset:data/rows.csv", "down")
    assert _ids(found, "model_version") == {"model:delay@1", "model:delay@2"}
    assert {"revision:delay-00001"} <= _ids(found, "revision")
    tasks = _ids(found, "task")
    assert {f"task:{first}/train", f"task:{first}/look", f"task:{second}/register"} <= tasks
    # What was cached in the second run did not happen there.
    assert not {f"task:{second}/train", f"task:{second}/look"} & tasks
    assert "3 predictions" in {node.label for node in found.nodes}


def test_a_column_leads_to_the_models_that_take_it(project, delivered):
    found = lineage(project.platform, "column:distance", "down")
    assert "model:delay@1" in _ids(found, "model_version")
    assert lineage(project.platform, "column:distance", "up").edges == ()
    with pytest.raises(NotFoundError, match="no deployed model takes a column tail"):
        lineage(project.platform, "column:tail", "down")


def test_both_directions_are_one_graph(project, delivered):
    first, _ = delivered
    row = project.database.one("SELECT digest FROM artifact WHERE run_id = ? AND type = 'system.Model'", (first,))
    found = lineage(project.platform, f"artifact:{row['digest'][7:19]}", "both")
    assert found.start == f"artifact:{row['digest']}"
    up, down = (lineage(project.platform, found.start, way) for way in ("up", "down"))
    assert {node.id for node in found.nodes} == {node.id for one in (up, down) for node in one.nodes}
    assert "dataset:data/rows.csv" in {node.id for node in up.nodes}
    assert "model:delay@1" in {node.id for node in down.nodes}


def test_a_run_and_a_commit_are_starts(project, delivered):
    first, second = delivered
    assert _ids(lineage(project.platform, f"run:{first[:8]}"), "commit") == {f"commit:{COMMIT}"}
    down = lineage(project.platform, f"run:{first}", "down")
    assert {"model:delay@1", "revision:delay-00001"} <= {node.id for node in down.nodes}
    assert {f"run:{first}", f"run:{second}"} <= _ids(lineage(project.platform, f"commit:{COMMIT}", "down"), "run")


def test_an_alias_means_the_version_that_it_names_now(project, delivered):
    assert lineage(project.platform, "model:delay@challenger").start == "model:delay@2"


def test_content_that_is_only_equal_is_marked(project, delivered):
    """Two files may be the same; that the one went into what the other's run did is not recorded."""
    rows = project.write("data/equal.csv", "5\n6\n")
    other = project.write("data/other.csv", "5\n6\n")
    one, two = project.run(copies, rows=rows, numbers=[1]), project.run(copies, rows=other, numbers=[2])
    found = lineage(project.platform, "dataset:data/equal.csv", "down")
    by = {edge.target: edge.by for edge in found.edges if edge.target.startswith("task:")}
    assert {target.partition("/")[0]: kind for target, kind in by.items()} == {
        f"task:{one}": "record", f"task:{two}": "content",
    }  # fmt: skip


def test_a_wide_graph_is_folded_and_a_large_one_is_cut(project):
    rows = project.write("data/many.csv", "7\n")
    project.run(copies, rows=rows, numbers=list(range(20)))
    found = lineage(project.platform, "dataset:data/many.csv", "down")
    tasks = [node for node in found.nodes if node.kind == "task"]
    assert len(tasks) == MOST_NEIGHBOURS - 1
    assert f"{20 - len(tasks)} more tasks" in {node.label for node in found.nodes}
    assert len(found.nodes) <= MOST_NODES


def test_no_more_than_the_most_nodes_are_shown(project, delivered, monkeypatch):
    monkeypatch.setattr("headrace.project.lineage.MOST_NODES", 6)
    found = lineage(project.platform, "prediction:prediction-1")
    assert len(found.nodes) == 6
    assert found.notes == ("More than 6 things are linked: those farthest from the start are left out.",)
    known = {node.id for node in found.nodes}
    assert all(edge.source in known and edge.target in known for edge in found.edges)


def test_a_tree_tells_everything_once(project, delivered):
    found = lineage(project.platform, "prediction:prediction-1")
    lines = tree(found, "up")
    assert (lines[0].depth, lines[0].node.id, lines[1].node.id) == (
        0,
        "prediction:prediction-1",
        "revision:delay-00001",
    )
    told = [line.node.id for line in lines if not line.again]
    assert sorted(told) == sorted(node.id for node in found.nodes)
    assert any(line.again for line in lines)


def test_every_example_is_a_start(project, delivered):
    known = examples(project.platform)
    assert [one.partition(":")[0] for one in known] == [
        "prediction", "revision", "model", "run", "artifact", "dataset", "column",
    ]  # fmt: skip
    for start in known:
        assert lineage(project.platform, start, "both").nodes


@pytest.mark.parametrize(
    ("start", "error", "said"),
    [
        ("prediction:none", NotFoundError, "no service has logged a prediction none"),
        ("revision:none", NotFoundError, "no revision is called none"),
        ("model:delay@77", NotFoundError, "the registry has no model"),
        ("model:delay", UsageError, "names no model version"),
        ("run:none", NotFoundError, "no run has the id none"),
        ("artifact:ffff", NotFoundError, "no artifact has a digest that begins sha256:ffff"),
        ("dataset:none.csv", NotFoundError, "no run has imported a file none.csv"),
        ("task:none/x", NotFoundError, "no task is called none/x"),
        ("run:", UsageError, "names no start"),
        ("thing:x", UsageError, "names no start"),
        ("", UsageError, "names no start"),
    ],
)
def test_what_is_no_start_is_refused(project, delivered, start, error, said):
    with pytest.raises(error, match=said):
        lineage(project.platform, start)


def test_a_registry_that_does_not_answer_is_told_and_the_rest_is_shown(project, delivered):
    alone = replace(project.platform)
    # A cached property of a frozen class: what it would find is put in its place.
    alone.__dict__["registry"] = ModelRegistry(f"http://127.0.0.1:{free_port()}")
    found = lineage(alone, "prediction:prediction-1")
    assert "model:delay@1" in _ids(found, "model_version")
    assert found.notes[0].startswith("models:/delay/1: MLflow does not answer")


def test_a_deleted_run_is_in_no_lineage(project):
    rows = project.write("data/gone.csv", "8\n")
    run = project.run(copies, rows=rows, numbers=[1])
    assert len(lineage(project.platform, "dataset:data/gone.csv", "down").nodes) > 2
    delete(project.database, run, actor="user:ann", at=project.platform.clock.now())
    with pytest.raises(NotFoundError):
        lineage(project.platform, "dataset:data/gone.csv", "down")


def test_it_is_json(project, delivered):
    told = json.loads(json.dumps(lineage(project.platform, "prediction:prediction-1").to_dict()))
    assert set(told) == {"start", "direction", "nodes", "edges", "notes"}
    assert set(told["edges"][0]) == {"source", "target", "label", "by"}
