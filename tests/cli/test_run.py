import re
import signal
import subprocess

import pytest
from kfp_server_api.models.v2beta1_pipeline_task_detail import V2beta1PipelineTaskDetail
from kfp_server_api.models.v2beta1_run import V2beta1Run

from headrace.project.compile import compile_pipeline
from headrace.store.locks import FileLock

SUM = """
from kfp import dsl

@dsl.component
def add(a: int, b: int) -> int:
    return a + b

@dsl.pipeline(name="sum")
def total(a: int = 1) -> int:
    return add(a=a, b=2).output

_hidden = total
"""

TYPES = """
from kfp import dsl

@dsl.component
def tell(a: int, b: float, c: bool, d: str, e: list, f: dict) -> str:
    return repr((a, b, c, d, e, f))

@dsl.pipeline(name="types")
def types(a: int, b: float, c: bool, d: str, e: list, f: dict) -> str:
    return tell(a=a, b=b, c=c, d=d, e=e, f=f).output
"""

REPORT = """
from typing import NamedTuple
from kfp import dsl

@dsl.component
def measure(table: dsl.Output[dsl.Dataset], scores: dsl.Output[dsl.Metrics]) -> float:
    with open(table.path, "w") as stream:
        stream.write("a,b")
    table.metadata["rows"] = 1
    scores.log_metric("auc", float("nan"))
    return float("inf")

@dsl.pipeline(name="report")
def report() -> NamedTuple("Out", [("score", float), ("table", dsl.Dataset)]):
    measured = measure()
    return NamedTuple("Out", [("score", float), ("table", dsl.Dataset)])(
        measured.outputs["Output"], measured.outputs["table"]
    )
"""

GATED = """
from kfp import dsl

@dsl.component
def measure() -> float:
    return 0.75

@dsl.container_component
def ask(auc: float, weight: dsl.OutputPath(int), decided_by: dsl.OutputPath(str)):
    return dsl.ContainerSpec(
        image="kfp://human-input",
        command=["wait"],
        args=['{"question": "Go on?", "parameters": {"weight": {"default": 5, "description": "percent"}}}',
              "--evidence.auc", auc],
    )

@dsl.component
def ship(weight: int, who: str) -> str:
    return f"{weight} by {who}"

@dsl.pipeline(name="gated")
def gated() -> str:
    asked = ask(auc=measure().output)
    return ship(weight=asked.outputs["weight"], who=asked.outputs["decided_by"]).output
"""

# Counts that the first step ran, and waits in the second one for a file.
TWO_STEPS = """
from kfp import dsl

@dsl.component
def count(file: str) -> str:
    with open(file, "a") as stream:
        stream.write("ran\\n")
    return file

@dsl.component
def wait(file: str):
    import pathlib, time
    pathlib.Path(file + ".waits").touch()
    while not pathlib.Path(file + ".go").exists():
        time.sleep(0.05)

@dsl.pipeline(name="two-steps")
def two_steps(file: str):
    wait(file=count(file=file).output)
"""


def test_a_file_its_function_and_a_compiled_document_are_the_same_pipeline(headrace):
    headrace.write(sum__py=SUM)
    headrace.write(sum__yaml=compile_pipeline(headrace.folder / "sum.py"))
    ran = [headrace.json("run", which) for which in ("sum.py", "sum.py:total", "sum.yaml")]
    assert [run["outputs"] for run in ran] == [{"Output": 3}] * 3
    assert [run["run_details"]["task_details"][0]["cached"] for run in ran] == [False, True, True]
    assert headrace.json("run", "sum.py:add", "-p", "a=2", "-p", "b=3")["outputs"] == {"Output": 5}


def test_a_name_in_headrace_toml_brings_its_parameters_from_any_folder_below(headrace):
    headrace.write(
        sum__py=SUM,
        headrace__toml='[project]\nname = "p"\n[pipelines.five]\nsource = "sum.py:total"\nparameters = { a = 5 }\n',
    )
    git = ["git", "-C", str(headrace.folder), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    (headrace.folder / "below").mkdir()
    headrace.home = None  # so that the state is beside headrace.toml
    run = headrace.json("run", "five", cwd=headrace.folder / "below")
    assert (run["pipeline"], run["environment"], run["outputs"]) == ("five", "dev", {"Output": 7})
    assert run["commit"] == subprocess.check_output([*git, "rev-parse", "HEAD"], text=True).strip()
    assert (headrace.folder / ".headrace" / "headrace.db").is_file()
    assert headrace.json("run", "five", "-p", "a=7")["runtime_config"] == {"parameters": {"a": 7}}


@pytest.mark.parametrize(
    ("given", "arrives"),
    [
        (["a=-1", "b=3", "c=True", "d=7", "e=[1, 2.5]", 'f={"x": [true, null]}'],
         (-1, 3.0, True, "7", [1, 2.5], {"x": [True, None]})),
        (["a=0", "b=1e-3", "c=false", "d=x = y", "e=[]", "f={}"], (0, 0.001, False, "x = y", [], {})),
    ],
)  # fmt: skip
def test_values_arrive_as_the_type_that_the_pipeline_declares(shared_headrace, given, arrives):
    shared_headrace.write(kinds__py=TYPES)
    options = [word for pair in given for word in ("-p", pair)]
    assert shared_headrace.json("run", "kinds.py", *options)["outputs"] == {"Output": repr(arrives)}


def test_json_is_one_kfp_run_with_what_came_out_and_no_cache_runs_it_again(headrace):
    headrace.write(report__py=REPORT)
    first, second = headrace.json("run", "report.py"), headrace.json("run", "report.py")
    again = headrace.json("run", "report.py", "--no-cache")
    assert set(first) - set(V2beta1Run.openapi_types) == {
        "outputs", "pipeline", "environment", "commit", "actor", "reason", "started_at",
    }  # fmt: skip
    (task,) = first["run_details"]["task_details"]
    assert set(task) - set(V2beta1PipelineTaskDetail.openapi_types) == {"name", "attempts", "outputs_values", "cached"}
    assert (first["state"], first["error"], task["state"]) == ("SUCCEEDED", None, "SUCCEEDED")
    table = first["outputs"]["table"]
    assert (table["type"], table["metadata"]) == ("system.Dataset", {"rows": 1})
    assert first["outputs"]["score"] == "Infinity"
    assert task["outputs_values"]["table"] == table
    assert task["outputs_values"]["scores"]["metadata"] == {"auc": "NaN"}
    assert [run["run_details"]["task_details"][0]["cached"] for run in (first, second, again)] == [False, True, False]
    assert second["outputs"]["table"] == table
    assert again["outputs"]["table"]["uri"] != table["uri"]


def test_a_person_sees_each_task_and_the_outputs(headrace):
    headrace.write(sum__py=SUM)
    done = headrace("run", "sum.py")
    first, task, last, output = done.stdout.splitlines()
    run_id = headrace.newest()
    assert first == f"Run {run_id} of sum"
    assert task.startswith("  ✓ add ")
    assert (last, output) == (f"Run {run_id} SUCCEEDED", "  Output = 3")
    assert headrace("run", "sum.py").stdout.splitlines()[1].split() == ["✓", "add", "from", "cache"]
    latin = headrace("run", "sum.py", extra={"PYTHONIOENCODING": "latin-1"})
    assert (latin.returncode, latin.stdout.splitlines()[1].split()[:2]) == (0, ["?", "add"])


def test_a_run_waits_at_a_gate_until_somebody_approves(headrace):
    headrace.write(gated__py=GATED)
    waiting = headrace("run", "gated.py")
    assert waiting.returncode == 3
    (gate,) = headrace.json("approvals", "list")
    run_id = headrace.newest()
    assert f"headrace approvals approve {gate['id']} && headrace runs resume {run_id}" in waiting.stdout
    assert "auc: 0.75" in waiting.stdout

    still = headrace.json("runs", "resume", run_id, code=3)
    assert (still["state"], still["finished_at"]) == ("PAUSED", None)
    shown = headrace("approvals", "show", gate["id"]).stdout
    assert "weight (percent; without -p weight=VALUE: 5)" in shown
    assert gate["id"] in headrace("approvals", "list").stdout

    unasked = headrace("approvals", "approve", gate["id"], "-p", "size=3")
    assert (unasked.returncode, "It asks for: weight." in unasked.stderr) == (2, True)
    approve = ["approvals", "approve", gate["id"], "-m", "AUC is up", "--actor", "ann"]
    assert headrace.json(*approve, "-p", "weight=20")["state"] == "approved"
    late = headrace(*approve)
    assert (late.returncode, "is approved already" in late.stderr) == (1, True)

    resumed = headrace.json("runs", "resume", run_id[:6])
    assert (resumed["state"], resumed["outputs"]) == ("SUCCEEDED", {"Output": "20 by user:ann"})
    assert headrace("approvals", "list").stdout == "Nothing waits for a person.\n"
    assert [g["state"] for g in headrace.json("approvals", "list", "--all")] == ["approved"]
    shown = headrace("approvals", "show", gate["id"]).stdout
    assert "weight (given: 20)" in shown
    assert "approved by user:ann" in shown
    assert "AUC is up" in shown


def test_a_rejected_run_fails_with_the_reason(headrace):
    headrace.write(gated__py=GATED)
    run = headrace.json("run", "gated.py", code=3)
    (gate,) = headrace.json("approvals", "list")
    why = headrace("approvals", "reject", gate["id"])
    assert (why.returncode, "--reason" in why.stderr) == (2, True)
    assert headrace("approvals", "reject", gate["id"], "-m", "too low", "--actor", "bob").returncode == 0
    resumed = headrace("runs", "resume", run["run_id"])
    assert resumed.returncode == 1
    assert "ask: rejected by user:bob: too low" in resumed.stdout
    assert headrace.json("runs", "show", run["run_id"])["error"]["message"] == "task ask: rejected by user:bob: too low"


def test_resume_waits_for_the_server_to_read_what_was_decided(headrace, runner):
    headrace.write(gated__py=GATED)
    run_id = headrace.json("run", "gated.py", code=3)["run_id"]
    (gate,) = headrace.json("approvals", "list")
    assert headrace("approvals", "approve", gate["id"]).returncode == 0
    lock = FileLock(runner.home.server_lock)
    assert lock.acquire({"port": 8080})  # as a server does that has not come round to this run yet
    resumed = headrace.start("runs", "resume", run_id)
    assert "✓ measure" in resumed.stdout.readline()
    assert runner.drive(run_id).state == "SUCCEEDED"
    lock.release()
    said, _ = resumed.communicate()
    assert (resumed.returncode, f"Run {run_id} SUCCEEDED" in said) == (0, True)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_was_cut_off_goes_on_without_repeating_what_is_done(headrace, until, how):
    headrace.write(two__py=TWO_STEPS)
    file = headrace.folder / "counted"
    running = headrace.start("run", "two.py", "-p", f"file={file}")
    until((headrace.folder / "counted.waits").exists)
    running.send_signal(how)
    _, said = running.communicate()
    run_id = headrace.newest()
    if how == signal.SIGINT:
        assert running.returncode == 130
        assert f"headrace runs resume {run_id}" in said
    (headrace.folder / "counted.go").touch()
    resumed = headrace.json("runs", "resume", run_id)
    assert (resumed["state"], file.read_text()) == ("SUCCEEDED", "ran\n")


def test_a_second_terminal_follows_the_run_and_a_third_cancels_it_for_all(headrace, until):
    headrace.write(two__py=TWO_STEPS)
    first = headrace.start("run", "two.py", "-p", f"file={headrace.folder / 'counted'}")
    until((headrace.folder / "counted.waits").exists)
    run_id = headrace.newest()
    second = headrace.start("runs", "resume", run_id)
    assert "✓ count" in second.stdout.readline()
    canceled = headrace("runs", "cancel", run_id, "-m", "enough")
    assert (canceled.returncode, canceled.stdout) == (0, f"Run {run_id} is CANCELED.\n")
    for process in (first, second):
        said, _ = process.communicate()
        assert f"Run {run_id} CANCELED" in said
        assert process.returncode == 1


READING = """
from functools import partial
from kfp import dsl

@partial(dsl.component, base_image="python:3.12")
def read(data: dsl.Input[dsl.Dataset]) -> str:
    return open(data.path).read()

@dsl.pipeline
def reading(data: dsl.Input[dsl.Dataset]) -> str:
    return read(data=data).output
"""


def test_an_input_artifact_is_given_as_a_path_from_where_the_command_is_typed(headrace):
    headrace.write(reading__py=READING)
    below = headrace.folder / "below"
    below.mkdir()
    (below / "a=b.csv").write_text("a,b")
    run = headrace.json("run", "../reading.py:reading", "-p", "data=a=b.csv", cwd=below)
    assert (run["state"], run["outputs"]) == ("SUCCEEDED", {"Output": "a,b"})
    missing = headrace("run", "reading.py:reading", "-p", "data=a=b.csv")
    assert missing.returncode == 2
    assert "input artifact data: a=b.csv does not exist" in missing.stderr
    none = headrace("run", "reading.py:reading")
    assert (none.returncode, "needs the artifact data (system.Dataset)" in none.stderr) == (2, True)
    assert "-p data=PATH" in none.stderr


LOOP = """
from functools import partial
from kfp import dsl

component = partial(dsl.component, base_image="python:3.12")

@component
def check(n: int, bad: int) -> int:
    assert n != bad, "this one"
    return n

@component
def total(numbers: list) -> int:
    return sum(numbers)

@dsl.pipeline(name="loop")
def loop(bad: int = 0) -> int:
    with dsl.ParallelFor([1, 2, 3, 4]) as n:
        checked = check(n=n, bad=bad)
    return total(numbers=dsl.Collected(checked.output)).output
"""


def test_a_loop_has_one_line_and_what_fails_in_it_one_of_its_own(headrace):
    headrace.write(loop__py=LOOP)
    first, second = [line for line in headrace("run", "loop.py").stdout.splitlines() if "✓" in line]
    assert re.search(r"✓ for-loop-\d/\*/check +4 times, ", first)
    assert "✓ total" in second
    assert re.search(r"✓ for-loop-\d/\*/check +4 times, .*, 4 from cache", headrace("run", "loop.py").stdout)
    failed = headrace("run", "loop.py", "-p", "bad=3", "--no-cache").stdout
    assert re.search(r"✗ for-loop-\d/2/check", failed)
    # Whether the fourth had begun by the time the third failed is left to the machine.
    assert re.search(r"✓ for-loop-\d/\*/check +[23] times, ", failed)
