import json
from pathlib import Path

import pytest
from kfp import dsl

from headrace.components import validate


@dsl.pipeline
def validating(files: list[str], suite: str):
    expectations = dsl.importer(artifact_uri=suite, artifact_class=dsl.Artifact)
    with dsl.ParallelFor(files) as file:
        data = dsl.importer(artifact_uri=file, artifact_class=dsl.Dataset)
        validate(data=data.output, suite=expectations.output)


@pytest.fixture(scope="module")
def checked(tables, module_workshop):
    """What came of validating each table, by file name: one run for all, since the library takes seconds to import."""
    files = ["flights.parquet", "flights.csv", "broken.parquet", "narrow.parquet"]
    told, _ = module_workshop.run(
        validating, files=[str(tables / file) for file in files], suite=str(tables / "suite.json")
    )
    tasks = told["run_details"]["task_details"]
    return {Path(task["inputs"]["artifacts"]["data"]["uri"]).name: task for task in tasks if task["name"] == "validate"}


@pytest.mark.parametrize("file", ["flights.parquet", "flights.csv"])
def test_a_good_table_passes_with_a_sentence_a_report_and_numbers(checked, file):
    task = checked[file]
    assert task["state"] == "SUCCEEDED", task["error"]
    outputs = task["outputs_values"]
    assert outputs["Output"] == "all 3 expectations hold"
    assert outputs["metrics"]["metadata"] == {"rows": 40, "failed": 0}
    report = Path(outputs["report"]["uri"]).read_text()
    assert "passed" in report
    assert "✗" not in report


def test_a_broken_table_fails_and_the_message_names_column_and_rows(checked):
    task = checked["broken.parquet"]
    assert task["state"] == "FAILED"
    message = task["error"]["message"]
    assert "broken.parquet is not valid: 1 of 3 expectations do not hold: distance:" in message
    assert "4 rows (10.0 %) break it, such as -7" in message
    report = Path(message.rpartition("The report: ")[2]).read_text()
    assert report.index("✗") < report.index("✓")
    assert "<td>distance</td>" in report


def test_a_table_without_the_column_fails_and_the_message_names_it(checked):
    task = checked["narrow.parquet"]
    assert task["state"] == "FAILED"
    assert "distance" in task["error"]["message"]


def test_a_suite_with_an_unknown_expectation_is_told_with_its_place(module_workshop, tables, tmp_path):
    suite = tmp_path / "suite.json"
    suite.write_text(json.dumps({"expectations": [{"type": "expect_miracles", "kwargs": {}}]}))
    told, _ = module_workshop.run(validating, files=[str(tables / "flights.parquet")], suite=str(suite))
    assert told["state"] == "FAILED"
    assert f"{suite}: expectations[0]: 'expect_miracles' is not an expectation" in told["error"]["message"]
