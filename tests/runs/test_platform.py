"""What kfp-kubernetes adds to a pipeline: what is honoured, what is told, and what is refused."""

from functools import partial

import pytest
import yaml
from kfp import dsl, kubernetes

from headrace.contracts import pipeline_spec
from headrace.errors import UnsupportedError
from headrace.runs import platform
from headrace.runs.executors import container
from headrace.runs.gaps import gaps

component = partial(dsl.component, base_image="python:3.12")


@component
def plain(text: str = "") -> str:
    return text


def pipeline_with(add):
    """A pipeline with one task, to which `add` adds something."""

    @dsl.pipeline(name="one")
    def one(name: str = "given"):
        add(plain(text=name))

    return one


FATAL = {
    "secretAsEnv": lambda task: kubernetes.use_secret_as_env(task, "s", {"key": "VARIABLE"}),
    "secretAsVolume": lambda task: kubernetes.use_secret_as_volume(task, "s", "/s"),
    "configMapAsEnv": lambda task: kubernetes.use_config_map_as_env(task, "c", {"key": "VARIABLE"}),
    "configMapAsVolume": lambda task: kubernetes.use_config_map_as_volume(task, "c", "/c"),
    "pvcMount": lambda task: kubernetes.mount_pvc(task, "claim", "/data"),
    "genericEphemeralVolume": lambda task: kubernetes.add_ephemeral_volume(task, "v", "/v", ["ReadWriteOnce"], "1Gi"),
    "emptyDirMounts": lambda task: kubernetes.empty_dir_mount(task, "v", "/v"),
    "fieldPathAsEnv": lambda task: kubernetes.use_field_path_as_env(task, "POD", "metadata.name"),
}
STEERING = {
    "nodeSelector": lambda task: kubernetes.add_node_selector(task, "disk", "ssd"),
    "nodeAffinity": lambda task: kubernetes.add_node_affinity(
        task, match_expressions=[{"key": "disk", "operator": "In", "values": ["ssd"]}]
    ),
    "tolerations": lambda task: kubernetes.add_toleration(task, key="gpu"),
    "podMetadata": lambda task: kubernetes.add_pod_label(task, "team", "a"),
    "imagePullSecret": lambda task: kubernetes.set_image_pull_secrets(task, ["s"]),
    "imagePullPolicy": lambda task: kubernetes.set_image_pull_policy(task, "Always"),
    "securityContext": lambda task: kubernetes.set_security_context(task, run_as_user=1000),
    "secretAsEnv": lambda task: kubernetes.use_secret_as_env(task, "s", {"key": "VARIABLE"}, optional=True),
}  # fmt: skip


@pytest.mark.parametrize("name", FATAL)
def test_what_a_component_would_see_is_refused_before_anything_runs(runner, compiled, name):
    with pytest.raises(UnsupportedError, match=rf"component plain .* \({name}\)") as raised:
        runner.create(compiled(pipeline_with(FATAL[name])))
    assert raised.value.remedy.startswith("Use an engine on a Kubernetes cluster, or ")
    assert runner.database.query("SELECT * FROM run") == []


@pytest.mark.parametrize("name", STEERING)
def test_what_only_says_where_a_component_runs_is_told_and_it_runs(runner, compiled, document, name):
    pipeline = pipeline_with(STEERING[name])
    (gap,) = gaps(document(pipeline))
    assert (gap.component, gap.fatal, gap.problem.endswith(f"({name})")) == ("plain", False, True)
    assert runner.run(compiled(pipeline)).state == "SUCCEEDED"


def test_a_timeout_is_honoured_and_no_gap(document):
    found = document(pipeline_with(lambda task: kubernetes.set_timeout(task, 30)))
    assert gaps(found) == []
    assert platform.timeout_seconds(platform.executor_config(found.platform, "exec-plain")) == 30


@dsl.pipeline
def with_a_claim():
    claim = kubernetes.CreatePVC(access_modes=["ReadWriteOnce"], size="1Gi", pvc_name_suffix="-data")
    kubernetes.DeletePVC(pvc_name=claim.outputs["name"]).after(plain())


@pytest.mark.parametrize("engine", ["true run", ""])
@pytest.mark.parametrize("run_on_host", [False, True])
def test_tasks_that_only_a_cluster_does_are_no_images(document, monkeypatch, engine, run_on_host):
    monkeypatch.setattr(container, "find", lambda: engine or None)
    told = [(str(gap), gap.fatal) for gap in gaps(document(with_a_claim), run_on_host=run_on_host)]
    assert told == [
        ("component createpvc creates a volume claim (argostub/createpvc)", True),
        ("component deletepvc deletes a volume claim (argostub/deletepvc)", True),
    ]


CONFIGURED = dsl.PipelineConfig(
    workspace=dsl.WorkspaceConfig("1Gi", dsl.KubernetesWorkspaceConfig({"storageClassName": "fast"})),
    ttl_seconds_after_finished=1, ttl_seconds_after_success=2, ttl_seconds_after_failure=3, active_deadline_seconds=60,
)  # fmt: skip


@dsl.pipeline(pipeline_config=CONFIGURED)
def configured():
    plain()


def test_what_the_pipeline_itself_asks_for_is_told_and_it_runs(runner, compiled, document):
    told = [gap.problem for gap in gaps(document(configured))]
    assert told == [
        "deletes its resources after a time (resourceTtlOnCompletion)",
        "deletes its resources after a time (resourceTtlOnFailure)",
        "deletes its resources after a time (resourceTtlOnSuccess)",
        "limits its workspace to 1Gi (workspace.size)",
        "says what kind of volume its workspace is (workspace.kubernetes.pvcSpecPatch)",
    ]
    assert not any(gap.fatal for gap in gaps(document(configured)))
    assert runner.run(compiled(configured)).state == "SUCCEEDED"


@pytest.mark.parametrize(
    ("kubernetes_spec", "told"),
    [
        ({"pipelineConfig": {"mutex": "m"}}, ["the pipeline asks for something that only a cluster has (mutex)"]),
        ({"pipelineConfig": {"workspace": None, "resourceTtlOnSuccess": 0}}, []),
        ({"deploymentSpec": {"executors": {"exec-plain": {"podAffinity": {}, "tolerations": []}}}}, []),
        (
            {"deploymentSpec": {"executors": {"exec-plain": {"somethingNew": {"a": 1}}}}},
            ["component plain asks for something that only a cluster has (somethingNew)"],
        ),
        ({"deploymentSpec": {"executors": {"exec-of-nobody": {"secretAsEnv": [{"secretName": "s"}]}}}}, []),
        ({"deploymentSpec": None, "pipelineConfig": None}, []),
    ],
)  # fmt: skip
def test_nothing_that_is_asked_for_is_dropped_in_silence(compiled, kubernetes_spec, told):
    second = yaml.safe_dump({"platforms": {"kubernetes": kubernetes_spec}})
    text = f"{compiled(pipeline_with(lambda task: None))}\n---\n{second}"
    assert [str(gap) for gap in gaps(pipeline_spec.parse(text, "one.yaml"))] == told


def test_settings_for_other_platforms_are_told(compiled):
    text = f"{compiled(pipeline_with(lambda task: None))}\n---\nplatforms: {{vertex: {{a: 1}}}}\n"
    (gap,) = gaps(pipeline_spec.parse(text, "one.yaml"))
    assert (str(gap), gap.fatal) == ("the pipeline has settings for the platform vertex", False)


def test_the_document_of_a_run_is_the_text_that_came(runner, compiled, database):
    text = compiled(configured) + "# a remark\n"
    run_id = runner.create(text)
    (row,) = database.query("SELECT document FROM run WHERE id = ?", (run_id,))
    assert row["document"] == text
