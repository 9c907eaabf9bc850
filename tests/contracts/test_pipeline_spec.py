"""What is wrong with a compiled pipeline is said before anything runs, with the file and the field."""

import pytest
import yaml

from headrace.contracts import pipeline_spec
from headrace.errors import DocumentError


def _document(tasks, components=None):
    leaf = {"executorLabel": "exec-leaf"}
    return yaml.safe_dump(
        {
            "pipelineInfo": {"name": "p"},
            "schemaVersion": "2.1.0",
            "root": {"dag": {"tasks": tasks}},
            "components": {"comp-leaf": leaf, **(components or {})},
            "deploymentSpec": {"executors": {"exec-leaf": {"container": {"image": "python", "command": ["true"]}}}},
        }
    )


def _task(component="comp-leaf", after=()):
    return {"componentRef": {"name": component}, "dependentTasks": list(after)}


def _refusal(text):
    with pytest.raises(DocumentError) as caught:
        pipeline_spec.parse(text, "p.yaml")
    assert caught.value.file == "p.yaml"
    return f"{caught.value.field} {caught.value.problem}"


def test_a_pipeline_of_tasks_in_order_is_read():
    document = pipeline_spec.parse(_document({"a": _task(), "b": _task(after=["a"])}), "p.yaml")
    assert document.name == "p"
    assert sorted(document.spec.root.dag.tasks) == ["a", "b"]


def test_tasks_that_wait_for_each_other_are_refused():
    told = _refusal(_document({"a": _task(after=["b"]), "b": _task(after=["a"])}))
    assert "root.dag.tasks" in told
    assert "waits for itself" in told


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("pipelineInfo", _document({"a": _task()}).replace("name: p", "name: ../p")),
        ("root.dag.tasks", _document({"../../a": _task()})),
        ("components", _document({"a": _task("comp-../a")}, {"comp-../a": {"executorLabel": "exec-leaf"}})),
        (
            "components.comp-b.outputDefinitions",
            _document(
                {"a": _task("comp-b")},
                {"comp-b": {"executorLabel": "exec-leaf", "outputDefinitions": {"artifacts": {"..": {}}}}},
            ),
        ),
    ],
)
def test_a_name_that_leads_out_of_its_folder_is_refused(field, text):
    told = _refusal(text)
    assert told.startswith(f"{field} ")
    assert "is a path, where a name is wanted" in told


def test_a_component_that_contains_itself_is_refused():
    inner = {"comp-inner": {"dag": {"tasks": {"again": _task("comp-inner")}}}}
    told = _refusal(_document({"a": _task("comp-inner")}, inner))
    assert "comp-inner > comp-inner" in told


@pytest.mark.parametrize(
    ("tasks", "named"),
    [({"a": _task("comp-missing")}, "comp-missing"), ({"a": _task(after=["nobody"])}, "nobody")],
)
def test_references_that_lead_nowhere_are_named(tasks, named):
    assert f'refers to "{named}"' in _refusal(_document(tasks))


@pytest.mark.parametrize(
    ("output", "field"),
    [
        ({"parameters": {"n": {"valueFromParameter": {"producerSubtask": "nobody"}}}}, "parameters.n"),
        (
            {"parameters": {"n": {"valueFromOneof": {"parameterSelectors": [
                {"producerSubtask": "a"}, {"producerSubtask": "nobody"}]}}}},
            "parameters.n",
        ),
        ({"artifacts": {"m": {"artifactSelectors": [{"producerSubtask": "nobody"}]}}}, "artifacts.m"),
    ],
)  # fmt: skip
def test_outputs_of_a_task_that_is_not_there_are_refused(output, field):
    group = {"comp-group": {"dag": {"tasks": {"a": _task()}, "outputs": output}}}
    told = _refusal(_document({"g": _task("comp-group")}, group))
    assert f'components.comp-group.dag.outputs.{field}: refers to "nobody", which the document does not hold' in told


def test_a_loop_over_an_artifact_that_it_is_not_given_is_refused():
    loop = {**_task(), "artifactIterator": {"items": {"inputArtifact": "data"}, "itemInput": "one"}}
    assert 'root.dag.tasks.a.artifactIterator: refers to "data"' in _refusal(_document({"a": loop}))


@pytest.mark.parametrize("text", ["a: [", "just text", "pipelineInfo: {name: p}", "pipelineInfo: {nome: p}"])
def test_what_is_no_compiled_pipeline_is_refused(text):
    assert _refusal(text)


WHOLE = _document({"a": _task()})


@pytest.mark.parametrize(
    ("second", "told"),
    [
        ("a: [", "not valid YAML"),
        ("just text", "not a compiled pipeline"),
        ("other: {}", "after the pipeline stands something that is no platform document"),
        ("platforms: []", "after the pipeline stands something that is no platform document"),
        ("platforms: {}\n---\nplatforms: {}", "after the pipeline stands something that is no platform document"),
        ("platforms: {kubernetes: text}", "platforms.kubernetes: is no mapping"),
        ("platforms: {kubernetes: {pipelineConfig: [1]}}", "pipelineConfig: is no mapping"),
        ("platforms: {kubernetes: {pipelineConfig: {workspace: 3}}}", "workspace: is no mapping"),
        ("platforms: {kubernetes: {deploymentSpec: {executors: [exec-leaf]}}}", "executors: is no mapping"),
        ("platforms: {kubernetes: {deploymentSpec: {executors: {exec-leaf: 1}}}}", "exec-leaf: is no mapping"),
        (
            "platforms: {kubernetes: {deploymentSpec: {executors: {exec-leaf: {activeDeadlineSeconds: soon}}}}}",
            "platforms.kubernetes.deploymentSpec.executors.exec-leaf.activeDeadlineSeconds: must be a number of"
            " seconds, not 'soon'",
        ),
        (
            "platforms: {kubernetes: {pipelineConfig: {activeDeadlineSeconds: -1}}}",
            "platforms.kubernetes.pipelineConfig.activeDeadlineSeconds: must be a number of seconds, not -1",
        ),
    ],
)
def test_a_platform_document_that_is_none_is_refused(second, told):
    assert told in _refusal(f"{WHOLE}---\n{second}\n")


@pytest.mark.parametrize(
    "second",
    ["", "---\n", "---\nplatforms: {kubernetes: }\n", "---\nplatforms: {other: {any: thing}}\n"],
)
def test_a_platform_document_may_be_empty_or_for_another_platform(second):
    document = pipeline_spec.parse(f"{WHOLE}{second}", "p.yaml")
    assert (document.name, document.text) == ("p", f"{WHOLE}{second}")


PLATFORM = {"platforms": {"kubernetes": {"pipelineConfig": {"activeDeadlineSeconds": 5}}}}


@pytest.mark.parametrize("seconds", [5, 5.0, "5"])
def test_seconds_may_have_come_through_json_as_a_float_or_a_text(seconds):
    told = {"platforms": {"kubernetes": {"pipelineConfig": {"activeDeadlineSeconds": seconds}}}}
    document = pipeline_spec.parse(f"{WHOLE}---\n{yaml.safe_dump(told)}", "p.yaml")
    assert document.platform == told


@pytest.mark.parametrize(("spec", "platform"), [("pipeline_spec", "platform_spec"), ("pipelineSpec", "platformSpec")])
def test_both_documents_may_come_as_fields_of_one(spec, platform):
    one = pipeline_spec.parse(yaml.safe_dump({spec: yaml.safe_load(WHOLE), platform: PLATFORM}), "p.yaml")
    two = pipeline_spec.parse(f"{WHOLE}---\n{yaml.safe_dump(PLATFORM)}", "p.yaml")
    assert (one.platform, one.name) == (two.platform, two.name) == (PLATFORM, "p")
