"""What is compared: how each server is started, and how it is asked about rows."""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
NAME = "model"
Rows = list[Any]


@dataclass(frozen=True)
class Ask:
    """One request."""

    path: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": "application/json"})


@dataclass(frozen=True)
class Tool:
    """A server. `command` gives its command line from interpreter, model's folder, model (iris or flights), port and a
    folder of its own; `ask` a request about rows; `many` one about a thousand, where that is another; `binary` one with
    its numbers as bytes (None: it takes none)."""

    name: str
    title: str
    command: Callable[[str, Path, str, int, Path], list[str]]
    ask: Callable[[str, Rows], Ask]
    ready: str
    peer: str = ""
    many: Callable[[str, Rows], Ask] | None = None
    binary: Callable[[str, Rows], Ask] | None = None
    models: tuple[str, ...] = ("iris", "flights")
    note: str = ""


def v1(model: str, rows: Rows) -> Ask:
    """KServe V1: lists of numbers, or mappings."""
    return Ask(f"/v1/models/{NAME}:predict", json.dumps({"instances": rows}).encode())


def v1_tables(model: str, rows: Rows) -> Ask:
    """KServe V1 as its scikit-learn server reads mappings: each instance is a small table."""
    if model == "flights":
        rows = [{name: [row[name] for row in rows] for name in rows[0]}]
    return v1(model, rows)


def v2(model: str, rows: Rows) -> Ask:
    """V2 as MLServer reads it: one tensor of numbers, or a tensor a column."""
    if model == "iris":
        data = [value for row in rows for value in row]
        tensors = [{"name": "x", "shape": [len(rows), 4], "datatype": "FP64", "data": data}]
        return Ask(f"/v2/models/{NAME}/infer", json.dumps({"inputs": tensors}).encode())
    tensors = [_column(name, [row[name] for row in rows]) for name in rows[0]]
    return Ask(
        f"/v2/models/{NAME}/infer", json.dumps({"parameters": {"content_type": "pd"}, "inputs": tensors}).encode()
    )


def _column(name: str, values: Rows) -> dict[str, Any]:
    text = isinstance(values[0], str)
    told: dict[str, Any] = {
        "name": name, "shape": [len(values), 1], "datatype": "BYTES" if text else "FP64", "data": values,
    }  # fmt: skip
    return {**told, "parameters": {"content_type": "str"}} if text else told


def v2_binary(model: str, rows: Rows) -> Ask:
    """V2 with the numbers as bytes."""
    data = struct.pack(f"<{4 * len(rows)}d", *(value for row in rows for value in row))
    tensor = {
        "name": "x", "shape": [len(rows), 4], "datatype": "FP64", "parameters": {"binary_data_size": len(data)},
    }  # fmt: skip
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"content-type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return Ask(f"/v2/models/{NAME}/infer", head + data, headers)


def invocations(model: str, rows: Rows) -> Ask:
    """MLflow's own protocol."""
    if model == "iris":
        return Ask("/invocations", json.dumps({"inputs": rows}).encode())
    split = {"columns": list(rows[0]), "data": [list(row.values()) for row in rows]}
    return Ask("/invocations", json.dumps({"dataframe_split": split}).encode())


def _headrace(*more: str) -> Callable[[str, Path, str, int, Path], list[str]]:
    def command(python: str, path: Path, model: str, port: int, own: Path) -> list[str]:
        return [
            python, "-W", "ignore", "-m", "headrace.serving.runtime", "--name", NAME, "--revision", f"{NAME}-00001",
            "--model-path", str(path), "--port", str(port), *more,
        ]  # fmt: skip

    return command


def _constant(python: str, path: Path, model: str, port: int, own: Path) -> list[str]:
    return [python, str(HERE / "constant.py"), str(port)]


def _kserve(python: str, path: Path, model: str, port: int, own: Path) -> list[str]:
    return [python, str(HERE / "peers" / "kserve_sklearn.py"), str(path / "model.pkl"), str(port)]


def _mlflow(python: str, path: Path, model: str, port: int, own: Path) -> list[str]:
    mlflow = str(Path(python).parent / "mlflow")
    return [mlflow, "models", "serve", "-m", str(path), "--env-manager", "local", "-p", str(port), "-w", "1"]


def _mlserver(batch: int) -> Callable[[str, Path, str, int, Path], list[str]]:
    def command(python: str, path: Path, model: str, port: int, own: Path) -> list[str]:
        settings: dict[str, Any] = {
            "http_port": port, "grpc_port": port + 1, "metrics_port": port + 2, "host": "127.0.0.1",
            "parallel_workers": 0, "debug": False,
        }  # fmt: skip
        (own / "settings.json").write_text(json.dumps(settings))
        kind = "mlserver_mlflow.MLflowRuntime" if model == "flights" else "mlserver_sklearn.SKLearnModel"
        uri = str(path) if model == "flights" else str(path / "model.joblib")
        told: dict[str, Any] = {"name": NAME, "implementation": kind, "parameters": {"uri": uri}}
        if batch:
            told |= {"max_batch_size": batch, "max_batch_time": 0.005}
        (own / "model-settings.json").write_text(json.dumps(told))
        return [str(Path(python).parent / "mlserver"), "start", str(own)]

    return command


TOOLS = (
    Tool("constant", "a constant, same HTTP stack", _constant, v1, "/", models=("iris",)),
    Tool("headrace", "Headrace", _headrace(), v1, "/v2/health/ready", many=v2, binary=v2_binary),
    Tool(
        "headrace-alone", "Headrace, each request alone", _headrace("--batch-size", "1", "--no-faster-form"), v1,
        "/v2/health/ready", many=v2, binary=v2_binary,
        note="`--batch-size 1 --no-faster-form`: nothing is put together, scikit-learn itself predicts",
    ),
    Tool(
        "headrace-original", "Headrace, scikit-learn itself", _headrace("--no-faster-form"), v1, "/v2/health/ready",
        many=v2, binary=v2_binary,
        note="`--no-faster-form`: what waits is one call of scikit-learn",
    ),
    Tool(
        "kserve", "KServe SDK, scikit-learn", _kserve, v1_tables, f"/v2/models/{NAME}/ready", "serving-kserve",
        binary=v2_binary,
        note="its scikit-learn server's code on kserve.Model, one worker, V1",
    ),
    Tool(
        "mlserver", "MLServer", _mlserver(0), v2, f"/v2/models/{NAME}/ready", "serving-mlserver",
        note="`parallel_workers: 0`: in one process, as the others; scikit-learn and MLflow runtimes, V2",
    ),
    Tool(
        "mlserver-batching", "MLServer, adaptive batching", _mlserver(64), v2, f"/v2/models/{NAME}/ready",
        "serving-mlserver", note="`max_batch_size: 64, max_batch_time: 0.005`",
    ),
    Tool(
        "mlflow", "mlflow models serve", _mlflow, invocations, "/ping", "serving-mlflow",
        note="`--env-manager local -w 1`, its own protocol at /invocations",
    ),
)  # fmt: skip


def chosen(names: str) -> list[Tool]:
    """The tools that a list with commas names; "" is all. Exits when one does not exist."""
    wanted = [name for name in names.split(",") if name] or [tool.name for tool in TOOLS]
    unknown = set(wanted) - {tool.name for tool in TOOLS}
    if unknown:
        sys.exit(f"no tool is called {', '.join(sorted(unknown))}; there are {', '.join(t.name for t in TOOLS)}")
    return [tool for tool in TOOLS if tool.name in wanted]
