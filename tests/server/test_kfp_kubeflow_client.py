"""The client of the Kubeflow SDK, which comes with kfp 2.17: names instead of ids, and it knows every state."""

import warnings

import pytest
from kfp.kubeflow_client import KubernetesBackendConfig, PipelinesClient


@pytest.fixture
def pipelines(served):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = PipelinesClient(KubernetesBackendConfig(base_url=served.address, namespace="team"))
    yield made
    made._backend.run_api.api_client.rest_client.pool_manager.clear()


def test_a_pipeline_is_uploaded_run_and_waited_for_by_name(pipelines, served, packages, name):
    first = pipelines.upload_pipeline(str(packages("total")), name=name, version="v1")
    second = pipelines.upload_pipeline(str(packages("tree")), name=name, version="v2")
    assert (first.display_name, second.display_name) == ("v1", "v2")
    assert pipelines.get_pipeline_version(name, "v1").pipeline_version_id == first.pipeline_version_id
    assert len(pipelines.list_pipeline_versions(name).pipeline_versions) == 2
    pipelines.create_experiment(name)
    run = pipelines.run(name, version="v1", params={"a": 4}, experiment=name)
    served.drive(run.run_id)
    assert pipelines.wait_for_run_status(run, timeout=10).state == "SUCCEEDED"
    assert [found.run_id for found in pipelines.list_runs(experiment=name, status="succeeded").runs] == [run.run_id]
    pipelines.delete_pipeline(name, force=True)
    with pytest.raises(ValueError, match="not found"):
        pipelines.get_pipeline(name)


def test_a_canceled_run_is_an_end(pipelines, served, client, packages, name):
    run = pipelines.run(str(packages("total")), name=name)
    client.terminate_run(run.run_id)
    served.drive(run.run_id)
    assert pipelines.wait_for_run_status(run, timeout=10).state == "CANCELED"
