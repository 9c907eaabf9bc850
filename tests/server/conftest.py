import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings

import httpx
import kfp
import kfp_server_api
import psutil
import pytest
import uvicorn

from headrace.ports import free_port, listen
from headrace.project import wiring
from headrace.project.compile import compile_pipeline
from headrace.server.access import Entrance
from headrace.server.application import application

PATIENCE_SECONDS = 90


def wait_until(happened):
    """Wait for what another process does."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := happened()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
    return found


@pytest.fixture(scope="session")
def until():
    return wait_until


class Up:
    """`headrace up` on one home, started as often as a test wants; nothing of it outlives the test."""

    def __init__(self, folder):
        self.folder = folder
        self.home = folder / "home"
        self.ports = {name: free_port() for name in ("--port", "--gateway-port", "--mlflow-port")}
        self.api = f"http://127.0.0.1:{self.ports['--port']}"
        self.gateway = f"http://127.0.0.1:{self.ports['--gateway-port']}"
        self.process = None
        self._commands = []
        self._seen = set()

    def start(self, *more):
        """Start the server and wait until it says that it is ready."""
        words = [str(word) for pair in self.ports.items() for word in pair]
        self.process = self.command("up", *words, *more, stderr=subprocess.STDOUT)
        self.said = []
        reader = threading.Thread(target=lambda: self.said.extend(self.process.stdout), daemon=True)
        reader.start()
        self._reader = reader
        wait_until(lambda: self.process.poll() is not None or any("state" in line for line in self.said))
        assert self.said[0] == "Headrace is up: without a project. Ctrl-C ends it.\n"
        return self

    def family(self):
        """Every process below the server, by what it runs; remembered, so that none outlives the test."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        self._seen.update(children)
        named = {}
        for child in children:
            line = " ".join(child.cmdline())
            for name in ("envoy", "mlflow server", "warm_parent"):
                if name in line:
                    named.setdefault(name, child)
        return named

    def end(self, how=signal.SIGTERM):
        """End the server; its exit code."""
        self.family()
        self.process.send_signal(how)
        code = self.process.wait(timeout=PATIENCE_SECONDS)
        self._reader.join()
        self.process.stdout.close()
        return code

    def left(self):
        """Processes of the server that still live."""
        return [one for one in self._seen if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]

    def command(self, *arguments, stderr=subprocess.PIPE):
        """A command on the same home, running."""
        process = subprocess.Popen(
            [sys.executable, "-m", "headrace.cli.main", *arguments], cwd=self.folder, stdout=subprocess.PIPE,
            stderr=stderr, text=True, env={**os.environ, "HEADRACE_HOME": str(self.home)},
        )  # fmt: skip
        self._commands.append(process)
        return process

    def json(self, *arguments, code=0):
        """What a command prints with --json."""
        command = self.command(*arguments, "--json")
        stdout, stderr = command.communicate(timeout=PATIENCE_SECONDS)
        assert command.returncode == code, stderr
        return json.loads(stdout)

    def clear(self):
        if self.process is not None and self.process.poll() is None:
            self.end()
        for process in self._commands:
            process.kill()
            process.wait()
            for stream in filter(None, (process.stdout, process.stderr)):
                stream.close()
        for one in self.left():
            one.kill()


@pytest.fixture
def up(tmp_path):
    """The server as a process, with Envoy and MLflow, on a home of its own."""
    up = Up(tmp_path)
    yield up
    up.clear()


class SetClock:
    """A clock that stands still until a test moves it."""

    def __init__(self, now):
        self.time = now

    def now(self):
        return self.time


class Served:
    """The application on a real port, in a thread. Runs are driven and schedules looked at when a test says so."""

    def __init__(self, platform, entrance=None):
        self.platform = platform
        self.database = platform.database
        self.stopping = threading.Event()
        self._socket = listen(0, "--port")
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.app = application(platform, {"home": "here"} if entrance else {}, self.stopping.is_set, entrance)
        config = uvicorn.Config(
            self.app, log_level="warning", access_log=False, lifespan="off",
            timeout_graceful_shutdown=3,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]})
        self._thread.start()
        wait_until(lambda: self._server.started)
        self._clients = []

    def client(self, token=None):
        """The unmodified `kfp.Client`."""
        with warnings.catch_warnings():
            # It warns each user of versions that nobody has any more.
            warnings.simplefilter("ignore", FutureWarning)
            client = kfp.Client(host=self.address, existing_token=token)
        self._clients.append(client)
        return client

    def drive(self, run_id):
        """Let a real engine drive a run to its end."""
        asyncio.run(self.platform.engine().drive(run_id))

    def raw(self, method, path, **more):
        """A request without any client in between."""
        return httpx.request(method, f"{self.address}{path}", timeout=PATIENCE_SECONDS, **more)

    def send(self, method, path, **more):
        """The status and the JSON of an answer."""
        answer = self.raw(method, path, **more)
        return answer.status_code, answer.json()

    def close(self):
        self.stopping.set()
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()
        for client in self._clients:
            api = client._run_api.api_client
            api.rest_client.pool_manager.clear()
            api.close()


def _serve(folder, entrance=None):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("HEADRACE_HOME", raising=False)
        built = wiring.build(folder)
    platform = wiring.Platform(
        built.home, built.database, SetClock(1_790_000_000.0), built.project, built.environment
    )  # fmt: skip
    served = Served(platform, entrance)
    yield served
    served.close()
    platform.database.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """One server for a whole file: tests name what they make."""
    yield from _serve(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A server that asks who comes, and that has a name of its own."""
    entrance = Entrance(sign_in=True, names=frozenset({"headrace.example.com"}))
    yield from _serve(tmp_path_factory.mktemp("guarded"), entrance)


@pytest.fixture(scope="module")
def of_project(tmp_path_factory, packages):
    """A server of a project whose pipelines are a compiled document and Python, with values that are looked up."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "every.yaml").write_text(packages("every_kind").read_text())
    (folder / "written.py").write_text(WRITTEN)
    (folder / "headrace.toml").write_text(PROJECT)
    (folder / "data").mkdir()
    for month in ("may", "june"):
        (folder / "data" / f"{month}.csv").touch()
    yield from _serve(folder)


@pytest.fixture(scope="module")
def client(served):
    return served.client()


@pytest.fixture(scope="session")
def refused():
    """Checks that a call of the client ends in KFP's error with this HTTP status; the error as JSON."""

    def check(status, call, *arguments, **more):
        with pytest.raises(kfp_server_api.ApiException) as caught:
            call(*arguments, **more)
        told = json.loads(caught.value.body)
        assert (caught.value.status, set(told)) == (status, {"error", "code", "message", "details"})
        return told

    return check


@pytest.fixture
def name(request):
    """A name that no other test uses."""
    return request.node.name


PROJECT = """
[project]
name = "counting"
[pipelines.every]
source = "every.yaml"
triggers = ["push:data/**"]
[pipelines.every.parameters]
items = { glob = "data/*.csv" }
text = { path = "every.yaml" }
whole = 7
[pipelines.written]
source = "written.py:written"
[pipelines.broken]
source = "written.py:nothing"
"""

WRITTEN = """
from kfp import dsl

@dsl.component
def double(number: int) -> int:
    return 2 * number

@dsl.pipeline(name="written")
def written(number: int, why: str = "because"):
    double(number=number)
"""

PIPELINES = """
from kfp import dsl, kubernetes

@dsl.component
def add(a: int, b: int) -> int:
    print("adding", a, "and", b)
    return a + b

@dsl.component
def keep(number: int, model: dsl.Output[dsl.Model]):
    with open(model.path, "w") as stream:
        stream.write(str(number))

@dsl.component
def read(model: dsl.Input[dsl.Model]) -> str:
    with open(model.path) as stream:
        return stream.read()

@dsl.component
def refuse(number: int) -> int:
    raise ValueError(f"not {number}")

@dsl.component
def needs(file: str) -> str:
    with open(file) as stream:
        return stream.read()

@dsl.component
def wait(file: str) -> str:
    import pathlib, time
    print("waiting")
    pathlib.Path(file + ".begun").touch()
    while not pathlib.Path(file + ".go").exists():
        time.sleep(0.05)
    print("went")
    return "went"

@dsl.pipeline(name="sum")
def total(a: int = 1, b: int = 2) -> int:
    return add(a=a, b=b).output

@dsl.pipeline(name="every-kind")
def every_kind(
    whole: int, real: float, text: str, truth: bool, items: list, fields: dict, rate: float = 1e-05
) -> float:
    @dsl.component
    def same(rate: float) -> float:
        return rate
    return same(rate=rate).output

@dsl.pipeline(name="tree")
def tree(a: int = 1) -> str:
    with dsl.ParallelFor([1, 2]) as item:
        add(a=item, b=a)
    kept = keep(number=a)
    return read(model=kept.outputs["model"]).output

@dsl.pipeline(name="refuses")
def refuses(number: int = 7):
    refuse(number=number)

@dsl.pipeline(name="needy")
def needy(file: str) -> str:
    return needs(file=file).output

@dsl.pipeline(name="waits")
def waits(file: str) -> str:
    return wait(file=file).output

@dsl.pipeline(name="cluster")
def cluster() -> int:
    task = add(a=1, b=2)
    kubernetes.add_node_selector(task, "disk", "ssd")
    return task.output

@dsl.component
def tell(text: str) -> str:
    return text

@dsl.pipeline(name="scheduled")
def scheduled() -> str:
    return tell(text=dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER).output

@dsl.container_component
def ask():
    return dsl.ContainerSpec(image="kfp://human-input", command=["wait"], args=['{"question": "Go on?"}'])

@dsl.pipeline(name="asks")
def asks() -> int:
    asked = ask()
    return add(a=1, b=2).after(asked).output

@dsl.pipeline(name="huge")
def huge():
    add(a=1, b=2).set_memory_request("900T")
"""


@pytest.fixture(scope="session")
def packages(tmp_path_factory):
    """Gives the file of a compiled pipeline by its function's name, as KFP's own compiler wrote it."""
    folder = tmp_path_factory.mktemp("packages")
    (folder / "pipelines.py").write_text(PIPELINES)

    def package(function):
        file = folder / f"{function}.yaml"
        if not file.exists():
            file.write_text(compile_pipeline(folder / "pipelines.py", function))
        return file

    return package
