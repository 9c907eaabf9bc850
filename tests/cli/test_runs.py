import os
import signal

import pytest

from headrace.contracts import pipeline_spec
from headrace.processes import alive, created
from headrace.project.compile import compile_pipeline
from headrace.runs.submit import create_run
from headrace.store import events

PIPELINES = """
from kfp import dsl

@dsl.component
def prepare() -> int:
    print("prepared three rows")
    return 3

@dsl.component
def finish(rows: int, needs: str) -> int:
    import pathlib
    print("looking for", pathlib.Path(needs).name)
    if not pathlib.Path(needs).exists():
        raise FileNotFoundError(needs)
    return rows

@dsl.pipeline(name="good")
def good() -> int:
    return prepare().output

@dsl.pipeline(name="needy")
def needy(needs: str) -> int:
    with dsl.If(prepare().output > 0):
        finish(rows=1, needs=needs)
    return prepare().set_display_name("again").output
"""


@pytest.fixture(scope="module")
def ran(shared_headrace):
    """Two runs, the newer one failed; each as its own --json told of it."""
    shared_headrace.write(p__py=PIPELINES)
    shared_headrace.good = shared_headrace.json("run", "p.py:good")
    shared_headrace.bad = shared_headrace.json("run", "p.py:needy", "-p", "needs=/nowhere", code=1)
    return shared_headrace


def _create(database, document):
    """A run that nobody has driven yet."""
    return create_run(database, document, pipeline="p", parameters={}, environment="dev", actor="user:ann", at=1.0)


def test_runs_are_listed_newest_first(ran):
    listed = ran.json("runs", "list")
    assert [run["run_id"] for run in listed] == [ran.bad["run_id"], ran.good["run_id"]]
    assert [run["run_id"] for run in ran.json("runs", "list", "--limit", "1")] == [ran.bad["run_id"]]
    assert [run["run_id"] for run in ran.json("runs", "list", "--state", "SUCCEEDED")] == [ran.good["run_id"]]
    head, *rows = ran("runs", "list").stdout.splitlines()
    assert head.split()[:3] == ["RUN", "PIPELINE", "STATE"]
    assert [row.split()[:3] for row in rows] == [
        [ran.bad["run_id"], "p", "FAILED"],
        [ran.good["run_id"], "p", "SUCCEEDED"],
    ]
    assert ran("runs", "list", "--state", "PAUSED").stdout == "No run is PAUSED.\n"
    assert ran("runs", "list", "--limit", "0").returncode == 2


def test_a_run_is_shown_by_the_beginning_of_its_id_just_as_it_was_told(ran):
    assert ran.json("runs", "show", ran.bad["run_id"][:8]) == ran.bad
    shown = ran("runs", "show", ran.bad["run_id"]).stdout
    assert "task condition-1/finish: FileNotFoundError: /nowhere" in shown
    rows = {line.split()[0]: line.split()[1:] for line in shown.splitlines() if line}
    assert rows["state"] == ["FAILED"]
    assert rows["condition-1/finish"][0] == "FAILED"
    assert rows["prepare"][0] == "SUCCEEDED"


def test_logs_are_those_of_all_tasks_or_of_one(ran):
    everything = ran("runs", "logs", ran.bad["run_id"]).stdout
    assert "── condition-1/finish (attempt 1)\nlooking for nowhere\nTraceback" in everything
    assert "prepared three rows" in everything
    one = ran("runs", "logs", ran.bad["run_id"], "finish", "--follow").stdout
    assert one.startswith("── condition-1/finish (attempt 1)\n")
    assert "prepared" not in one
    (told,) = ran.json("runs", "logs", ran.bad["run_id"], "finish")
    assert (told["task_id"], told["attempt"]) == ("condition-1/finish", 1)
    assert told["text"].endswith("FileNotFoundError: /nowhere\n")
    unknown = ran("runs", "logs", ran.bad["run_id"], "finsh")
    assert (unknown.returncode, 'no task called "finsh" has run' in unknown.stderr) == (2, True)


@pytest.mark.parametrize("action", ["show", "logs", "resume", "retry", "cancel"])
def test_an_unknown_run_is_refused(ran, action):
    done = ran("runs", action, "nope")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: no run has the id nope\n  `headrace runs list` shows them.\n"


def test_a_beginning_that_two_runs_share_is_refused(headrace):
    headrace.write(p__py=PIPELINES)
    document = pipeline_spec.parse(compile_pipeline(headrace.folder / "p.py", "good"), "p.py")
    # Seventeen ids of sixteen hexadecimal digits: two begin alike.
    with headrace.database() as database:
        ids = [_create(database, document) for _ in range(17)]
    shared = next(start for start in "0123456789abcdef" if sum(one.startswith(start) for one in ids) > 1)
    done = headrace("runs", "show", shared)
    assert (done.returncode, f"more than one run has an id that starts {shared}" in done.stderr) == (2, True)
    assert len(headrace.json("runs", "list", "--limit", "100", "--state", "PENDING")) == 17


def test_a_retry_does_only_what_had_not_succeeded(headrace):
    headrace.write(p__py=PIPELINES)
    needs = headrace.folder / "needs"
    failed = headrace.json("run", "p.py:needy", "-p", f"needs={needs}", "--no-cache", code=1)
    assert headrace("runs", "resume", failed["run_id"]).returncode == 1
    needs.touch()
    mended = headrace.json("runs", "retry", failed["run_id"], "-m", "the file is there now")
    assert (mended["state"], mended["error"]) == ("SUCCEEDED", None)
    attempts = {task["task_id"]: task["attempts"] for task in mended["run_details"]["task_details"]}
    assert attempts == {"prepare": 1, "prepare-2": 1, "condition-1/finish": 2}
    again = headrace("runs", "retry", failed["run_id"])
    assert (again.returncode, "the run is SUCCEEDED" in again.stderr) == (1, True)


def test_a_finished_run_cannot_be_canceled(ran):
    done = ran("runs", "cancel", ran.good["run_id"])
    assert (done.returncode, "the run is SUCCEEDED already" in done.stderr) == (1, True)
    assert ran.json("runs", "show", ran.good["run_id"]) == ran.good


def test_a_run_that_nobody_drives_is_canceled_and_can_be_taken_up_again(headrace):
    headrace.write(p__py=PIPELINES)
    document = pipeline_spec.parse(compile_pipeline(headrace.folder / "p.py", "good"), "p.py")
    with headrace.database() as database:
        run_id = _create(database, document)
    assert headrace.json("runs", "cancel", run_id)["state"] == "CANCELED"
    assert headrace.json("runs", "retry", run_id)["outputs"] == {"Output": 3}


def test_a_reader_that_goes_away_is_told_nothing(ran):
    listing = ran.start("runs", "list")
    listing.stdout.close()
    assert listing.stderr.read() == ""


WAITING = """
from kfp import dsl

@dsl.component
def wait(file: str) -> str:
    import os, pathlib, time
    pathlib.Path(file + ".new").write_text(str(os.getpid()))
    pathlib.Path(file + ".new").rename(file + ".pid")
    while not pathlib.Path(file + ".go").exists():
        time.sleep(0.02)
    return "went"

@dsl.pipeline(name="waits")
def waits(file: str) -> str:
    return wait(file=file).output
"""


@pytest.fixture
def waiting(headrace, until):
    """`headrace run` in the middle of its task; its process, the run's id, the task's process."""
    headrace.write(w__py=WAITING)
    told = headrace.folder / "file.pid"
    running = headrace.start("run", "w.py", "-p", f"file={headrace.folder / 'file'}")
    until(told.exists)
    assert headrace.json("runs", "show", headrace.newest())["state"] == "RUNNING"
    return running, headrace.newest(), int(told.read_text())


def _states(headrace, run_id):
    shown = headrace.json("runs", "show", run_id)
    listed = {run["run_id"] for run in headrace.json("runs", "list", "--state", "RUNNING")}
    return shown["state"], shown["run_details"]["task_details"][0]["state"], run_id in listed


def test_a_run_whose_processes_were_all_killed_does_not_say_that_it_runs_and_goes_on_when_asked(
    headrace, waiting, until
):
    running, run_id, task = waiting
    born = created(task)
    running.kill()
    running.wait()
    # Something of it still runs.
    assert _states(headrace, run_id) == ("RUNNING", "RUNNING", True)
    os.kill(task, signal.SIGKILL)
    until(lambda: not alive(task, born))
    assert _states(headrace, run_id) == ("PENDING", "PENDING", False)
    (headrace.folder / "file.go").touch()
    resumed = headrace.json("runs", "resume", run_id)
    assert (resumed["state"], resumed["outputs"]) == ("SUCCEEDED", {"Output": "went"})
    with headrace.database() as database:
        kinds = [event.kind for event in events.read(database, subject=f"run/{run_id}")]
    assert kinds == ["run.created", "run.started", "run.requeued", "run.recovered", "run.succeeded"]


def test_a_run_that_was_interrupted_does_not_say_that_it_runs(headrace, waiting, until):
    running, run_id, task = waiting
    born = created(task)
    running.send_signal(signal.SIGINT)
    assert running.wait() == 130
    until(lambda: not alive(task, born))
    assert _states(headrace, run_id) == ("PENDING", "PENDING", False)


def test_a_rerun_keeps_what_holds_and_takes_other_parameters_and_code(headrace):
    headrace.write(p__py=PIPELINES)
    needs = headrace.folder / "needs"
    failed = headrace.json("run", "p.py:needy", "-p", "needs=/nowhere", "--no-cache", code=1)
    needs.touch()
    again = headrace("runs", "rerun", failed["run_id"][:10], "-p", f"needs={needs}")
    assert again.returncode == 0, again.stderr
    assert f"goes on from {failed['run_id']}\n" in again.stdout
    cached = {
        t["task_id"]: t["cached"]
        for t in headrace.json("runs", "show", headrace.newest())["run_details"]["task_details"]
    }
    assert cached == {"prepare": True, "prepare-2": True, "condition-1/finish": False}

    headrace.write(p__py=PIPELINES.replace("return rows", "return rows + 41"))
    from_there = ("--from", "finish", "--code", "p.py:needy", "-m", "other code")
    other = headrace.json("runs", "rerun", headrace.newest(), *from_there)
    (finish,) = (t for t in other["run_details"]["task_details"] if t["task_id"] == "condition-1/finish")
    assert (other["state"], other["reason"], finish["outputs_values"]) == ("SUCCEEDED", "other code", {"Output": 42})

    headrace.refused("runs", "rerun", other["run_id"], says=["everything has succeeded", "--from TASK"])
    headrace.refused("runs", "rerun", other["run_id"], "--from", "finsh", says=['no task called "finsh" has run'])
