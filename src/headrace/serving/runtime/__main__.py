"""`python -m headrace.serving.runtime`: serve one revision until SIGTERM."""

from __future__ import annotations

import argparse
import gc
import importlib.util
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.serving.runtime.settings import MAX_BODY, MAX_WAITING, Settings

if TYPE_CHECKING:
    from headrace.serving.runtime.app import ModelServer
    from headrace.serving.runtime.models import Model

# The event loop answers "too many" while a prediction holds the interpreter in its thread.
_SWITCH_SECONDS = 0.001
_GARBAGE = 20_000  # objects that are made and not gone, from which on they are looked through


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="headrace.serving.runtime", description=__doc__)
    add = parser.add_argument
    add("--name", required=True, help="the model's name in the paths of requests")
    add("--revision", required=True, help="its version, as V2 says it")
    add("--model-path", type=Path, help="an MLflow model's folder, or a model file or its folder as KServe takes them")
    add("--format", default="", help="mlflow, sklearn, xgboost, lightgbm or onnx (default: what is found)")
    add("--model-class", default="", metavar="FILE.py:CLASS", help="a predictor of your own instead of a model file")
    add("--transformer", default="", metavar="FILE.py:CLASS", help="your own preprocess and postprocess around it")
    add("--port", required=True, type=int)
    add("--grpc-port", type=int, help="answer the V2 protocol over gRPC here")
    add("--host", default="127.0.0.1")
    add("--payload-log", type=Path, help="the SQLite file that predictions are noted in")
    add("--payload-mode", default="", choices=["", "all", "request", "response"],
        help="also keep whole requests, answers or both, in Parquet files beside it")  # fmt: skip
    add("--payload-sample", type=_amount, default=1.0, metavar="SHARE", help="of what share of the requests (1)")
    add("--threads", type=_count, default=1, help="threads of a prediction (1)")
    add("--workers", type=_count, default=1, help="processes that share the model and the port (1)")
    add("--batch-size", type=_count, help="put waiting requests together up to so many rows; 1: never "
        "(default: 256 where rows are known to be independent, else 1)")  # fmt: skip
    add("--batch-delay-ms", type=_amount, default=0.0, help="how long a request waits for others to come (0)")
    add("--max-body", type=_count, default=MAX_BODY, metavar="BYTES", help=f"({MAX_BODY})")
    add("--max-concurrency", type=int, default=0, help=f"how many requests may wait in a worker (0: {MAX_WAITING})")
    add("--client-timeout", type=_amount, default=60.0, metavar="SECONDS", help="how long a request may take to come")
    add("--no-faster-form", action="store_true", help="predict with the original, also where a faster form is kept")
    add("--faster-forms", type=Path, metavar="FOLDER",
        help="make a faster form here when the model has none beside it, if it agrees")  # fmt: skip
    return parser


def main() -> int:
    """Load the model, then listen: who can connect finds it ready."""
    parser = options()
    asked = parser.parse_args()
    if not asked.model_path and not asked.model_class:
        parser.error("--model-path or --model-class is needed")
    # Before numpy and scikit-learn are imported: their thread pools read this once.
    for library in ("OMP", "OPENBLAS", "MKL", "NUMEXPR"):
        os.environ[f"{library}_NUM_THREADS"] = str(asked.threads)
    sys.setswitchinterval(_SWITCH_SECONDS)

    from headrace.errors import HeadraceError, UsageError
    from headrace.serving.runtime.serve import listening

    try:
        # Imported in the workers only: what it starts does not survive a fork.
        if asked.grpc_port and importlib.util.find_spec("grpc") is None:
            raise UsageError("--grpc-port needs grpcio", remedy="pip install grpcio, or pip install 'headrace[grpc]'.")
        server = _server(asked)
        try:
            listener = listening(asked.host, asked.port)
        except OSError as error:
            raise UsageError(f"cannot listen on {asked.host}:{asked.port}: {error.strerror}") from error
    except HeadraceError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    # What is loaded stays: to look through all of it for garbage stops a server for ten milliseconds each time. What a
    # request brings goes by itself.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GARBAGE)
    if asked.workers == 1:
        _work(server, listener, asked, 0)
        return 0
    from headrace.serving.runtime.workers import Workers

    return Workers(asked.workers, partial(_work, server, listener, asked, os.getpid()), listener.close).run()


def _server(asked: argparse.Namespace) -> ModelServer:
    """The application over the loaded model. Raises HeadraceError."""
    from headrace.serving.runtime import loaders
    from headrace.serving.runtime.app import ModelServer
    from headrace.serving.runtime.models import Model

    if asked.format not in ("", *loaders.FORMATS):
        from headrace.errors import UsageError

        raise UsageError(f"--format {asked.format} is unknown", remedy=f"Formats: {', '.join(loaders.FORMATS)}.")
    more: dict[str, Any] = {}
    if asked.model_class:
        model, seconds = Model(None, (), (), form="tensors", platform="python"), 0.0
        if asked.model_path:
            os.environ["MODEL_PATH"] = str(asked.model_path)
    else:
        model = loaders.load(
            asked.model_path, format=asked.format, threads=asked.threads, faster=not asked.no_faster_form,
            forms=asked.faster_forms,
        )  # fmt: skip
        problem, seconds = _warm(model, asked.model_path) if _may_warm(asked) else ("", 0.0)
        if problem:
            sys.stderr.write(f"{problem}\n")
    for option, key in (("--model-class", "predictor"), ("--transformer", "transformer")):
        named = asked.model_class if key == "predictor" else asked.transformer
        if named:
            from headrace.serving.runtime import custom

            more[key] = custom.load(named, option, asked.name)
    settings = Settings(
        max_body=asked.max_body, max_concurrency=asked.max_concurrency, batch_rows=asked.batch_size or 0,
        batch_delay=asked.batch_delay_ms / 1000, client_seconds=asked.client_timeout,
    )  # fmt: skip
    server = ModelServer(asked.name, asked.revision, model, None, settings, **more)
    for _ in range(16 if seconds else 0):
        server.served.line.learn(seconds, 1)
    return server


def _may_warm(asked: argparse.Namespace) -> bool:
    """A pool of threads that has worked does not survive a fork."""
    return bool(asked.workers == 1 or asked.threads == 1)


def _warm(model: Model, path: Path) -> tuple[str, float]:
    from headrace.serving.runtime.warm_up import timed

    return timed(model, path)


def _work(server: ModelServer, listener: Any, asked: argparse.Namespace, parent: int) -> None:
    """Serve in this process: what has threads is made here, after any fork."""
    from headrace.serving.payload_files import PayloadFiles
    from headrace.serving.payload_log import PayloadWriter
    from headrace.serving.runtime.serve import serve

    if asked.payload_log:
        files = None
        if asked.payload_mode:
            folder = asked.payload_log.with_suffix("")
            files = PayloadFiles(folder, mode=asked.payload_mode, sample=asked.payload_sample)
        server.served.payloads = PayloadWriter(asked.payload_log, asked.revision, files)
    if asked.grpc_port:
        from headrace.serving.runtime.grpc_service import GrpcServer

        server.companions.append(GrpcServer(server.served, asked.host, asked.grpc_port, shared=asked.workers > 1))
    serve(server, listener, parent=parent)


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _amount(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1e6:
        raise argparse.ArgumentTypeError("must be a number that is not negative")
    return value


if __name__ == "__main__":
    sys.exit(main())
