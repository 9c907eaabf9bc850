"""What a library does while the warm parent imports it must not come between the parent and the engine."""

from functools import partial

import pytest
from kfp import dsl

from headrace.runs.attempts import log_path

component = partial(dsl.component, base_image="python:3.12")

TALKATIVE = """
import os, subprocess, sys

print("welcome", flush=True)
print("half a line", end="", flush=True)
os.write(1, b"written past Python")
subprocess.run(["sh", "-c", "echo from a program; cat"], check=True)
ASKED = sys.stdin.read()
"""
# Stands for whatever else may get at the descriptors that the parent keeps for itself; then it holds the parent up.
MEDDLING = """
import contextlib, os, signal

for number in range(3, 32):
    with contextlib.suppress(OSError):
        {deed}
while True:
    signal.pause()
"""


@component
def word() -> str:
    return "word"


@component
def importing() -> str:
    import xgboost

    print("the task's own")  # noqa: T201
    return f"<{xgboost.ASKED}>"


@dsl.pipeline
def two():
    word()
    importing()


@pytest.fixture
def library(tmp_path, monkeypatch):
    """Puts code in the place of a library that is imported before the fork."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return (tmp_path / "xgboost.py").write_text


def test_a_library_may_print_and_read_when_it_is_imported(run, home, library, capfd):
    library(TALKATIVE)
    result = run(two)
    assert result.state == "SUCCEEDED", result.error
    assert result.tasks["importing"]["outputs"] == {"Output": "<>"}
    assert log_path(home, result.run_id, "importing", 1).read_text() == "the task's own\n"
    assert "welcome\nhalf a linewritten past Pythonfrom a program\n" in capfd.readouterr().err


@pytest.mark.parametrize(
    "deed",
    [
        r"os.write(number, b'welcome\n')",
        r"""os.write(number, b'{"forked": 77, "pid": 1}\n')""",
        r"os.write(number, b'7\n')",
        "os.close(number)",
    ],
)
def test_a_parent_that_is_not_understood_is_ended_and_fails_its_task_and_no_other(run, library, deed):
    library(MEDDLING.format(deed=deed))
    result = run(two)
    assert result.error == "task importing: the warm parent died 3 times when it was to start the task"
    assert result.tasks["word"]["state"] == "SUCCEEDED"
