"""What a component's executor asks for: Python code, an importer, a gate, or a container."""

from __future__ import annotations

import ast
import json
import re
import shlex
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from typing import Any

from headrace.contracts.pipeline_spec.document import PipelineDocument
from headrace.errors import HeadraceError, UnsupportedError

GATE_IMAGE = "kfp://human-input"

# Libraries that may be imported before a task's process is forked: they start no threads and hold no sockets.
PRELOADABLE = (
    "great_expectations", "joblib", "lightgbm", "mlflow", "numpy", "onnxruntime", "pandas", "pyarrow", "scipy",
    "sklearn", "xgboost",
)  # fmt: skip

# Installed by the SDK's own prelude; the worker brings them along.
_OWN_PACKAGES = {"kfp", "typing-extensions"}

_PIP_OPTIONS_WITH_VALUES = {"--index-url", "--extra-index-url", "--trusted-host"}


@dataclass(frozen=True)
class PythonComponent:
    """A lightweight Python component: its source, the function in it, the packages it wants."""

    code: str
    function: str
    packages: tuple[str, ...]

    @property
    def imports(self) -> tuple[str, ...]:
        """Modules below PRELOADABLE that the code imports anywhere, sorted."""
        return _imports(self.code)


def python_component(container: Any) -> PythonComponent | None:
    """The Python component in a PipelineContainerSpec; None when it is another kind of container."""
    command, args = list(container.command), list(container.args)
    if not any("kfp.dsl.executor_main" in part for part in command[:-1]) or "--function_to_execute" not in args:
        return None
    function = args[args.index("--function_to_execute") + 1]
    return PythonComponent(command[-1], function, _packages(command))


def refuse_unsupported(document: PipelineDocument) -> None:
    """Say before anything runs what cannot run here.

    Raises:
        UnsupportedError: a component needs a container, or a package that is not installed.
    """
    problems = gaps(document)
    if problems:
        component, problem, remedy = problems[0]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise UnsupportedError(f"component {component} {problem}{more}", where=document.file, remedy=remedy)


def gaps(document: PipelineDocument) -> list[tuple[str, str, str]]:
    """What the embedded engine cannot do for this pipeline: component, problem, remedy."""
    found = []
    for name, component in sorted(document.spec.components.items()):
        if component.WhichOneof("implementation") != "executor_label":
            continue
        executor = document.executors[component.executor_label]
        label = name.removeprefix("comp-")
        if executor.WhichOneof("spec") == "container":
            found += [(label, *gap) for gap in _container_gaps(executor.container)]
        elif executor.WhichOneof("spec") != "importer":
            found.append((label, "is of a kind that the embedded engine does not run", "Use another engine."))
    return found


def _container_gaps(container: Any) -> list[tuple[str, str]]:
    if container.image == GATE_IMAGE:
        return []
    component = python_component(container)
    if component is None:
        return [
            (
                f"runs the container image {container.image}, and the embedded engine runs Python components only",
                "Write it as a lightweight Python component (@dsl.component), or use an engine that runs containers.",
            )
        ]
    return [
        (
            f"needs the package {package}, which {_installed(package)}",
            f"Install it beside headrace: uv pip install '{package}'",
        )
        for package in component.packages
        if not _satisfied(package)
    ]


def _packages(command: list[str]) -> tuple[str, ...]:
    """The requirements in the SDK's install prelude, without its own."""
    packages = []
    for line in "\n".join(command[:-1]).splitlines():
        if "-m pip install " in line:
            packages += _installs(line)
    return tuple(p for p in packages if re.split(r"[^\w-]", p)[0].lower() not in _OWN_PACKAGES)


def _installs(line: str) -> list[str]:
    """What a line of shell gives to `pip install`, all commands in it together."""
    words = shlex.shlex(line, posix=True, punctuation_chars="&")
    words.whitespace_split = True
    words.commenters = ""
    found, before, inside = [], "", False
    for word in words:
        if word == "install" and before == "pip":
            inside = True
        elif word == "&&":
            inside = False
        elif inside and not word.startswith("-") and before not in _PIP_OPTIONS_WITH_VALUES:
            found.append(word)
        before = word
    return found


def _satisfied(requirement: str) -> bool:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        wanted = Requirement(requirement)
        if wanted.marker is not None and not wanted.marker.evaluate():
            return True
        return wanted.specifier.contains(metadata.version(wanted.name), prereleases=True)
    except (InvalidRequirement, metadata.PackageNotFoundError):
        return False


def _installed(requirement: str) -> str:
    name = re.split(r"[^\w.-]", requirement)[0]
    try:
        return f"is installed as version {metadata.version(name)}"
    except (metadata.PackageNotFoundError, ValueError):
        return "is not installed"


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


@dataclass(frozen=True)
class GateRequest:
    """What a `kfp://human-input` component asks a person."""

    question: str
    parameters: dict[str, Any]
    evidence: dict[str, Any]
    required: int


def gate_request(arguments: list[str]) -> GateRequest:
    """Read the arguments of a gate component, placeholders filled in.

    `arguments[0]` is JSON: {"question": …, "parameters": {name: {"description", "default", "enum"}}, "required": 1};
    then pairs of `--evidence.NAME` and a value. The shape follows KFP's proposal for human input (issue 14413).

    Raises:
        HeadraceError: `arguments[0]` is something else.
    """
    asked = _json_or_text(arguments[0]) if arguments else ""
    if not isinstance(asked, dict):
        raise HeadraceError(f"a gate asks in a JSON object, and this is none: {asked}")
    evidence = {
        name.removeprefix("--evidence."): _json_or_text(value)
        for name, value in zip(arguments[1::2], arguments[2::2], strict=False)
    }
    return GateRequest(
        question=asked.get("question") or asked.get("description") or "Go on?",
        parameters=asked.get("parameters", {}),
        evidence=evidence,
        required=int(asked.get("required", 1)),
    )


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
