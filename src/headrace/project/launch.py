"""Start a pipeline as a project has it at one commit."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from headrace.clock import Clock
from headrace.contracts import pipeline_spec
from headrace.project import environments, load
from headrace.project.scaffold.create import git
from headrace.runs.submit import create_run
from headrace.store.database import Database
from headrace.store.home import Home


class ProjectLauncher:
    """The triggers' way into projects. Every method is idempotent."""

    def __init__(self, home: Home, database: Database, clock: Clock) -> None:
        self.home = home
        self.database = database
        self.clock = clock

    def checkout(self, repository: Path, commit: str) -> Path:
        """A folder with the files of `commit`; it shares the repository's objects and is made once."""
        folder = self.home.checkouts / commit
        if folder.is_dir():
            return folder
        making = folder.with_suffix(".tmp")
        shutil.rmtree(making, ignore_errors=True)
        git(self.home.checkouts, "clone", "--quiet", "--shared", "--no-checkout", str(repository), str(making))
        git(making, "checkout", "--quiet", "--detach", commit)
        making.rename(folder)
        return folder

    def watching(self, checkout: Path) -> Mapping[str, Sequence[str]]:
        """The push globs of each pipeline in the checkout's headrace.toml."""
        pipelines = load.load(checkout).file.pipelines
        return {name: entry.push for name, entry in pipelines.items() if entry.push}

    def launch(self, checkout: Path, pipeline: str, *, commit: str, actor: str, reason: str) -> str:
        """Create a run of the pipeline, once for each `reason`, and return its id."""
        known = self.database.one("SELECT id FROM run WHERE pipeline = ? AND reason = ?", (pipeline, reason))
        if known is not None:
            return str(known["id"])
        project = load.load(checkout)
        source = load.pipeline_source(project, pipeline)
        return create_run(
            self.database,
            pipeline_spec.parse(source.text, source.file),
            pipeline=pipeline,
            parameters=source.parameters,
            environment=environments.choose(project, None).name,
            actor=actor,
            at=self.clock.now(),
            reason=reason,
            source_dir=str(checkout),
            commit=commit,
        )
