"""Choose the environment that a command works in, and refuse engines that are not built in."""

from __future__ import annotations

from headrace.contracts.project_file import EnvironmentEntry
from headrace.errors import NotFoundError, UnsupportedError
from headrace.project.load import Project
from headrace.store.home import PROJECT_FILE

DEFAULT = "dev"


def choose(project: Project | None, name: str | None) -> EnvironmentEntry:
    """The named environment; without a name `dev`, or the only one. Without a project: an embedded `dev`.

    Raises:
        NotFoundError: no environment of that name.
        UnsupportedError: its engine is not part of this version.
    """
    file = str(project.root / PROJECT_FILE) if project else ""
    known = dict(project.file.environments) if project else {}
    if not known:
        known = {DEFAULT: EnvironmentEntry(DEFAULT)}
    wanted = name or (DEFAULT if DEFAULT in known or len(known) > 1 else next(iter(known)))
    if wanted not in known:
        raise NotFoundError(
            f'no environment is called "{wanted}"',
            where=file,
            remedy=f"Known: {', '.join(sorted(known))}. Choose one with -e.",
        )
    environment = known[wanted]
    if environment.engine != "embedded":
        raise UnsupportedError(
            f'the engine "{environment.engine}" is not part of this version',
            where=f"{file}: environments.{environment.name}",
            remedy='Use an environment with engine = "embedded".',
        )
    return environment
