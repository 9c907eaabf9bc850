"""The folder that holds all state of one project: `.headrace/`, or where HEADRACE_HOME points."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from headrace.errors import UsageError

PROJECT_FILE = "headrace.toml"


@dataclass(frozen=True)
class Home:
    """Paths below one state folder. Two projects with different homes never meet."""

    path: Path

    @classmethod
    def locate(cls, start: Path | None = None) -> Home:
        """HEADRACE_HOME; else `.headrace` beside the nearest headrace.toml above `start`; else in `start`."""
        named = os.environ.get("HEADRACE_HOME")
        if named:
            return cls(Path(named).expanduser().resolve())
        here = (start or Path.cwd()).resolve()
        for folder in (here, *here.parents):
            if (folder / PROJECT_FILE).is_file():
                return cls(folder / ".headrace")
        return cls(here / ".headrace")

    @property
    def database(self) -> Path:
        return self.path / "headrace.db"

    @property
    def artifacts(self) -> Path:
        return self.path / "artifacts"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def gateway(self) -> Path:
        return self.path / "gateway"

    @property
    def locks(self) -> Path:
        return self.path / "locks"

    @property
    def server_lock(self) -> Path:
        """Held by the one server of this home; says where it listens."""
        return self.locks / "server.lock"

    @property
    def payloads(self) -> Path:
        return self.path / "payloads"

    @property
    def faster_forms(self) -> Path:
        """A folder for each model that was tried, by the digest of its files."""
        return self.path / "faster-forms"

    @property
    def checkouts(self) -> Path:
        return self.path / "checkouts"

    @property
    def mlflow_uri(self) -> str:
        return f"sqlite:///{self.path / 'mlflow.db'}"

    def create(self) -> Home:
        """Make the folders that are missing and return self.

        Raises:
            UsageError: the folder cannot be made or written to.
        """
        try:
            for folder in (
                self.artifacts, self.logs, self.gateway, self.locks, self.payloads, self.faster_forms,
                self.checkouts,
            ):  # fmt: skip
                folder.mkdir(parents=True, exist_ok=True)
            ignore = self.path / ".gitignore"
            if not ignore.exists():
                ignore.write_text("*\n")
        except OSError as error:
            raise UsageError(
                f"the state folder cannot be written: {error.strerror}",
                where=str(error.filename or self.path),
                remedy="Make it writable, free space on its disk, or set HEADRACE_HOME to another folder.",
            ) from error
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise UsageError(
                "the state folder cannot be written: permission denied",
                where=str(self.path),
                remedy="Make it writable or set HEADRACE_HOME to another folder.",
            )
        return self
