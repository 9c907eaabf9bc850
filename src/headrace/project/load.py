"""Find a project, and the document that a person means by a pipeline's name."""

from __future__ import annotations

import difflib
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from headrace.contracts import inference_service, project_file, rollout_document
from headrace.contracts.inference_service import InferenceService
from headrace.contracts.project_file import PipelineEntry, ProjectFile, Reference, ServiceEntry
from headrace.contracts.rollout import Rollout
from headrace.errors import DocumentError, NotFoundError, UsageError
from headrace.project.compile import compile_pipeline
from headrace.store.home import PROJECT_FILE

Entry = TypeVar("Entry")


@dataclass(frozen=True)
class Project:
    """A project folder and what its headrace.toml says."""

    root: Path
    file: ProjectFile

    def pipeline(self, name: str) -> PipelineEntry:
        """The `[pipelines.NAME]` entry. Raises NotFoundError."""
        return _entry(self, "pipeline", name, self.file.pipelines)

    def service(self, name: str) -> ServiceEntry:
        """The `[services.NAME]` entry. Raises NotFoundError."""
        return _entry(self, "service", name, self.file.services)

    def storage(self, uri: str) -> str:
        """Where a model lies that a storage address names: what an alias stands for; paths from the project's root."""
        uri = self.file.aliases.get(uri, uri)
        return uri if ":/" in uri else str((self.root / uri).resolve())

    def manifest(self, service: str) -> InferenceService:
        """The InferenceService of `[services.NAME]`.

        Raises:
            NotFoundError: no such service.
            UsageError: its file cannot be read; DocumentError: it is wrong, or of another name.
        """
        entry = self.service(service)
        file = str(self.root / entry.manifest)
        found = inference_service.parse(self.read(entry.manifest, f"services.{service}.manifest"), file)
        if found.name != service:
            raise DocumentError(
                f'is "{found.name}", and headrace.toml calls the service "{service}"', file=file,
                field="metadata.name", remedy="Give it the same name in both.",
            )  # fmt: skip
        return found.within(str(self.root))

    def rollout(self, service: str) -> Rollout:
        """The rollout document of `[services.NAME]`; without one, everything at once. Raises as `manifest`."""
        entry = self.service(service)
        if not entry.rollout:
            return rollout_document.parse(rollout_document.DIRECT, str(self.root / PROJECT_FILE))
        text = self.read(entry.rollout, f"services.{service}.rollout")
        return rollout_document.parse(text, str(self.root / entry.rollout))

    def read(self, relative: str, wanted_by: str) -> str:
        """The text of a file that headrace.toml names. Raises UsageError when it is not there."""
        path = self.root / relative
        try:
            return path.read_text(encoding="utf-8")
        except OSError as error:
            raise UsageError(
                f"{wanted_by} names {relative}, which cannot be read: {error.strerror}",
                where=str(self.root / PROJECT_FILE),
                remedy="Correct the path; it is relative to headrace.toml.",
            ) from error


@dataclass(frozen=True)
class PipelineSource:
    """A pipeline ready to run: its document's text, where it came from, its fixed parameters."""

    name: str
    text: str
    file: str
    parameters: Mapping[str, Any]


def load(root: Path) -> Project:
    """The project in `root`. Raises UsageError (no headrace.toml) or DocumentError."""
    path = root / PROJECT_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"no project here: {error.strerror}", where=str(path), remedy="`headrace init DIR` makes a project."
        ) from error
    return Project(root, project_file.parse(text, str(path)))


def find(start: Path | None = None) -> Project | None:
    """The project in `start` (default: here) or the nearest folder above it; None when there is none."""
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / PROJECT_FILE).is_file():
            return load(folder)
    return None


def service_source(project: Project | None, wanted: str) -> InferenceService | None:
    """The service meant by `wanted`: a name in headrace.toml, or a file that holds an InferenceService; else None.

    Raises:
        UsageError, DocumentError: its file cannot be read, or is wrong.
    """
    if project is not None and wanted in project.file.services and wanted not in project.file.pipelines:
        return project.manifest(wanted)
    file = Path(wanted)
    if file.suffix not in (".yaml", ".yml") or not file.is_file():
        return None
    text = file.read_text(encoding="utf-8", errors="replace")
    if not re.search(r"^kind:\s*['\"]?InferenceService\b", text, re.MULTILINE):
        return None
    return inference_service.parse(text, str(file))


def pipeline_source(project: Project | None, wanted: str, *, show_traceback: bool = False) -> PipelineSource:
    """The document meant by `wanted`: a name in headrace.toml, `file.py[:function]` or a compiled `.yaml`.

    Raises:
        UsageError: no such pipeline or file; the file does not compile.
    """
    if project is not None and wanted in project.file.pipelines:
        entry = project.pipeline(wanted)
        parameters = resolve(entry.parameters, project.root)
        named_in = f"{project.root / PROJECT_FILE}: pipelines.{wanted}.source"
        text, file = _document(project.root, entry.source, show_traceback, named_in=named_in)
        return PipelineSource(wanted, text, file, parameters)
    if Path(wanted.rpartition(":")[0] or wanted).suffix in (".py", ".yaml", ".yml", ".json") or Path(wanted).suffix:
        text, file = _document(Path.cwd(), wanted, show_traceback)
        return PipelineSource(Path(file).stem, text, file, {})
    known = sorted(project.file.pipelines) if project else []
    files = [name for name in (f"{wanted}.py", f"{wanted}.yaml") if Path(name).is_file()]
    near = files or difflib.get_close_matches(wanted, known, n=1)
    raise NotFoundError(
        f'no pipeline is called "{wanted}"' if project else f'no project here, and "{wanted}" is not a file',
        remedy=(f'Did you mean "{near[0]}"? ' if near else "")
        + (f"headrace.toml has: {', '.join(known) or 'no pipelines'}. " if project else "")
        + "Give a name from headrace.toml, file.py[:function] or a compiled .yaml.",
    )


def resolve(parameters: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """Look up references: globs and paths become absolute, `{ git = "commit" }` the commit ("" outside git).

    Raises:
        UsageError: a path that does not exist, or a glob that matches nothing.
    """
    return {name: _resolve(name, value, root) for name, value in parameters.items()}


def commit_of(root: Path) -> str:
    """The commit that is checked out in `root`; "" when it is no git work tree or has no commit."""
    done = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def _resolve(name: str, value: object, root: Path) -> object:
    if not isinstance(value, Reference):
        return value
    if value.kind == "git":
        return commit_of(root)
    if value.kind == "path":
        path = root / value.value
        if not path.exists():
            raise _unmatched(name, root, f"{value.value} does not exist")
        return str(path)
    matches = sorted(str(path) for path in root.glob(value.value))
    if not matches:
        raise _unmatched(name, root, f"{value.value} matches no file")
    return matches


def _unmatched(name: str, root: Path, problem: str) -> UsageError:
    return UsageError(
        f"parameter {name}: {problem}",
        where=str(root / PROJECT_FILE),
        remedy="Correct the path; it is relative to headrace.toml.",
    )


def _document(base: Path, source: str, show_traceback: bool, *, named_in: str = "") -> tuple[str, str]:
    """The text of a compiled document, and the file that errors should name. `named_in`: who asks for it."""
    name, separator, function = source.rpartition(":")
    file = name if separator else source
    path = (base / file).resolve()
    if not path.is_file():
        remedy = "Correct the path; it is relative to headrace.toml." if named_in else "Check the path of the pipeline."
        raise UsageError(f"no such file: {file}", where=named_in or str(base), remedy=remedy)
    if path.suffix == ".py":
        return compile_pipeline(path, function if separator else "", show_traceback=show_traceback), str(path)
    try:
        return path.read_text(encoding="utf-8"), str(path)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the file cannot be read: {error}", where=str(path)) from error


def _entry(project: Project, kind: str, name: str, table: Mapping[str, Entry]) -> Entry:
    if name in table:
        return table[name]
    near = difflib.get_close_matches(name, table, n=1)
    raise NotFoundError(
        f'no {kind} is called "{name}"',
        where=str(project.root / PROJECT_FILE),
        remedy=f'Did you mean "{near[0]}"?' if near else f"Known: {', '.join(sorted(table)) or 'none'}.",
    )
