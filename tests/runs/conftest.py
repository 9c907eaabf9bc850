import time

import psutil
import pytest
from kfp import compiler

from headrace.contracts import pipeline_spec


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """Gives the text of the document that KFP's own compiler makes of a pipeline."""
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


@pytest.fixture
def until():
    """Waits for something that another process does."""

    def wait(condition, seconds=30):
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it did not happen"
            time.sleep(0.01)

    return wait


@pytest.fixture
def gone(until):
    """Waits until none of these processes is left."""

    def left(pid):
        try:
            return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    return lambda pids: until(lambda: not any(left(pid) for pid in pids))
