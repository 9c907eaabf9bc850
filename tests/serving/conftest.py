import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import httpx
import pytest

from headrace.ports import free_port
from headrace.serving.gateway import Arm, Gateway, Route
from headrace.serving.runtime.app import ModelServer
from headrace.serving.runtime.loaders import load


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """Folders of real MLflow models: `delay` of named columns, `iris` of bare numbers, `slow`, which takes its time.

    The slow one makes the file `slow_begins` when it starts to predict.
    """
    folder = tmp_path_factory.mktemp("models")
    with warnings.catch_warnings():
        # MLflow warns of its own type hints while it is imported, and of integer columns while it infers a schema.
        warnings.simplefilter("ignore")
        delay, table = _delay()
        _save(folder / "delay", delay, table, serialization_format="cloudpickle", input_example=table.head(3))
        _save(folder / "iris", *_iris(), serialization_format="skops")
        _save(folder / "slow", *_slow(folder / "begins"), serialization_format="cloudpickle")
    return SimpleNamespace(
        delay=folder / "delay", iris=folder / "iris", slow=folder / "slow", slow_begins=folder / "begins"
    )


def _delay():
    """Late when it leaves more than 15 minutes late; a carrier that it has not seen makes it raise."""
    import pandas as pd
    from sklearn.compose import make_column_transformer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder
    from sklearn.tree import DecisionTreeClassifier

    table = pd.DataFrame(
        {
            "carrier": ["AA", "UA"] * 20,
            "distance": [500.0, 900.0, 1400.0, 200.0] * 10,
            "hour": list(range(20)) * 2,
            "dep_delay": [0.0, 30.0, None, 60.0] * 10,
        }
    )
    late = (table["dep_delay"] > 15).astype(int)
    encode = make_column_transformer((OneHotEncoder(), ["carrier"]), remainder="passthrough")
    return make_pipeline(encode, DecisionTreeClassifier(max_depth=1)).fit(table, late), table


def _iris():
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    numbers, kinds = load_iris(return_X_y=True)
    return LogisticRegression(max_iter=1000).fit(numbers, kinds), numbers


_SLEEP = """
def sleep(rows, begins, seconds):
    import pathlib, time
    if len(rows) == 1:
        # A server warms itself up with zeros, and learns from them that this takes longer than a moment.
        if rows.any():
            pathlib.Path(begins).touch()
        time.sleep(seconds if rows.any() else 0.02)
    return rows
"""


def _slow(begins):
    import numpy as np
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    # A function of __main__ is pickled with its code: the model server does not have this module.
    names = {"__name__": "__main__"}
    exec(_SLEEP, names)
    wait = FunctionTransformer(names["sleep"], kw_args={"begins": str(begins), "seconds": 1.0})
    numbers = np.eye(4)
    return make_pipeline(wait, LinearRegression()).fit(numbers, range(4)), numbers


def _save(path, model, inputs, **more):
    import mlflow.sklearn
    from mlflow.models import infer_signature

    signature = infer_signature(inputs, model.predict(inputs))
    mlflow.sklearn.save_model(model, path, signature=signature, pip_requirements=["scikit-learn"], **more)


class AppClient:
    """Sends requests into the model server's application, without a socket between."""

    def __init__(self, application):
        self.application = application

    def request(self, method, path, **more):
        async def send():
            transport = httpx.ASGITransport(self.application)
            async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
                return await client.request(method, path, **more)

        return asyncio.run(send())

    def get(self, path, **more):
        return self.request("GET", path, **more)

    def post(self, path, **more):
        return self.request("POST", path, **more)


@pytest.fixture
def serve():
    """A client of the application over a model folder."""

    def client(folder, name="delay", payloads=None):
        return AppClient(ModelServer(name, f"{name}-00001", load(folder), payloads).application())

    return client


class Backend:
    """A small HTTP server behind the gateway. Tells its name; its status and delay can be changed."""

    def __init__(self, name):
        self.name = name
        self.status = 200
        self.seconds = 0.0
        self.begun = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def _handler(backend):  # noqa: N805 - the handler has a self of its own
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # headers and body in one packet

            def do_GET(self):
                backend.begun.set()
                self.rfile.read(int(self.headers.get("content-length", 0)))
                time.sleep(backend.seconds)
                body = json.dumps({"name": backend.name, "path": self.path}).encode()
                self.send_response(backend.status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET  # noqa: N815 - the names are those of http.server

            def log_message(self, *words):
                pass

        return Handler

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def backend():
    """Makes HTTP servers that stand behind the gateway."""
    made = []

    def make(name):
        made.append(Backend(name))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def gateway(backend, home):
    """A real Envoy on a free port."""
    gateway = Gateway(home, free_port())
    try:
        gateway.start()
        yield gateway
    finally:
        gateway.stop()


@pytest.fixture
def split():
    """The route of a service: its arms are (backend, weight)."""

    def route(*arms, service="delay", **more):
        values = {"namespace": "default", "model_name": service, "timeout_seconds": 5.0, **more}
        return Route(service=service, arms=tuple(Arm(b.name, b.port, weight) for b, weight in arms), **values)

    return route


class Running:
    """A model server in a process of its own, ready."""

    def __init__(self, *options, name="iris", grpc=False):
        self.port = free_port()
        self.grpc_port = free_port() if grpc else None
        self.base = f"http://127.0.0.1:{self.port}"
        more = ["--grpc-port", str(self.grpc_port)] if grpc else []
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in `end`
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "headrace.serving.runtime", "--name", name, "--revision",
             f"{name}-00001", "--port", str(self.port), *more, *map(str, options)],
            stdout=self.log, stderr=self.log, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        self._await()

    def _await(self):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if httpx.get(f"{self.base}/v2/health/live", timeout=5).status_code == 200:
                    return
            except httpx.HTTPError:
                time.sleep(0.05)
        words = self.words()
        self.end()
        raise AssertionError(f"the server does not start:\n{words}")

    def words(self):
        """What it wrote."""
        self.log.seek(0)
        return self.log.read()

    def post(self, path, **more):
        return httpx.post(f"{self.base}{path}", timeout=30, **more)

    def end(self):
        """Ask it to end; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(30)
        finally:
            self.process.kill()
            self.process.wait()
            self.log.close()
        return code


@pytest.fixture
def running():
    """Starts model servers in processes of their own, and ends them."""
    started = []

    def start(*options, **more):
        started.append(Running(*options, **more))
        return started[-1]

    yield start
    for server in started:
        if not server.log.closed:
            server.end()


@pytest.fixture(scope="module")
def kept():
    """As `running`; one server for all tests of a module that ask with the same options, and leave it as it is."""
    started = {}

    def start(*options, **more):
        key = (*map(str, options), *sorted(more.items()))
        if key not in started:
            started[key] = Running(*options, **more)
        return started[key]

    yield start
    for server in started.values():
        server.end()
