"""Build the platform that an environment names: the only place that knows which parts fit together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.clock import Clock, SystemClock
from headrace.contracts.project_file import EnvironmentEntry
from headrace.project import environments
from headrace.project import load as projects
from headrace.project.load import Project
from headrace.store.database import Database
from headrace.store.home import Home
from headrace.store.migrations import migrate

if TYPE_CHECKING:
    from headrace.catalog.registry import ModelRegistry
    from headrace.control.rollouts.announcer import Announcer
    from headrace.control.rollouts.controller import RolloutController
    from headrace.control.tracking import MlflowRuns
    from headrace.control.triggers.push import PushTrigger
    from headrace.control.triggers.recurring import DeletedRuns, RecurringTrigger
    from headrace.runs.engine import Engine

# Each package owns its tables; the order is that of the floors.
PACKAGES = ("headrace.store", "headrace.governance", "headrace.runs", "headrace.serving", "headrace.control")


def open_database(home: Home) -> Database:
    """The database of a home, made or brought up to date when it has to be.

    Raises:
        UsageError: the home cannot be written, or belongs to another version.
    """
    home.create()
    database = Database(home.database)
    migrate(database, PACKAGES)
    return database


@dataclass(frozen=True)
class Platform:
    """The parts, wired. `project` is None where there is no headrace.toml."""

    home: Home
    database: Database
    clock: Clock
    project: Project | None
    environment: EnvironmentEntry

    @property
    def tracking_uri(self) -> str:
        """MLflow's address: the project's, else the embedded one."""
        return (self.project.file.mlflow if self.project else "") or self.home.mlflow_uri

    @cached_property
    def registry(self) -> ModelRegistry:
        from headrace.catalog.registry import ModelRegistry

        return ModelRegistry(self.tracking_uri)

    @cached_property
    def mlflow_runs(self) -> MlflowRuns:
        """What tells MLflow of the runs that ask for it; whoever knows where MLflow is looked at sets its `pages`."""
        from headrace.catalog.tracking.runs import TrackedRuns
        from headrace.control.tracking import MlflowRuns

        return MlflowRuns(self.database, self.clock, TrackedRuns(self.registry))

    def engine(self) -> Engine:
        """An engine for this process; every task is told where the state and MLflow are."""
        from headrace.runs.engine import Engine

        return Engine(
            home=self.home,
            database=self.database,
            clock=self.clock,
            environment={
                "HEADRACE_HOME": str(self.home.path),
                "MLFLOW_TRACKING_URI": self.tracking_uri,
                "MLFLOW_EXPERIMENT_NAME": self.project.file.name if self.project else "headrace",
                "GX_ANALYTICS_ENABLED": "false",
            },
            tracked=lambda run_id, path: self.mlflow_runs.environment(run_id, path),
        )

    def rollouts(self, gateway_port: int) -> RolloutController:
        """The rollout loop over an Envoy that listens on 127.0.0.1:`gateway_port`."""
        from headrace.control.rollouts.controller import RolloutController
        from headrace.serving.evidence import Evidence
        from headrace.serving.gateway import Gateway
        from headrace.serving.revisions import RevisionServers

        return RolloutController(
            database=self.database,
            clock=self.clock,
            traffic=Gateway(self.home, gateway_port),
            servers=RevisionServers(self.home, self.database, self.clock),
            evidence=Evidence(self.home),
        )

    def announcer(self) -> Announcer:
        """The loop that tells the registry how rollouts ended."""
        from headrace.control.rollouts.announcer import Announcer

        return Announcer(self.database, self.clock, self.registry)

    def triggers(self) -> PushTrigger:
        """The loop that starts runs for pushes."""
        from headrace.control.triggers.push import PushTrigger
        from headrace.project.launch import ProjectLauncher

        return PushTrigger(self.database, self.clock, ProjectLauncher(self.home, self.database, self.clock))

    def recurring(self) -> RecurringTrigger:
        """The loop that starts the runs of recurring runs, in this environment."""
        from headrace.control.triggers.recurring import RecurringTrigger

        return RecurringTrigger(self.database, self.clock, self.environment.name)

    def deleted_runs(self) -> DeletedRuns:
        """The loop that removes what is left of deleted runs."""
        from headrace.control.triggers.recurring import DeletedRuns

        return DeletedRuns(self.database, self.home, self.mlflow_runs.forget)


def build(start: Path | None = None, environment: str | None = None) -> Platform:
    """The platform for the project in `start` (default: here) or above it.

    Raises:
        UsageError: a wrong headrace.toml, an unknown environment, a home that cannot be written.
    """
    project = projects.find(start)
    chosen = environments.choose(project, environment)
    home = Home.locate(start)
    return Platform(home, open_database(home), SystemClock(), project, chosen)
