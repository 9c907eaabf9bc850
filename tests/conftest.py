import asyncio
import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from headrace.clock import SystemClock
from headrace.contracts import pipeline_spec
from headrace.project.wiring import open_database
from headrace.runs.engine import Engine
from headrace.runs.submit import create_run
from headrace.store.home import Home

# A shell that starts the tests in the background has them ignore Ctrl-C, and so all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED = Path(__file__).parents[1].parent / "shared"


@pytest.fixture(scope="session")
def shared():
    """The folder of documents that others wrote; tests that need it skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("the shared folder of documents is absent")
    return SHARED


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home").create()


@pytest.fixture
def database(home):
    database = open_database(home)
    yield database
    database.close()


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of its own with 24 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if shutil.which("mount") is None:
        pytest.skip("there is no mount here, to make a small disk with")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"only root makes a small disk, where mounting is allowed: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


class Runner:
    """Runs documents to their end with a real engine and tells what came of them."""

    def __init__(self, home, database):
        self.home = home
        self.database = database

    def create(self, text, parameters=None, **more):
        document = pipeline_spec.parse(text, "test.yaml")
        return create_run(
            self.database, document, pipeline="test", parameters=parameters or {}, environment="dev",
            actor="user:test", at=time.time(), **more,
        )  # fmt: skip

    def drive(self, run_id, environment=None):
        engine = Engine(home=self.home, database=self.database, clock=SystemClock(), environment=environment or {})
        asyncio.run(engine.drive(run_id))
        return self.result(run_id)

    def run(self, text, parameters=None, **more):
        return self.drive(self.create(text, parameters, **more))

    def result(self, run_id):
        run = dict(self.database.one("SELECT * FROM run WHERE id = ?", (run_id,)))
        tasks = {
            row["path"]: {**row, "outputs": json.loads(row["outputs"]).get("parameters", {})}
            for row in map(dict, self.database.query("SELECT * FROM task WHERE run_id = ?", (run_id,)))
        }
        outputs = json.loads(run["outputs"])
        error = json.loads(run["error"])["message"] if run["error"] else ""
        return RunResult(
            run_id, run["state"], outputs.get("parameters", {}), outputs.get("artifacts", {}), tasks, error
        )


class RunResult:
    def __init__(self, run_id, state, outputs, artifacts, tasks, error):
        self.run_id = run_id
        self.state = state
        self.outputs = outputs
        self.artifacts = artifacts
        self.tasks = tasks
        self.error = error


@pytest.fixture
def runner(home, database):
    return Runner(home, database)


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """Gives the text of the document that KFP's own compiler makes of a pipeline."""
    from kfp import compiler

    folder = tmp_path_factory.mktemp("compiled")

    def text_of(pipeline):
        file = folder / f"{pipeline.name}.yaml"
        compiler.Compiler().compile(pipeline, str(file))
        return file.read_text()

    return text_of


@pytest.fixture(scope="session")
def document(compiled):
    """Gives the parsed document of a pipeline."""
    return lambda pipeline: pipeline_spec.parse(compiled(pipeline), f"{pipeline.name}.yaml")


@pytest.fixture
def run(runner, compiled):
    """Compiles a pipeline, drives it to its end or to a gate, and tells what came of it."""
    return lambda pipeline, caching=True, **parameters: runner.run(compiled(pipeline), parameters, caching=caching)
