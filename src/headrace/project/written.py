"""The documents of a project's pipelines as their sources say them, each compiled once for each state of its file."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

from headrace.errors import UsageError
from headrace.project.load import Project, pipeline_source


@dataclass(frozen=True)
class Written:
    """A pipeline's document; "" when its source gives none, and then `problem` and `remedy` say why."""

    document: str
    problem: str = ""
    remedy: str = ""


class Sources:
    """What has been compiled of a project. Safe for threads; one compiler at a time, as it takes some seconds."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[tuple[int, int], Written]] = {}

    def changed_at(self, name: str) -> float:
        """When the file of a pipeline was changed, in unix seconds; 0.0 when there is none. Raises NotFoundError."""
        return self._state(name)[0] / 1e9

    def kept(self, name: str) -> Written | None:
        """What the file gives as it is now, if that is known. What it imports may be older. Raises NotFoundError."""
        state, written = self._kept.get(name, (None, None))
        return written if state == self._state(name) else None

    def read(self, name: str) -> Written:
        """What the file gives as it is now; a Python file takes some seconds, once. Raises NotFoundError."""
        with self._lock:
            found = self.kept(name)
            if found is None:
                state = self._state(name)
                try:
                    found = Written(pipeline_source(self.project, name).text)
                except UsageError as error:
                    where = f"{error.where}: " if error.where else ""
                    found = Written("", where + error.problem, error.remedy)
                self._kept[name] = state, found
            return found

    def is_python(self, name: str) -> bool:
        """Whether the source of a pipeline has to be compiled. Raises NotFoundError."""
        return self._file(name).suffix == ".py"

    def _file(self, name: str) -> Path:
        source = self.project.pipeline(name).source
        return self.project.root / (source.rpartition(":")[0] or source)

    def _state(self, name: str) -> tuple[int, int]:
        try:
            stat = self._file(name).stat()
        except OSError:
            return 0, 0
        return stat.st_mtime_ns, stat.st_size
