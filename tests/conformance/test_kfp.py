"""The edge cases of the KFP contract, judged by the same code as `make conformance`; and that the judge can say no."""

import argparse
import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from headrace.store.home import Home

SCRIPT = Path(__file__).parents[2] / "scripts" / "kfp_conformance.py"
CASES = (
    "all_artifact_types", "cache_key", "condition_named_output", "directory_artifact", "empty_loop", "env_expansion",
    "exit_handler_loop_fail", "ignore_upstream_chain", "loop_named_output", "optional_none", "quote_condition", "types",
)  # fmt: skip


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("kfp_conformance", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    # Its dataclasses look their annotations up there.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def judged(script, shared, tmp_path_factory):
    """Runs cases of the shared folder, each as `change` makes it, and gives the results by the cases' names."""
    folder = shared / "conformance" / "kfp"
    options = argparse.Namespace(
        goldens=tmp_path_factory.mktemp("no") / "goldens" / "there" / "are", cases=folder, slow=False
    )

    def judge(names, change=lambda case: case):
        scratch = tmp_path_factory.mktemp("cases")
        cases = [change(case) for case in script._cases(folder) if case.name in names]
        results = script._run_all(cases, options, Home(scratch / "home"), scratch)
        return {result.case.name: result for result in results}

    return judge


def path_of(name):
    return f"cases/x_{name}.yaml"


@pytest.fixture(scope="module")
def results(judged):
    return judged([path_of(name) for name in CASES])


@pytest.mark.parametrize("name", CASES)
def test_case(results, script, name):
    result = results[path_of(name)]
    assert (result.verdict, result.reason) == (script.PASSED, "")


def test_every_case_of_the_folder_is_run(shared):
    files = (shared / "conformance" / "kfp" / "cases").glob("*.yaml")
    assert sorted(file.stem for file in files) == [f"x_{name}" for name in CASES]


def wrong(part):
    """Gives a change of a case's expectation."""

    def change(case):
        oracle = json.loads(json.dumps(case.oracle))
        part(oracle)
        return replace(case, oracle=oracle)

    return change


def _wrong_output(oracle):
    oracle["outputs"] = {"Output": "something else"}


def _wrong_leaf_output(oracle):
    next(task for task in oracle["tasks"] if task.get("out"))["out"] = {"Output": "something else"}


def _one_task_more(oracle):
    oracle["tasks"].append({**oracle["tasks"][0], "task": "/nobody"})


def _one_task_less(oracle):
    oracle["tasks"].pop(0)


def _another_state(oracle):
    oracle["tasks"][0]["status"] = "FAILED"


def _wrong_content(oracle):
    next(iter(_artifacts(oracle)))["content"] = "something else"


def _one_artifact_more(oracle):
    task = next(task for task in oracle["tasks"] if task.get("artifacts"))
    name, artifact = next(iter(task["artifacts"].items()))
    task["artifacts"][name] = [*(artifact if isinstance(artifact, list) else [artifact]), {}]


def _wrong_metadata(oracle):
    next(iter(_artifacts(oracle)))["metadata"] = {"something": "else"}


def _artifacts(oracle):
    for task in oracle["tasks"]:
        for artifact in (task.get("artifacts") or {}).values():
            yield from artifact if isinstance(artifact, list) else [artifact]


@pytest.mark.parametrize(
    ("name", "part", "reason"),
    [
        ("quote_condition", _wrong_leaf_output, "instead of {'Output': 'something else'}"),
        ("quote_condition", _one_task_more, "missing ['nobody']"),
        ("quote_condition", _one_task_less, "more ['"),
        ("quote_condition", _another_state, "leaf tasks"),
        ("empty_loop", _wrong_output, "instead of {'Output': 'something else'}"),
        ("all_artifact_types", _wrong_content, "instead of 'something else'"),
        ("all_artifact_types", _one_artifact_more, "1 artifacts instead of 2"),
        ("all_artifact_types", _wrong_metadata, "instead of {'something': 'else'}"),
    ],
)
def test_a_wrong_expectation_is_reported_as_failed(judged, script, name, part, reason):
    (result,) = judged([path_of(name)], wrong(part)).values()
    assert result.verdict == script.FAILED
    assert reason in result.reason


def test_a_run_that_ends_otherwise_than_expected_is_reported_as_failed(judged, script):
    (result,) = judged([path_of("types")], lambda case: replace(case, expect="FAILED")).values()
    assert (result.verdict, result.reason) == (script.FAILED, "SUCCEEDED instead of FAILED: ")


def test_a_case_whose_document_is_not_there_cannot_run(judged, script):
    (result,) = judged([path_of("types")], lambda case: replace(case, name="essential/not_there.yaml")).values()
    assert (result.verdict, result.reason) == (script.CANNOT, "its document is not in GOLDENS")


def test_the_command_fails_when_a_case_does_and_says_which(shared, tmp_path):
    folder = shared / "conformance" / "kfp"
    expected = json.loads((folder / "expected.json").read_text())
    (name,) = (name for name in expected if "x_types" in name)
    expected[name]["oracle"]["tasks"][0]["task"] = "/nobody"
    (tmp_path / "expected.json").write_text(json.dumps(expected))
    (tmp_path / "manifest.tsv").write_text((folder / "manifest.tsv").read_text())
    (tmp_path / "cases").symlink_to(folder / "cases")
    only = ["--only", "*x_types*", "--only", "*x_quote*"]
    command = [sys.executable, str(SCRIPT), str(tmp_path / "a" / "b" / "c"), str(tmp_path), *only]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    verdicts = {line.split()[1]: line.split()[2] for line in done.stdout.splitlines() if ".yaml" in line}
    assert verdicts == {"cases/x_quote_condition.yaml": "passed", "cases/x_types.yaml": "failed"}
    assert "T0: 1 passed, 1 failed, 0 cannot run here" in done.stdout
