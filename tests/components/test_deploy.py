import json

import pytest
from kfp import dsl

from headrace.components import deploy
from headrace.control.rollouts import rows
from headrace.errors import DocumentError, NotFoundError

SERVICE = """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: delay, namespace: flights}
spec:
  predictor:
    model:
      modelFormat: {name: mlflow}
      storageUri: models:/delay@champion
"""
ROLLOUT = """\
apiVersion: headrace.dev/v1alpha1
kind: Rollout
metadata: {name: delay}
spec:
  strategy:
    canary:
      steps:
      - setWeight: 5
      - pause: {}
"""


@pytest.fixture
def version(workshop, models):
    return workshop.registry.register(
        "delay", models / "good", key="k", run_name="r", parameters={}, metrics={}, tags={}
    )


@pytest.fixture
def deployed(inside, version, tmp_path):
    """Deploys as the task would; the rollout's id."""

    def once(model="models:/delay@challenger", service=SERVICE):
        artifacts = {}
        for name, text in (("manifest", service), ("rollout", ROLLOUT)):
            (tmp_path / f"{name}.yaml").write_text(text)
            artifacts[name] = dsl.Artifact(name=name, uri=str(tmp_path / f"{name}.yaml"))
        return deploy.python_func(model=model, **artifacts)

    return once


def test_a_rollout_to_the_pinned_version_starts(deployed, workshop, version):
    started = deployed()
    (row,) = rows.active(workshop.database)
    assert row.id == started
    assert (row.service, row.state, row.weight, row.from_revision) == ("delay", "Progressing", 0, None)
    assert (row.actor, row.reason) == ("user:ann", "run run1: new data")
    assert [step.weight for step in row.document.steps][:1] == [5]
    revision = workshop.database.one("SELECT * FROM revision WHERE id = ?", (row.to_revision,))
    assert (revision["model_uri"], revision["namespace"]) == (version.uri, "flights")
    assert revision["model_path"] == str(workshop.registry.folder(version.uri))


def test_the_share_and_the_files_of_a_manifest_count_as_they_do_on_the_command_line(deployed, workshop, inside):
    inside.setenv("HEADRACE_PROJECT", "/project")
    own = "  transformer:\n    containers: [{name: own, args: [--model_class=own.py:Own]}]\n"
    deployed(service=SERVICE.replace("    model:", "    canaryTrafficPercent: 10\n    model:") + own)
    (row,) = rows.active(workshop.database)
    assert [(step.kind, step.weight) for step in row.document.steps] == [("setWeight", 10), ("pause", 0)]
    settings = workshop.database.one("SELECT settings FROM revision WHERE id = ?", (row.to_revision,))["settings"]
    assert json.loads(settings)["transformer"] == "/project/own.py:Own"


def test_a_task_that_is_done_again_starts_no_second_rollout(deployed, workshop):
    assert deployed() == deployed()
    assert len(rows.find(workshop.database, "1")) == 1


def test_another_run_replaces_the_unfinished_rollout(deployed, workshop, inside):
    first = deployed()
    inside.setenv("HEADRACE_RUN_ID", "run2")
    second = deployed()
    assert {row.id: row.state for row in rows.find(workshop.database, "1")} == {
        first: "Aborted", second: "Progressing",
    }  # fmt: skip


def test_a_wrong_manifest_is_told_with_its_file_and_starts_nothing(deployed, workshop, tmp_path):
    with pytest.raises(DocumentError, match=str(tmp_path / "manifest.yaml")):
        deployed(service=SERVICE.replace("InferenceService", "Deployment"))
    assert rows.find(workshop.database, "1") == []


def test_a_model_that_is_not_registered_starts_nothing(deployed, workshop):
    with pytest.raises(NotFoundError, match="models:/delay/9"):
        deployed(model="models:/delay/9")
    assert rows.find(workshop.database, "1") == []
