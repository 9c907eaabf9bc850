"""What tasks ask of the machine: memory that they wait for, and threads."""

import asyncio
from functools import partial

import pytest
from kfp import dsl

from headrace.clock import SystemClock
from headrace.contracts.pipeline_spec.document import messages
from headrace.errors import HeadraceError
from headrace.runs import resources
from headrace.runs.engine import Engine
from headrace.runs.resources import Claim

component = partial(dsl.component, base_image="python:3.12")


@component
def work(journal: str, name: str, hold: float = 0.0, wait_for: str = "") -> str:
    """Note that it has begun; hold on, also until something stands in the journal; note that it is done."""
    import os
    import time
    from pathlib import Path

    def note(what):
        with Path(journal).open("a") as stream:
            stream.write(f"{what} {name}\n")

    note("begun")
    time.sleep(hold)
    while wait_for not in Path(journal).read_text():
        time.sleep(0.01)
    note("done")
    return os.environ.get("OMP_NUM_THREADS", "")


@component
def amount(text: str) -> str:
    return text


def asked(add):
    """The claim of a task to which `add` adds something, as KFP's compiler writes it."""

    def of(document):
        @dsl.pipeline(name="one")
        def one():
            add(amount(text=""))

        return resources.claim(document(one).executor_of("comp-amount").container.resources, lambda text: text)

    return of


@pytest.mark.parametrize(
    ("add", "wanted"),
    [
        (lambda task: task, Claim()),
        (lambda task: task.set_memory_request("64M"), Claim(64e6)),
        (lambda task: task.set_memory_limit("1Gi"), Claim(2**30)),
        (lambda task: task.set_memory_limit("2G").set_memory_request("500M"), Claim(500e6)),
        (lambda task: task.set_cpu_limit("2"), Claim(0, 2)),
        (lambda task: task.set_cpu_limit("500m").set_cpu_request("250m"), Claim(0, 1)),
        (lambda task: task.set_cpu_limit("2.5").set_memory_limit("1024"), Claim(1024, 2)),
    ],
)
def test_a_claim_is_read_from_what_kfp_writes(document, add, wanted):
    assert asked(add)(document) == wanted


def test_documents_of_older_sdks_say_gigabytes_and_cpus_as_numbers():
    spec = messages().PipelineDeploymentConfig.PipelineContainerSpec.ResourceSpec
    assert resources.claim(spec(memory_limit=1.5, cpu_limit=3.0), str) == Claim(1.5e9, 3)
    assert resources.claim(spec(memory_limit=1.5, memory_request=0.5), str) == Claim(0.5e9)


@pytest.mark.parametrize("text", ["lots", "1Zi2", "-", "1 G B"])
def test_what_is_no_quantity_is_refused(text):
    spec = messages().PipelineDeploymentConfig.PipelineContainerSpec.ResourceSpec
    with pytest.raises(HeadraceError, match="a resource is wrong") as raised:
        resources.claim(spec(resource_memory_request=text), str)
    assert "500m or 1Gi" in raised.value.remedy


def test_a_claim_on_threads_is_told_to_the_libraries(run, tmp_path):
    @dsl.pipeline
    def threaded():
        work(journal=str(tmp_path / "journal"), name="three").set_cpu_limit("3")
        work(journal=str(tmp_path / "journal"), name="unsaid")

    result = run(threaded)
    assert {name: task["outputs"]["Output"] for name, task in result.tasks.items()} == {"work": "3", "work-2": "1"}


@pytest.fixture
def drive(home, database, runner):
    """Drives runs with an engine that has 100 MB for its tasks, and tells how the last one ended."""

    def drive_with(*run_ids):
        async def scenario():
            engine = Engine(home=home, database=database, clock=SystemClock(), environment={}, parallel=4)
            engine.memory = 100e6
            stop = asyncio.Event()
            serving = asyncio.create_task(engine.serve(stop))
            async with asyncio.timeout(60):
                while any(runner.result(one).state in ("PENDING", "RUNNING") for one in run_ids):
                    await asyncio.wait([serving], timeout=0.02)
            stop.set()
            await serving

        asyncio.run(scenario())
        return runner.result(run_ids[-1])

    return drive_with


@pytest.fixture
def journal(tmp_path):
    file = tmp_path / "journal"
    file.touch()
    return file


@dsl.pipeline
def two(journal: str, memory: str):
    work(journal=journal, name="a", hold=0.2).set_memory_request(memory)
    work(journal=journal, name="b", hold=0.2).set_memory_request(memory)


@dsl.pipeline
def two_that_meet(journal: str, memory: str):
    work(journal=journal, name="a", wait_for="begun b").set_memory_request(memory)
    work(journal=journal, name="b", wait_for="begun a").set_memory_request(memory)


def test_two_tasks_that_each_ask_for_most_of_the_memory_come_one_after_the_other(runner, compiled, drive, journal):
    result = drive(runner.create(compiled(two), {"journal": str(journal), "memory": "60M"}))
    assert result.state == "SUCCEEDED", result.error
    begun, done, *others = journal.read_text().splitlines()
    assert (begun.split()[0], done.split()[0]) == ("begun", "done")
    assert begun.split()[1] == done.split()[1]
    assert [line.split()[0] for line in others] == ["begun", "done"]


def test_the_memory_is_that_of_all_runs_together(runner, compiled, drive, journal):
    @dsl.pipeline
    def one(name: str):
        work(journal=str(journal), name=name, hold=0.2).set_memory_limit("60M")

    result = drive(*(runner.create(compiled(one), {"name": name}) for name in "abc"))
    assert result.state == "SUCCEEDED", result.error
    assert [line.split()[0] for line in journal.read_text().splitlines()] == ["begun", "done"] * 3


def test_tasks_that_fit_together_run_together(runner, compiled, drive, journal):
    result = drive(runner.create(compiled(two_that_meet), {"journal": str(journal), "memory": "50M"}))
    assert result.state == "SUCCEEDED", result.error


@dsl.pipeline
def small_beside_large(journal: str):
    first = work(journal=journal, name="large 1", wait_for="done small").set_memory_request("60M")
    work(journal=journal, name="large 2", wait_for="done small").set_memory_request("60M")
    work(journal=journal, name="small").set_memory_request("30M")
    work(journal=journal, name="last").set_memory_request("60M").after(first)


def test_a_small_task_does_not_wait_behind_a_large_one(runner, compiled, drive, journal):
    result = drive(runner.create(compiled(small_beside_large), {"journal": str(journal)}))
    assert result.state == "SUCCEEDED", result.error
    assert len(journal.read_text().splitlines()) == 8


@dsl.pipeline
def dynamic(journal: str, memory: str):
    work(journal=journal, name="asking").set_memory_limit(memory)
    work(journal=journal, name="told").set_memory_request(amount(text="60M").output)
    work(journal=journal, name="content")


@pytest.mark.parametrize(
    ("memory", "state", "error"),
    [
        ("90M", "SUCCEEDED", ""),
        ("101M", "FAILED", "task work: it needs 0.1 GB of memory, and this machine has 0.1 GB"),
        ("900T", "FAILED", "task work: it needs 900000.0 GB of memory, and this machine has 0.1 GB"),
        ("lots", "FAILED", "task work: a resource is wrong: 'lots' is not a quantity such as 500m or 1Gi"),
    ],
)
def test_what_a_task_asks_for_may_come_from_a_parameter(runner, compiled, drive, journal, memory, state, error):
    result = drive(runner.create(compiled(dynamic), {"journal": str(journal), "memory": memory}))
    assert (result.state, result.error.partition("\n")[0]) == (state, error)
    assert {line for line in journal.read_text().splitlines() if "done" in line} >= {"done told", "done content"}


def test_a_task_that_an_engine_takes_over_keeps_its_memory(
    runner, compiled, drive, journal, engine_process, until, database
):
    @dsl.pipeline
    def holding(name: str, wait_for: str):
        work(journal=str(journal), name=name, wait_for=wait_for, hold=0.2).set_memory_request("60M")

    adopted = runner.create(compiled(holding), {"name": "adopted", "wait_for": "go"})
    first = engine_process(adopted)
    until(lambda: "begun adopted" in journal.read_text())
    until(lambda: database.query("SELECT * FROM attempt WHERE pid IS NOT NULL"))
    first.kill()
    first.wait()
    beside = runner.create(compiled(holding), {"name": "beside", "wait_for": ""})

    @dsl.pipeline
    def free():
        work(journal=str(journal), name="go")

    result = drive(adopted, beside, runner.create(compiled(free)))
    assert result.state == "SUCCEEDED", result.error
    lines = [line for line in journal.read_text().splitlines() if "go" not in line]
    assert lines == ["begun adopted", "done adopted", "begun beside", "done beside"]


@dsl.pipeline
def large_and_small(journal: str):
    with dsl.ParallelFor([str(number) for number in range(10)]) as number:
        work(journal=journal, name=f"large {number}", wait_for="done small 9").set_memory_request("60M")
        work(journal=journal, name=f"small {number}")


def test_those_that_wait_for_memory_hide_none_that_need_not(runner, compiled, drive, journal):
    result = drive(runner.create(compiled(large_and_small), {"journal": str(journal)}))
    assert result.state == "SUCCEEDED", result.error
    done = [line for line in journal.read_text().splitlines() if line.startswith("done")]
    assert done.index("done large 0") >= done.index("done small 9")
