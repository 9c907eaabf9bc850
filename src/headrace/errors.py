"""Every error that a user can meet. Each states the problem, where it is, and the remedy.

    HeadraceError                 1   the work was tried and failed
    ├── ConflictError             1   a state change that did not land: somebody was first
    │   └── AlreadyExistsError    1   the name is taken
    ├── StorageError              1   the disk did not take a change: full, over quota, failing
    └── UsageError                2   nothing was done: the command, a file or the surroundings are wrong
        ├── DocumentError         2   a document says something that cannot be carried out: file, line, field
        ├── ForbiddenError        2   whoever asks may not do it
        ├── UnauthenticatedError  2   whoever asks has not said who they are
        ├── UnsupportedError      2   this engine cannot do it; said before anything runs
        └── NotFoundError         2   no such run, service, pipeline, gate …

The number is the exit code of the command line.
"""

from __future__ import annotations


class HeadraceError(Exception):
    """A problem that a person can act on; `str()` gives `where: problem` and the remedy on a line of its own."""

    exit_code = 1

    def __init__(self, problem: str, *, where: str = "", remedy: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.where = where
        self.remedy = remedy

    def __str__(self) -> str:
        line = f"{self.where}: {self.problem}" if self.where else self.problem
        return f"{line}\n{self.remedy}" if self.remedy else line


class ConflictError(HeadraceError):
    """A state change that did not land, because the thing is no longer in the state that it needs."""


class AlreadyExistsError(ConflictError):
    """Something of this name exists, and names are unique."""


class StorageError(HeadraceError):
    """The disk did not take a change of state. Nothing of it was written; what was written before is whole."""


class UsageError(HeadraceError):
    """Nothing was done: the command, a file or the surroundings (port, folder, server) are wrong."""

    exit_code = 2


class DocumentError(UsageError):
    """A document is wrong at `file`, `line`, `field`; nothing of it was carried out."""

    def __init__(self, problem: str, *, file: str, line: int | None = None, field: str = "", remedy: str = "") -> None:
        where = file if line is None else f"{file}:{line}"
        super().__init__(f"{field}: {problem}" if field else problem, where=where, remedy=remedy)
        self.file = file
        self.line = line
        self.field = field


class ForbiddenError(UsageError):
    """Whoever asks may not do it: a role is missing, or the request is not theirs."""


class UnauthenticatedError(UsageError):
    """Whoever asks has to say who they are: a token or a session is missing, wrong, or over."""


class UnsupportedError(UsageError):
    """The chosen engine cannot do what the document asks; said before anything runs."""


class NotFoundError(UsageError):
    """The named thing does not exist."""
