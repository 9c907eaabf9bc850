"""A new run that keeps what a finished one has done, and begins where it has to."""

from functools import partial
from pathlib import Path

import pytest
from kfp import dsl

from headrace.contracts import pipeline_spec
from headrace.errors import ConflictError, NotFoundError, UsageError
from headrace.governance import approvals
from headrace.runs.rerun import rerun
from headrace.store import events

component = partial(dsl.component, base_image="python:3.12")


@component
def step(journal: str, name: str, needs: str = "") -> str:
    from pathlib import Path

    with Path(journal).open("a") as stream:
        stream.write(f"{name}\n")
    if needs == "broken":
        raise ValueError("broken")
    return name


@component
def store(journal: str, word: str, data: dsl.Output[dsl.Dataset]):
    from pathlib import Path

    with Path(journal).open("a") as stream:
        stream.write("store\n")
    Path(data.path).write_text(word)


@component
def load(journal: str, data: dsl.Input[dsl.Dataset], needs: str = "") -> str:
    from pathlib import Path

    with Path(journal).open("a") as stream:
        stream.write("load\n")
    if needs == "broken":
        raise ValueError("broken")
    return Path(data.path).read_text() + needs


@dsl.container_component
def ask(decision: dsl.OutputPath(str)):
    return dsl.ContainerSpec(image="kfp://human-input", args=['{"question": "Go on?"}'])


@dsl.pipeline
def work(journal: str, word: str = "w", needs: str = "") -> str:
    stored = store(journal=journal, word=word)
    with dsl.ParallelFor(["a", "b"]) as name:
        step(journal=journal, name=name)
    loaded = load(journal=journal, data=stored.outputs["data"], needs=needs)
    return step(journal=journal, name=loaded.output).output


EVERYTHING = ["a", "b", "load", "store", "w"]


class Again:
    """Runs a pipeline, and then again from there."""

    def __init__(self, runner, home, compiled, journal):
        self.runner = runner
        self.home = home
        self.compiled = compiled
        self.journal = journal

    def first(self, pipeline=work, **parameters):
        self.journal.touch()
        text = self.compiled(pipeline)
        return self.runner.run(text, {"journal": str(self.journal), **parameters}, caching=False)

    def create(self, run, **more):
        self.journal.write_text("")
        return rerun(self.runner.database, self.home, run.run_id, actor="user:ann", at=2.0, **more)

    def __call__(self, run, **more):
        return self.runner.drive(self.create(run, **more))

    def ran(self):
        return sorted(self.journal.read_text().splitlines())


@pytest.fixture
def again(runner, home, compiled, tmp_path):
    return Again(runner, home, compiled, tmp_path / "journal")


def test_a_failed_run_goes_on_with_another_parameter_and_keeps_what_does_not_depend_on_it(again, database):
    failed = again.first(needs="broken")
    assert (failed.state, again.ran()) == ("FAILED", ["a", "b", "load", "store"])
    result = again(failed, parameters={"needs": "!"})
    assert (result.state, result.outputs, again.ran()) == ("SUCCEEDED", {"Output": "w!"}, ["load", "w!"])
    assert {path for path, task in result.tasks.items() if task["cached"]} == {
        "store", "for-loop-2/0/step", "for-loop-2/1/step",
    }  # fmt: skip
    kept = database.one("SELECT * FROM artifact WHERE run_id = ?", (result.run_id,))
    assert Path(kept["uri"]).read_text() == "w"
    (told,) = events.read(database, subject=f"run/{result.run_id}/task/store")
    assert (told.kind, told.data) == ("task.kept", {"run": failed.run_id})
    assert again.runner.result(failed.run_id).state == "FAILED"


@pytest.mark.parametrize(
    ("begin", "ran"),
    [
        (["load"], ["load", "w"]),
        (["for-loop-2"], ["a", "b"]),
        (["for-loop-2/1/step"], ["b"]),
        (["store"], ["load", "store", "w"]),
        (["store", "for-loop-2"], EVERYTHING),
    ],
)
def test_a_chosen_task_runs_again_with_all_that_comes_after_it(again, begin, ran):
    done = again.first()
    assert (done.state, again.ran()) == ("SUCCEEDED", EVERYTHING)
    result = again(done, begin=begin)
    # What begins at `store` makes another artifact with the same content in another place: that is another input.
    assert (result.state, result.outputs, again.ran()) == ("SUCCEEDED", {"Output": "w"}, ran)


def test_a_task_whose_inputs_have_changed_is_not_kept(again):
    result = again(again.first(), parameters={"word": "other"})
    assert (result.outputs, again.ran()) == ({"Output": "other"}, ["load", "other", "store"])


def test_a_rerun_of_a_rerun_keeps_what_was_kept(again):
    once = again(again.first(needs="broken"), parameters={"needs": "!"})
    twice = again(once, begin=["step-2"])
    assert (twice.outputs, again.ran()) == ({"Output": "w!"}, ["w!"])


def test_a_task_whose_artifact_is_gone_is_not_kept(again, database):
    failed = again.first(needs="broken")
    Path(database.one("SELECT uri FROM artifact WHERE path = 'store'")["uri"]).unlink()
    result = again(failed, parameters={"needs": "!"})
    assert (result.state, result.outputs, again.ran()) == ("SUCCEEDED", {"Output": "w!"}, ["load", "store", "w!"])


@dsl.pipeline
def one_at_a_time(journal: str, needs: str) -> list:
    with dsl.ParallelFor(["a", "b", "c"], parallelism=1) as name:
        first = step(journal=journal, name=name)
        with dsl.If(name == "a"):
            step(journal=journal, name=first.output, needs=needs)
    return dsl.Collected(first.output)


def test_every_succeeded_iteration_is_kept_whatever_the_parallelism_of_its_loop(again):
    failed = again.first(one_at_a_time, needs="broken")
    assert (failed.state, again.ran()) == ("FAILED", ["a", "a", "b", "c"])
    result = again(failed, parameters={"needs": ""})
    assert (result.state, result.outputs, again.ran()) == ("SUCCEEDED", {"Output": ["a", "b", "c"]}, ["a"])


@dsl.pipeline(name="work")
def better(journal: str, word: str = "w", loud: bool = True) -> str:
    stored = store(journal=journal, word=word)
    with dsl.ParallelFor(["a", "b", "c"]) as name:
        step(journal=journal, name=name)
    return load(journal=journal, data=stored.outputs["data"], needs="?").output


def test_other_code_keeps_what_it_has_in_common(again, compiled):
    document = pipeline_spec.parse(compiled(better), "better.yaml")
    result = again(again.first(needs="broken"), document=document, commit="c" * 40)
    assert (result.state, result.outputs, again.ran()) == ("SUCCEEDED", {"Output": "w?"}, ["c", "load"])


@dsl.pipeline
def gated(journal: str, needs: str = "") -> str:
    asked = ask()
    return step(journal=journal, name=asked.outputs["decision"], needs=needs).output


def test_a_decision_is_kept(again, runner, database):
    asked = again.first(gated, needs="broken")
    (gate,) = approvals.gates(database, "waiting")
    approvals.decide(database, gate.id, at=1.0, actor="user:ann", approve=True, reason="")
    assert runner.drive(asked.run_id).state == "FAILED"
    result = again(asked, parameters={"needs": ""})
    assert (result.state, result.outputs) == ("SUCCEEDED", {"Output": "approved"})
    assert approvals.gates(database, "waiting") == []


def test_what_makes_no_sense_is_refused_and_creates_nothing(again, runner, database, compiled):
    done = again.first()
    with pytest.raises(UsageError, match="everything has succeeded\nSay where to begin, with --from TASK"):
        again.create(done)
    with pytest.raises(NotFoundError, match='no task called "lode" has run'):
        again.create(done, begin=["lode"])
    with pytest.raises(UsageError, match="wrod"):
        again.create(done, parameters={"wrod": "x"})
    waiting = runner.create(compiled(work), {"journal": "x"})
    with pytest.raises(ConflictError, match="the run is PENDING"):
        again.create(runner.result(waiting), begin=["load"])
    assert len(database.query("SELECT * FROM run")) == 2
