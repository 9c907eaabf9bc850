"""A push becomes an event; the loop reads the event and starts the pipelines that watch the changed files.

The hook only writes an event, so a push is never lost, whether the server is up or not.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from headrace.clock import Clock
from headrace.errors import HeadraceError, UsageError
from headrace.store import events
from headrace.store.database import Database

RECEIVED = "push.received"
SECONDS = 0.3
_CURSOR = "push"
_NO_COMMIT = "0" * 40


@dataclass(frozen=True)
class Push:
    """One update of one branch: the commits before and after ("0" * 40 where there is none)."""

    seq: int
    repository: Path
    ref: str
    before: str
    after: str


class Launcher(Protocol):
    """What the trigger needs of a project. Every method is idempotent."""

    def checkout(self, repository: Path, commit: str) -> Path:
        """A folder that holds the files of `commit`."""

    def watching(self, checkout: Path) -> Mapping[str, Sequence[str]]:
        """The push globs of each pipeline in the checkout."""

    def launch(self, checkout: Path, pipeline: str, *, commit: str, actor: str, reason: str) -> str:
        """Create a run of the pipeline, once for each `reason`, and return its id."""


def receive(database: Database, *, repository: Path, ref: str, before: str, after: str, actor: str, at: float) -> int:
    """Write a push into the event log and return its number.

    Raises:
        UsageError: `repository` is no git repository, or does not hold the commit.
    """
    repository = repository.resolve()
    if after != _NO_COMMIT:
        _git(repository, "cat-file", "-e", f"{after}^{{commit}}")
    with database.transaction() as connection:
        return events.append(
            connection,
            at=at,
            actor=actor,
            kind=RECEIVED,
            subject=f"repository/{repository}",
            reason=ref,
            data={"repository": str(repository), "ref": ref, "before": before, "after": after},
        )


class PushTrigger:
    """Starts runs for pushes; `one_pass` may be killed anywhere and goes on where it was."""

    def __init__(self, database: Database, clock: Clock, launcher: Launcher) -> None:
        self.database = database
        self.clock = clock
        self.launcher = launcher

    def one_pass(self) -> float:
        """Handle what came since the last pass; returns the seconds after which to look again."""
        self.handle_new()
        return SECONDS

    def handle_new(self) -> list[str]:
        """Handle the pushes that came since the last pass; the ids of the runs they started."""
        started: list[str] = []
        for event in events.read(self.database, after=self._cursor(), kinds=[RECEIVED]):
            data = event.data
            push = Push(event.seq, Path(data["repository"]), data["ref"], data["before"], data["after"])
            try:
                started += self._handle(push)
            except HeadraceError as error:
                self._tell_failure(push, error)
            self._advance(event.seq)
        return started

    def _handle(self, push: Push) -> list[str]:
        if push.after == _NO_COMMIT or push.ref != default_branch(push.repository):
            return []
        changed = changed_files(push.repository, push.before, push.after)
        checkout = self.launcher.checkout(push.repository, push.after)
        subject = _git(push.repository, "log", "-1", "--format=%s", push.after).strip()
        reason = f"push {push.seq}, {push.after[:8]}: {subject}"
        return [
            self.launcher.launch(checkout, name, commit=push.after, actor="trigger:push", reason=reason)
            for name, globs in self.launcher.watching(checkout).items()
            if any(matches(path, glob) for path in changed for glob in globs)
        ]

    def _tell_failure(self, push: Push, error: HeadraceError) -> None:
        with self.database.transaction() as connection:
            events.append(
                connection, at=self.clock.now(), actor="system:triggers", kind="push.failed",
                subject=f"repository/{push.repository}", reason=str(error), data={"after": push.after},
            )  # fmt: skip

    def _cursor(self) -> int:
        row = self.database.one("SELECT seq FROM trigger_cursor WHERE name = ?", (_CURSOR,))
        return int(row["seq"]) if row else 0

    def _advance(self, seq: int) -> None:
        with self.database.transaction() as connection:
            connection.execute(
                "INSERT INTO trigger_cursor (name, seq) VALUES (?, ?)"
                " ON CONFLICT (name) DO UPDATE SET seq = max(seq, excluded.seq)",
                (_CURSOR, seq),
            )


def default_branch(repository: Path) -> str:
    """The ref that HEAD names: `refs/heads/main` or what the repository calls it."""
    return _git(repository, "symbolic-ref", "HEAD").strip()


def changed_files(repository: Path, before: str, after: str) -> list[str]:
    """Paths that differ between two commits; every path when there is no commit before."""
    if before == _NO_COMMIT:
        return _git(repository, "ls-tree", "-r", "--name-only", "-z", after).split("\0")[:-1]
    return _git(repository, "diff", "--name-only", "-z", before, after).split("\0")[:-1]


def matches(path: str, glob: str) -> bool:
    """Whether a path matches a glob in which `*` stays within a folder and `**` crosses folders."""
    return re.fullmatch(_pattern(glob), path) is not None


def _pattern(glob: str) -> str:
    pieces = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(pieces.get(token, re.escape(token)) for token in re.findall(r"\*\*/|\*\*|\*|\?|[^*?]+", glob))


def _git(repository: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(repository), *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UsageError(
            f"git {arguments[0]} failed: {(done.stderr or 'no output').strip()}",
            where=str(repository),
            remedy="Check that this is a git repository that holds the commit.",
        )
    return done.stdout
