"""headrace.toml: what a project is made of, as frozen types. Every key is known or refused by its line.

[project]
name = "flights"
mlflow = "https://mlflow.example.com"       # left out: an embedded MLflow in the state folder

[pipelines.retrain]
source = "pipelines/retrain.py:retrain"     # file.py[:function] or a compiled .yaml
triggers = ["push:data/**"]
parameters = { months = { glob = "data/*.parquet" }, suite = { path = "suite.json" }, commit = { git = "commit" } }

[services.delay]
manifest = "serving/delay.yaml"             # a KServe InferenceService
rollout = "serving/rollout.yaml"

[storage.aliases]                           # where a model lies that this machine cannot fetch
"gs://kfserving-examples/models/sklearn/1.0/model" = "models/iris"

[environments.dev]
engine = "embedded"
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from headrace.errors import DocumentError

ENGINES = ("embedded", "kubeflow", "airflow", "sagemaker", "vertex")
REFERENCES = ("glob", "path", "git")


@dataclass(frozen=True)
class Reference:
    """A parameter that is looked up when a run starts.

    `glob`: the sorted absolute paths that match; `path`: one absolute path; `git`: `commit`, the checked-out commit.
    """

    kind: str
    value: str


@dataclass(frozen=True)
class PipelineEntry:
    """One `[pipelines.NAME]` table. `push` holds the globs of its push triggers."""

    name: str
    source: str
    push: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ServiceEntry:
    """One `[services.NAME]` table: paths of the InferenceService and of its rollout document ("" for none)."""

    name: str
    manifest: str
    rollout: str = ""


@dataclass(frozen=True)
class EnvironmentEntry:
    """One `[environments.NAME]` table."""

    name: str
    engine: str = "embedded"


@dataclass(frozen=True)
class ProjectFile:
    """A whole headrace.toml."""

    name: str
    mlflow: str = ""
    pipelines: Mapping[str, PipelineEntry] = field(default_factory=dict)
    services: Mapping[str, ServiceEntry] = field(default_factory=dict)
    environments: Mapping[str, EnvironmentEntry] = field(default_factory=dict)
    # Storage addresses of models, and the paths or other addresses that stand for them.
    aliases: Mapping[str, str] = field(default_factory=dict)


def parse(text: str, file: str) -> ProjectFile:
    """The project that `text` describes; `file` is only named in errors.

    Raises:
        DocumentError: not TOML, an unknown or missing key, or a value of the wrong type.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _syntax_error(error, file) from error
    return _Reader(text, file).project(data)


def _syntax_error(error: tomllib.TOMLDecodeError, file: str) -> DocumentError:
    found = re.search(r"(.*) \(at line (\d+), column (\d+)\)", str(error))
    problem, line = (found[1], int(found[2])) if found else (str(error), None)
    return DocumentError(
        f"not valid TOML: {problem}", file=file, line=line, remedy="Mend this line; https://toml.io shows the syntax."
    )


class _Reader:
    """Reads tables of one file and points at the line of what is wrong."""

    def __init__(self, text: str, file: str) -> None:
        self.lines = text.splitlines()
        self.file = file

    def project(self, data: dict[str, Any]) -> ProjectFile:
        self.known("", data, ("project", "pipelines", "services", "environments", "storage"))
        head = self.table("project", data.get("project"), required=True)
        self.known("project", head, ("name", "mlflow"))
        return ProjectFile(
            name=self.text("project", head, "name", required=True),
            mlflow=self.text("project", head, "mlflow"),
            pipelines={n: self.pipeline(n, t) for n, t in self.tables("pipelines", data)},
            services={n: self.service(n, t) for n, t in self.tables("services", data)},
            environments={n: self.environment(n, t) for n, t in self.tables("environments", data)},
            aliases=self.aliases(self.table("storage", data.get("storage", {}))),
        )

    def pipeline(self, name: str, table: dict[str, Any]) -> PipelineEntry:
        path = f"pipelines.{name}"
        self.known(path, table, ("source", "triggers", "parameters"))
        parameters = self.table(f"{path}.parameters", table.get("parameters", {}))
        return PipelineEntry(
            name=name,
            source=self.text(path, table, "source", required=True),
            push=self.push_globs(path, table.get("triggers", [])),
            parameters={key: self.parameter(f"{path}.parameters", key, value) for key, value in parameters.items()},
        )

    def push_globs(self, path: str, triggers: object) -> tuple[str, ...]:
        if not isinstance(triggers, list) or not all(isinstance(t, str) for t in triggers):
            raise self.error(path, "triggers", "must be a list of strings", 'Write it as ["push:data/**"].')
        for trigger in triggers:
            if not trigger.startswith("push:") or trigger == "push:":
                raise self.error(
                    path, "triggers", f'"{trigger}" is no trigger that this version knows',
                    'Write "push:" and a glob of changed files, as in "push:data/**".',
                )  # fmt: skip
        return tuple(trigger.removeprefix("push:") for trigger in triggers)

    def parameter(self, path: str, key: str, value: object) -> object:
        if isinstance(value, dict) and len(value) == 1:
            (kind, inner), *_ = value.items()
            if kind in REFERENCES:
                if not isinstance(inner, str) or (kind == "git" and inner != "commit"):
                    raise self.error(
                        path, key, f"{{ {kind} = … }} has a wrong value", 'Write { git = "commit" }, or a path.'
                    )
                return Reference(kind, inner)
        return value

    def service(self, name: str, table: dict[str, Any]) -> ServiceEntry:
        path = f"services.{name}"
        self.known(path, table, ("manifest", "rollout"))
        return ServiceEntry(name, self.text(path, table, "manifest", required=True), self.text(path, table, "rollout"))

    def environment(self, name: str, table: dict[str, Any]) -> EnvironmentEntry:
        path = f"environments.{name}"
        self.known(path, table, ("engine",))
        engine = self.text(path, table, "engine") or "embedded"
        if engine not in ENGINES:
            raise self.error(path, "engine", f'no engine is called "{engine}"', f"Choose one of {', '.join(ENGINES)}.")
        return EnvironmentEntry(name, engine)

    def aliases(self, storage: dict[str, Any]) -> dict[str, str]:
        self.known("storage", storage, ("aliases",))
        aliases = self.table("storage.aliases", storage.get("aliases", {}))
        return {uri: self.text("storage.aliases", aliases, uri, required=True) for uri in aliases}

    def tables(self, section: str, data: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        section_table = self.table(section, data.get(section, {}))
        return [(name, self.table(f"{section}.{name}", table)) for name, table in section_table.items()]

    def table(self, path: str, value: object, required: bool = False) -> dict[str, Any]:
        if value is None and required:
            raise DocumentError(
                f"the table [{path}] is missing", file=self.file, remedy=f'Add [{path}] with name = "…".'
            )
        if not isinstance(value, dict):
            parent, _, key = path.rpartition(".")
            raise self.error(parent, key, "must be a table", f"Write it as [{path}].")
        return value

    def text(self, path: str, table: dict[str, Any], key: str, required: bool = False) -> str:
        value = table.get(key, "")
        if not isinstance(value, str):
            raise self.error(path, key, "must be a string", f'Write {key} = "…".')
        if required and not value:
            raise self.error(path, key, "is missing", f'Add {key} = "…" to [{path}].')
        return value

    def known(self, path: str, table: dict[str, Any], keys: tuple[str, ...]) -> None:
        for key in table:
            if key not in keys:
                near = difflib.get_close_matches(key, keys, n=1)
                remedy = f'Did you mean "{near[0]}"?' if near else f"Known here: {', '.join(keys)}."
                raise self.error(path, key, "is not a key that Headrace knows", remedy)

    def error(self, path: str, key: str, problem: str, remedy: str) -> DocumentError:
        field_name = f"{path}.{key}" if path else key
        return DocumentError(problem, file=self.file, line=self.line(path, key), field=field_name, remedy=remedy)

    def line(self, path: str, key: str) -> int | None:
        """The line of `key` in table `path`, else the line of the table, else none: tomllib keeps no positions."""
        table_line = None
        current = ""
        for number, line in enumerate(self.lines, start=1):
            header = re.match(r"\s*\[\s*([^\]]+?)\s*\]", line)
            if header:
                current = header[1].replace('"', "")
                if current in (path, f"{path}.{key}" if path else key):
                    table_line = table_line or number
                if current == (f"{path}.{key}" if path else key) or (not path and current.split(".")[0] == key):
                    return number
            elif current == path and re.match(rf'\s*"?{re.escape(key)}"?\s*=', line):
                return number
        if table_line is None and "." in path:  # an inline table: point at the line that it stands on
            return self.line(*path.rpartition(".")[::2])
        return table_line
