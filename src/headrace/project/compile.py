"""Turn `file.py:function` into a PipelineSpec with the KFP SDK, in a process of its own.

Importing kfp takes about two seconds and a user's file may do anything, so neither happens in the caller.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from headrace.errors import UsageError


def compile_pipeline(source: Path, function: str = "", *, show_traceback: bool = False) -> str:
    """The IR YAML of the pipeline `function` in `source`; of its only pipeline when `function` is "".

    Raises:
        UsageError: the file cannot be imported or compiled, or holds no such pipeline.
    """
    source = source.resolve()
    with tempfile.TemporaryDirectory(prefix="headrace-compile-") as folder:
        output = Path(folder) / "pipeline.yaml"
        done = subprocess.run(
            # -P: a user's random.py must not stand in for Python's own before the SDK is imported.
            [sys.executable, "-P", "-m", "headrace.project.compile", str(source), function, str(output)],
            capture_output=True,
            text=True,
            cwd=source.parent,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
            check=False,
        )
        if output.exists():
            return output.read_text(encoding="utf-8")
    raise _failure(source, done, show_traceback)


def _failure(source: Path, done: subprocess.CompletedProcess[str], show_traceback: bool) -> UsageError:
    last = done.stdout.strip().rpartition("\n")[2]
    try:
        said: dict[str, Any] = json.loads(last)
    except ValueError:
        said = {"problem": (done.stderr or done.stdout or "the compiler died").strip().rpartition("\n")[2]}
    if show_traceback:
        sys.stderr.write(done.stderr)
    line = said.get("line")
    return UsageError(said["problem"], where=f"{source}:{line}" if line else str(source), remedy=said.get("remedy", ""))


class _NotChosen(Exception):
    """The file holds no such pipeline: the problem and its remedy."""


def _compile(source: Path, function: str, output: Path) -> None:
    """The child's work: import, choose, compile."""
    import importlib.util

    from kfp.compiler import Compiler

    sys.path.insert(0, str(source.parent))
    name = source.stem if source.stem not in sys.modules else f"{source.stem}_pipeline"
    spec = importlib.util.spec_from_file_location(name, source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    Compiler().compile(_choose(vars(module), function), str(output))


def _choose(names: dict[str, Any], function: str) -> Any:
    from kfp.dsl.base_component import BaseComponent
    from kfp.dsl.graph_component import GraphComponent

    runnable = {
        name: value for name, value in names.items() if isinstance(value, BaseComponent) and not name.startswith("_")
    }
    pipelines = {name: value for name, value in runnable.items() if isinstance(value, GraphComponent)}
    if function in runnable:
        return runnable[function]
    if not function and len(pipelines) == 1:
        return next(iter(pipelines.values()))
    offer = ", ".join(sorted(pipelines)) or "none"
    if function:
        problem, remedy = f'no pipeline function is called "{function}"', f"Pipelines in this file: {offer}."
    elif pipelines:
        problem, remedy = f"the file has {len(pipelines)} pipelines", f"Name one after a colon: {offer}."
    else:
        problem, remedy = "the file has no pipeline", "Decorate a function with @dsl.pipeline."
    raise _NotChosen(problem, remedy)


def _explain(error: BaseException, source: Path) -> dict[str, Any]:
    """The error as `problem`, `line` and `remedy`, at the deepest line that lies in the user's file."""
    if isinstance(error, _NotChosen):
        problem, remedy = error.args
        return {"problem": problem, "remedy": remedy}
    if isinstance(error, SyntaxError) and error.filename == str(source):
        return {"problem": f"syntax error: {error.msg}", "line": error.lineno, "remedy": "Mend this line."}
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(source):
            line = trace.tb_lineno
        trace = trace.tb_next
    remedy = "Run with --debug to see the whole traceback."
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        remedy = f"Install it beside headrace (uv pip install {package}), or import it inside the component."
    return {
        "problem": f"the pipeline does not compile: {type(error).__name__}: {error}", "line": line, "remedy": remedy,
    }  # fmt: skip


def _main(source: str, function: str, output: str) -> int:
    try:
        _compile(Path(source), function, Path(output))
    except BaseException as error:  # noqa: BLE001 - a user's file may raise anything; the parent reports it
        import traceback

        traceback.print_exc()
        sys.stdout.write("\n" + json.dumps(_explain(error, Path(source))) + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:4]))
