"""Components that run in containers, by a real docker or podman, from an image made of this machine's own files."""

import asyncio
import os
import re
import secrets
import shlex
import shutil
import subprocess
import tarfile
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from kfp import dsl, kubernetes

from headrace.clock import SystemClock
from headrace.runs import transitions
from headrace.runs.attempts import log_path
from headrace.runs.engine import Engine
from headrace.runs.executors import container as containers

component = partial(dsl.component, base_image="python:3.12")
sharing = partial(
    dsl.pipeline, pipeline_config=dsl.PipelineConfig(workspace=dsl.WorkspaceConfig(size="1Mi"))
)  # fmt: skip

PROGRAMS = ("sh", "cat", "mkdir", "sleep")
IMAGE = f"localhost/headrace-test-{secrets.token_hex(4)}:1"
# The last one is for machines that are containers themselves.
WAYS = (
    os.environ.get(containers.VARIABLE, ""),
    "docker run",
    "podman run",
    "podman --runtime runc run --ulimit nofile=1024:1024 --ulimit nproc=4096:4096 --network host",
)


def pack_image(file):
    """A tar with a few programs of this machine and the libraries that they need."""
    programs = {f"/bin/{program}": shutil.which(program) for program in PROGRAMS}
    listed = subprocess.run(["ldd", *programs.values()], capture_output=True, text=True, check=True).stdout
    libraries = {found: found for found in re.findall(r"(/\S+) \(0x", listed)}
    with tarfile.open(file, "w") as tar:
        for inside, here in {**programs, **libraries}.items():
            tar.add(Path(here).resolve(), arcname=inside)


def complaint(command):
    """The end of what a command says when it fails; "" when it does not."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr.strip()[-200:] or "it failed" if done.returncode else ""


@pytest.fixture(scope="module")
def engine_words(tmp_path_factory):
    """The start of a command line that runs a container of IMAGE here."""
    if os.environ.get(containers.VARIABLE) == containers.NONE:
        pytest.skip(f"{containers.VARIABLE} is for no containers")
    image = tmp_path_factory.mktemp("image") / "image.tar"
    complaints = {}
    for way in map(shlex.split, filter(None, WAYS)):
        program = way[: way.index("run")]
        if shutil.which(way[0]) is None:
            complaints[way[0]] = "it is not installed"
            continue
        if not image.exists():
            pack_image(image)
        found = complaint([*program, "import", str(image), IMAGE]) or complaint([*way, "--rm", IMAGE, "sh", "-c", ":"])
        if not found:
            yield way
        # With --force it takes along what a test that failed has left running.
        subprocess.run([*program, "rmi", "--force", IMAGE], capture_output=True, check=False)
        if not found:
            return
        complaints[shlex.join(way)] = found
    pytest.skip("no container runs here: " + "; ".join(f"{way}: {said}" for way, said in complaints.items()))


@pytest.fixture(autouse=True)
def container_engine(engine_words, monkeypatch):
    monkeypatch.setenv(containers.VARIABLE, shlex.join([*engine_words, "--pull", "never"]))


@pytest.fixture
def left_of(engine_words):
    """The names of the containers that there are of a run, running or not."""
    program = engine_words[: engine_words.index("run")]

    def names(run_id):
        command = [*program, "ps", "--all", "--filter", f"name=headrace-{run_id}", "--format", "{{.Names}}"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()

    return names


def shell(script, *args):
    return dsl.ContainerSpec(image=IMAGE, command=["sh", "-ec", script], args=list(args))


@component
def save(text: str, file: dsl.Output[dsl.Dataset]):
    from pathlib import Path

    Path(file.path).write_text(text)


@component
def read(file: dsl.Input[dsl.Dataset], place: str) -> list:
    from pathlib import Path

    return [Path(file.path).read_text(), Path(place).read_text()]


@dsl.container_component
def work(
    file: dsl.Input[dsl.Dataset],
    place: str,
    table: dict,
    copy: dsl.Output[dsl.Dataset],
    said: dsl.OutputPath(str),
    number: dsl.OutputPath(int),
):
    return shell(
        """
        mkdir -p "${1%/*}" "${2%/*}"
        cat "$0" > "$1"; echo copied >> "$1"
        printf %s "$GREETING to $HEADRACE_TASK in ${PWD##*/}" > "$2"
        echo 7 > "$3"
        printf %s "$5" > "$4"
        if echo torn > "$0"; then exit 9; fi
        """,
        file.path, copy.path, said, number, place, table,
    )  # fmt: skip


class Worked(NamedTuple):
    said: str
    number: int
    read: list
    copy: dsl.Dataset


@sharing
def working(text: str) -> Worked:
    place = f"{dsl.WORKSPACE_PATH_PLACEHOLDER}/shared.json"
    made = save(text=text)
    done = work(file=made.outputs["file"], place=place, table={"b": [1, 2.5], "a": "it's"})
    done.set_env_variable("WHO", "Ann: a=b").set_env_variable("GREETING", "hello $(WHO)")
    return Worked(
        done.outputs["said"],
        done.outputs["number"],
        read(file=done.outputs["copy"], place=place).after(done).output,
        done.outputs["copy"],
    )


def test_artifacts_parameters_environment_and_workspace_go_into_a_container_and_out(run, left_of):
    result = run(working, text="bread\n")
    assert result.state == "SUCCEEDED", result.error
    assert result.outputs == {
        "said": "hello Ann: a=b to work in work", "number": 7, "read": ["bread\ncopied\n", '{"a":"it\'s","b":[1,2.5]}'],
    }  # fmt: skip
    assert Path(result.artifacts["copy"][0]["uri"]).read_text() == "bread\ncopied\n"
    assert left_of(result.run_id) == []

    again = run(working, text="bread\n")
    assert again.tasks["save"]["cached"]


@dsl.container_component
def end(how: str, said: dsl.OutputPath(str)):
    return shell('case "$0" in code) exit 3;; quiet) exit 0;; esac', how, said)


@dsl.container_component
def absent_program():
    return dsl.ContainerSpec(image=IMAGE, command=["no-such-program"])


@dsl.container_component
def echo(text: str, said: dsl.OutputPath(str)):
    return dsl.ContainerSpec(
        image="alpine:3", command=["sh", "-c"], args=['mkdir -p "${1%/*}"; printf %s "$0" > "$1"', text, said]
    )


@dsl.pipeline
def on_a_chosen_image(image: str, text: str) -> str:
    return echo(text=text).set_container_image(image).outputs["said"]


@dsl.pipeline
def ending(how: str):
    end(how=how)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("code", "the container ended with exit code 3"),
        ("quiet", "the component ended without its output parameter said"),
    ],
)
def test_a_container_that_ends_badly_fails_its_task(run, left_of, how, message):
    result = run(ending, how=how)
    assert (result.state, result.error) == ("FAILED", f"task end: {message}")
    assert left_of(result.run_id) == []


def test_a_container_that_cannot_start_fails_its_task_and_the_log_says_why(run, home, left_of):
    result = run(absent_program)
    assert result.error == "task absent-program: the container's command does not exist in its image"
    assert "no-such-program" in log_path(home, result.run_id, "absent-program", 1).read_text()
    assert left_of(result.run_id) == []


def test_an_image_that_is_nowhere_fails_its_task_and_the_log_says_why(run, home):
    result = run(on_a_chosen_image, image="localhost/no-such-image:1", text="")
    assert result.error == "task echo: the container could not be started (the task's log says why)"
    assert "no-such-image" in log_path(home, result.run_id, "echo", 1).read_text()


def test_the_image_may_come_from_a_parameter(run):
    result = run(on_a_chosen_image, image=IMAGE, text="said $HOME `id`")
    assert (result.state, result.outputs) == ("SUCCEEDED", {"Output": "said $HOME `id`"}), result.error


# Containers that wait, and what becomes of them


@dsl.container_component
def wait_in(place: str, said: dsl.OutputPath(str)):
    return shell(
        'echo begins; echo begun >> "$0/journal"; while ! [ -e "$0/go" ]; do sleep 0.05; done;'
        ' echo done >> "$0/journal"; mkdir -p "${1%/*}"; echo went > "$1"',
        place, said,
    )  # fmt: skip


@sharing
def waiting() -> str:
    return wait_in(place=dsl.WORKSPACE_PATH_PLACEHOLDER).outputs["said"]


@sharing
def impatient():
    kubernetes.set_timeout(wait_in(place=dsl.WORKSPACE_PATH_PLACEHOLDER), 1)


class Workspace:
    """The folder that the waiting container sees."""

    def __init__(self, folder):
        self.folder = folder

    def noted(self):
        journal = self.folder / "journal"
        return journal.read_text().split() if journal.exists() else []

    def go(self):
        (self.folder / "go").touch()


@pytest.fixture
def workspace(home):
    return lambda run_id: Workspace(home.path / "workspaces" / run_id)


async def _until(condition):
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - it waits for a container
            await asyncio.sleep(0.01)


@pytest.fixture
def engine(home, database):
    return Engine(home=home, database=database, clock=SystemClock(), environment={})


def test_a_cancelled_run_leaves_no_container(runner, compiled, database, engine, workspace, left_of):
    created = runner.create(compiled(waiting))

    async def scenario():
        driving = asyncio.create_task(engine.drive(created))
        await _until(lambda: workspace(created).noted() == ["begun"])
        assert left_of(created) != []
        transitions.request_cancel(database, created, actor="user:ann", reason="", at=2e9)
        await driving

    asyncio.run(scenario())
    assert left_of(created) == []
    result = runner.result(created)
    assert (result.state, result.tasks["wait-in"]["state"]) == ("CANCELED", "CANCELED")


def test_an_engine_that_is_stopped_leaves_no_container(runner, compiled, engine, workspace, left_of):
    created = runner.create(compiled(waiting))

    async def scenario():
        stop = asyncio.Event()
        serving = asyncio.create_task(engine.serve(stop))
        await _until(lambda: workspace(created).noted() == ["begun"])
        stop.set()
        await serving

    asyncio.run(scenario())
    assert left_of(created) == []
    workspace(created).go()
    result = runner.drive(created)
    assert (result.state, result.outputs) == ("SUCCEEDED", {"Output": "went\n"}), result.error


def test_a_deadline_ends_the_container_too(run, left_of):
    result = run(impatient)
    assert (result.state, result.error) == (
        "FAILED", "task wait-in: it took longer than it may (activeDeadlineSeconds)",
    )  # fmt: skip
    assert left_of(result.run_id) == []


@pytest.fixture
def killed_engine(runner, compiled, workspace, until, engine_process):
    """The id of a run whose engine was killed while its container waits."""
    created = runner.create(compiled(waiting))
    process = engine_process(created)
    until(lambda: workspace(created).noted() == ["begun"], 60)
    until(lambda: runner.database.query("SELECT * FROM attempt WHERE pid IS NOT NULL"))
    process.kill()
    process.wait()
    yield created
    workspace(created).go()


def test_a_container_that_outlives_its_engine_is_adopted(runner, killed_engine, workspace, left_of, home, database):
    async def go_on():
        engine = Engine(home=home, database=database, clock=SystemClock(), environment={})
        driving = asyncio.create_task(engine.drive(killed_engine))
        await _until(lambda: engine.runs)
        workspace(killed_engine).go()
        await driving

    asyncio.run(go_on())
    result = runner.result(killed_engine)
    assert (result.state, result.outputs) == ("SUCCEEDED", {"Output": "went\n"}), result.error
    assert workspace(killed_engine).noted() == ["begun", "done"]
    assert result.tasks["wait-in"]["attempt"] == 1
    assert log_path(home, killed_engine, "wait-in", 1).read_text() == "begins\n"
    assert left_of(killed_engine) == []


def test_a_container_whose_task_was_killed_with_its_engine_is_removed_and_done_anew(
    runner, killed_engine, workspace, left_of, database, gone, until
):
    (row,) = database.query("SELECT pid FROM attempt")
    os.killpg(row["pid"], 9)
    gone([row["pid"]])
    (first,) = left_of(killed_engine)

    async def go_on():
        engine = Engine(home=runner.home, database=database, clock=SystemClock(), environment={})
        driving = asyncio.create_task(engine.drive(killed_engine))
        await _until(lambda: workspace(killed_engine).noted() == ["begun", "begun"])
        assert first not in left_of(killed_engine)
        workspace(killed_engine).go()
        await driving

    asyncio.run(go_on())
    result = runner.result(killed_engine)
    assert (result.state, result.outputs) == ("SUCCEEDED", {"Output": "went\n"}), result.error
    assert workspace(killed_engine).noted() == ["begun", "begun", "done"]
    assert (result.tasks["wait-in"]["attempt"], result.tasks["wait-in"]["failures"]) == (2, 0)
    assert left_of(killed_engine) == []


def test_a_path_with_a_colon_and_a_comma_is_mounted_whole(run, tmp_path):
    file = tmp_path / "a:b,c.txt"
    file.write_text("odd\n")
    result = run(importing, file=str(file))
    assert (result.state, result.outputs) == ("SUCCEEDED", {"Output": "odd\n"}), result.error


@dsl.container_component
def cat(file: dsl.Input[dsl.Artifact], said: dsl.OutputPath(str)):
    return shell('mkdir -p "${1%/*}"; cat "$0" > "$1"', file.path, said)


@dsl.pipeline
def importing(file: str) -> str:
    return cat(file=dsl.importer(artifact_uri=file, artifact_class=dsl.Artifact).output).outputs["said"]
