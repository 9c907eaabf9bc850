"""The server describes itself, and nothing that is sent, whether it fits the description or not, finds a defect."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error


@pytest.fixture(scope="module")
def real(served, client, packages):
    """The ids of things that are there, by the names of path parameters."""
    pipeline = client.upload_pipeline(str(packages("total")), "described")
    (version,) = client.list_pipeline_versions(pipeline.pipeline_id).pipeline_versions
    run = client.create_run_from_pipeline_package(str(packages("total")), run_name="described")
    served.drive(run.run_id)
    recurring = client.create_recurring_run(
        "", "described", interval_second=60, pipeline_package_path=str(packages("total"))
    )
    return {
        "pipeline_id": pipeline.pipeline_id,
        "pipeline": pipeline.pipeline_id,
        "name": "described",
        "pipeline_version_id": version.pipeline_version_id,
        "version": version.pipeline_version_id,
        "run_id": run.run_id,
        "run": run.run_id,
        "recurring_run_id": recurring.recurring_run_id,
        "experiment_id": "default",
    }


@pytest.fixture(scope="module")
def described(served):
    return schemathesis.openapi.from_url(f"{served.address}/openapi.json")


def test_no_request_finds_a_defect(described, real):
    statuses = set()
    for found in described.get_all_operations():
        statuses |= _ask(found.ok(), real)
    assert {200, 400, 404} <= statuses


def _ask(operation, real):
    """Ask one operation for things that do not exist, and for things that do; the statuses of the answers."""
    statuses = set()
    modes = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]
    strategy = st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in modes))

    @settings(max_examples=6, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def ask(case):
        statuses.add(case.call_and_validate(checks=[not_a_server_error]).status_code)
        if case.method != "DELETE" and case.path_parameters:
            case.path_parameters = {name: real.get(name, value) for name, value in case.path_parameters.items()}
            statuses.add(case.call_and_validate(checks=[not_a_server_error]).status_code)

    ask()
    return statuses


def test_every_operation_is_described_once(served):
    status, told = served.send("GET", "/openapi.json")
    assert (status, told["openapi"]) == (200, "3.1.0")
    identities = [operation["operationId"] for path in told["paths"].values() for operation in path.values()]
    assert len(identities) == len(set(identities)) > 40
    create = told["paths"]["/apis/v2beta1/runs"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert create["properties"]["pipeline_version_reference"]["properties"].keys() == {
        "pipeline_id", "pipeline_version_id",
    }  # fmt: skip


def test_an_unknown_path_and_a_wrong_method_look_like_the_interface_they_are_below(served):
    status, told = served.send("GET", "/apis/v2beta1/nothing")
    assert (status, told["code"]) == (404, 5)
    status, told = served.send("PUT", "/apis/v2beta1/runs")
    assert (status, told["code"]) == (405, 12)
    status, told = served.send("GET", "/nothing")
    assert (status, set(told)) == (404, {"error", "remedy"})
