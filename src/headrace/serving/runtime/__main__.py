"""`python -m headrace.serving.runtime`: serve one revision until SIGTERM."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path


def main() -> int:
    """Load the model, then listen: who can connect finds it ready."""
    parser = argparse.ArgumentParser(prog="headrace.serving.runtime")
    parser.add_argument("--name", required=True)
    parser.add_argument("--revision", required=True)
    parser.add_argument("--model-path", required=True, type=Path)
    parser.add_argument("--port", required=True, type=int)
    parser.add_argument("--payload-log", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    # Before numpy and scikit-learn are imported: their thread pools read this once.
    for library in ("OMP", "OPENBLAS", "MKL", "NUMEXPR"):
        os.environ[f"{library}_NUM_THREADS"] = str(options.threads)

    import uvicorn

    from headrace.errors import HeadraceError
    from headrace.serving.payload_log import PayloadWriter
    from headrace.serving.runtime.app import ModelServer
    from headrace.serving.runtime.loaders import load
    from headrace.serving.runtime.warm_up import warm_up

    try:
        model = load(options.model_path)
    except HeadraceError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    problem = warm_up(model, options.model_path)
    if problem:
        sys.stderr.write(f"{problem}\n")
    payloads = PayloadWriter(options.payload_log, options.revision) if options.payload_log else None
    server = ModelServer(options.name, options.revision, model, payloads)
    uvicorn.run(
        server.application(),
        host="127.0.0.1",
        port=options.port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=10,
        timeout_keep_alive=75,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
