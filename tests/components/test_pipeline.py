"""The ready components together, as processes of one run: from a table to a rollout, with a person in between."""

import pytest
from kfp import dsl

import headrace.components
from flights import ROLLOUT, SERVICE
from headrace.components import approve, deploy, evaluate, register, validate
from headrace.control.rollouts import rows
from headrace.governance import approvals
from headrace.runs.gaps import gaps


@dsl.pipeline
def delivery(table: str, suite: str, model: str, service: str, rollout: str) -> str:
    data = dsl.importer(artifact_uri=table, artifact_class=dsl.Dataset)
    expectations = dsl.importer(artifact_uri=suite, artifact_class=dsl.Artifact)
    trained = dsl.importer(artifact_uri=model, artifact_class=dsl.Model, metadata={"trees": 60})
    manifest = dsl.importer(artifact_uri=service, artifact_class=dsl.Artifact)
    steps = dsl.importer(artifact_uri=rollout, artifact_class=dsl.Artifact)
    checked = validate(data=data.output, suite=expectations.output)
    judged = evaluate(model=trained.output, holdout=data.output, label="late", registered_name="delay").after(checked)
    with dsl.If(judged.outputs["passed"] == True):  # noqa: E712 - KFP builds a condition from it
        version = register(model=trained.output, metrics=judged.outputs["metrics"], name="delay", data_version="d1")
        agreed = approve(summary=judged.outputs["summary"], model=version.output)
        deploy(model=version.output, manifest=manifest.output, rollout=steps.output).after(agreed)
    return judged.outputs["summary"]


@pytest.fixture(scope="module")
def delivered(module_workshop, tables, models):
    """The run as it waited at its gate, the gate, and the run and its tasks at the end."""
    (module_workshop.folder / "service.yaml").write_text(SERVICE)
    (module_workshop.folder / "rollout.yaml").write_text(ROLLOUT)
    paused, _ = module_workshop.run(
        delivery, table=str(tables / "flights.parquet"), suite=str(tables / "suite.json"), model=str(models / "good"),
        service=str(module_workshop.folder / "service.yaml"), rollout=str(module_workshop.folder / "rollout.yaml"),
    )  # fmt: skip
    (gate,) = approvals.gates(module_workshop.database, "waiting")
    approvals.decide(module_workshop.database, gate.id, at=2e9, actor="user:bob", approve=True, reason="it is better")
    return paused, gate, *module_workshop.drive(paused["run_id"])


def test_the_run_waits_for_a_person_and_shows_the_evidence(delivered):
    paused, gate, _, _ = delivered
    assert paused["state"] == "PAUSED"
    assert gate.question == "May this model take live traffic?"
    assert gate.evidence["model"] == "models:/delay/1"
    assert gate.evidence["evaluation"].startswith("AUC 0.9")


def test_what_was_approved_is_registered_and_rolls_out(delivered, module_workshop):
    _, _, ended, tasks = delivered
    assert ended["state"] == "SUCCEEDED", ended["error"]
    (row,) = rows.active(module_workshop.database)
    assert tasks["deploy"]["outputs_values"]["Output"] == row.id
    assert row.reason == f"run {ended['run_id']}: new data"
    version = module_workshop.registry.version("models:/delay@challenger")
    assert (version.version, version.tags["headrace.run"]) == (1, ended["run_id"])
    run = module_workshop.registry.client.get_run(version.run_id)
    assert run.data.params["trees"] == "60"
    assert run.data.metrics["auc"] == tasks["evaluate"]["outputs_values"]["metrics"]["metadata"]["auc"]


def test_the_curve_of_the_evaluation_is_kept_for_the_console(delivered):
    curve = delivered[3]["evaluate"]["outputs_values"]["curve"]
    assert curve["type"] == "system.ClassificationMetrics"
    assert len(curve["metadata"]["confidenceMetrics"]) > 2


@pytest.mark.parametrize("name", headrace.components.__all__)
def test_each_ready_component_compiles_alone_and_runs_on_the_embedded_engine(name, module_workshop):
    component = getattr(headrace.components, name)
    assert gaps(module_workshop.document(component)) == []
    assert component.description


def test_there_is_no_other_component():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        headrace.components.nonsense  # noqa: B018 - the look-up is what is tested
