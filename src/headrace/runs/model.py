"""The nouns of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

# A RuntimeArtifact as in the executor's JSON, with the digest of its content:
# {"name", "uri", "type": {"schemaTitle", "schemaVersion"}, "metadata", "digest"}
Artifact = Mapping[str, Any]


class State(StrEnum):
    """States of runs and tasks, in the words of KFP v2beta1."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    SUCCEEDED = "SUCCEEDED"
    SKIPPED = "SKIPPED"
    FAILED = "FAILED"
    CANCELING = "CANCELING"
    CANCELED = "CANCELED"


FINAL = frozenset({State.SUCCEEDED, State.SKIPPED, State.FAILED, State.CANCELED})


@dataclass(frozen=True)
class TaskFact:
    """What is known of a task that was started: its state and, once it succeeded, its outputs."""

    state: State
    parameters: Mapping[str, Any] = field(default_factory=dict)
    artifacts: Mapping[str, Sequence[Artifact]] = field(default_factory=dict)
    message: str = ""


@dataclass(frozen=True)
class Backoff:
    """How long a RetryPolicy waits: the first time, by what that grows each time, and at most. In seconds."""

    seconds: float = 0.0
    factor: float = 2.0
    most: float = 3600.0

    def after(self, failures: int) -> float:
        """The wait after so many failures, from 1 on."""
        if self.seconds <= 0:
            return 0.0
        try:
            wait = self.seconds * self.factor ** (failures - 1)
        except OverflowError:
            return self.most
        # Written so that what is no number at all is the longest wait, too.
        return max(wait, 0.0) if wait <= self.most else self.most


@dataclass(frozen=True)
class ReadyTask:
    """A task that can start now, with its inputs resolved.

    `path` names it within the run: `for-loop-1/0/train`.
    """

    path: str
    component: str
    display_name: str
    parameters: Mapping[str, Any]
    artifacts: Mapping[str, Sequence[Artifact]]
    caching: bool
    cache_key: str
    max_retries: int
    backoff: Backoff = Backoff()
    # Groups around it that are tried again: (the path of the try before, how many seconds after its end).
    waits: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class NodeResult:
    """What a task, group, loop or whole run has come to.

    `blocked`: it will never start, because something that it needs failed or was skipped.
    """

    state: State
    parameters: Mapping[str, Any] = field(default_factory=dict)
    artifacts: Mapping[str, Sequence[Artifact]] = field(default_factory=dict)
    message: str = ""
    blocked: bool = False

    @property
    def final(self) -> bool:
        return self.state in FINAL


@dataclass(frozen=True)
class RunOptions:
    """How a run is to be done, as its creator wants it.

    `run_on_host`: commands of container components run as plain processes of this machine.
    `oss_parity`: where the open source backend of KFP departs from the specification, depart with it.
    `pipeline_root`, `workspace`: folders for artifacts and for what tasks share, instead of those in the home.
    `artifacts_in_home`: `pipeline_root` is no more than what tasks are told by its placeholder.
    `workdir`: where Python components work and import from, instead of in a folder of each attempt's own; the SDK's
    executor tells of itself then, as in kfp.local.
    """

    run_on_host: bool = False
    oss_parity: bool = False
    pipeline_root: str = ""
    workspace: str = ""
    artifacts_in_home: bool = False
    workdir: str = ""


@dataclass(frozen=True)
class RunContext:
    """What job placeholders and the planner need to know of a run. Times are RFC 3339."""

    run_id: str
    pipeline_name: str
    display_name: str
    created_at: str
    pipeline_root: str
    workspace: str = ""
    options: RunOptions = RunOptions()
    scheduled_at: str = ""  # when its recurring run was due; "" for a run that was started otherwise

    @property
    def resource_name(self) -> str:
        """The run's name among all resources, as KFP makes it: the pipeline's name and what is unique."""
        return f"{self.pipeline_name}-{self.run_id}"


@dataclass(frozen=True)
class Plan:
    """What can start now, and what the whole run has come to."""

    ready: tuple[ReadyTask, ...]
    root: NodeResult
    groups: Mapping[str, NodeResult]
