"""What a component's executor asks for: Python code, an importer, a gate, or a container."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from headrace.runs.prelude import Requirements, requirements

GATE_IMAGE = "kfp://human-input"

# Libraries that may be imported before a task's process is forked: they start no threads and hold no sockets.
PRELOADABLE = (
    "great_expectations", "joblib", "lightgbm", "mlflow", "numpy", "onnxruntime", "pandas", "pyarrow", "scipy",
    "sklearn", "xgboost",
)  # fmt: skip
# What a library imports at its first use only, which is in every task.
_AT_FIRST_USE = {"pandas": ("pandas.io.parquet", "pyarrow.dataset", "pyarrow.parquet")}


@dataclass(frozen=True)
class PythonComponent:
    """A lightweight Python component: its source, the function in it, the packages it wants."""

    code: str
    function: str
    requirements: Requirements

    @property
    def imports(self) -> tuple[str, ...]:
        """Modules below PRELOADABLE that the code imports anywhere, sorted."""
        return _imports(self.code)

    @property
    def preload(self) -> tuple[str, ...]:
        """What is imported before its tasks' processes are forked; a module that is not there is not missed."""
        later = (module for name in self.imports for module in _AT_FIRST_USE.get(name, ()))
        return tuple(dict.fromkeys((*self.imports, *later)))


def python_component(container: Any) -> PythonComponent | None:
    """The Python component in a PipelineContainerSpec; None when it is another kind of container."""
    return _python_component(tuple(container.command), tuple(container.args))


@lru_cache(maxsize=512)
def _python_component(command: tuple[str, ...], args: tuple[str, ...]) -> PythonComponent | None:
    if not any("kfp.dsl.executor_main" in part for part in command[:-1]) or "--function_to_execute" not in args:
        return None
    function = args[args.index("--function_to_execute") + 1]
    return PythonComponent(command[-1], function, requirements(command))


@lru_cache(maxsize=512)
def _imports(code: str) -> tuple[str, ...]:
    try:
        tree = ast.parse(code)
    except SyntaxError:
        return ()
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return tuple(sorted(name for name in names if name.partition(".")[0] in PRELOADABLE))
