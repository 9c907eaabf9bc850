"""What an engine knows of a run that it owns, beside the rows."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headrace.clock import rfc3339
from headrace.contracts import pipeline_spec
from headrace.contracts.pipeline_spec import PipelineDocument
from headrace.runs import platform
from headrace.runs.model import Plan, ReadyTask, RunContext, RunOptions, State, TaskFact
from headrace.runs.planner import Memory, plan
from headrace.runs.resources import Claim
from headrace.store.home import Home

WORKSPACE_PLACEHOLDER = "{{$.workspace_path}}"


class Attempt:
    """A process that an engine waits for. `deadline` is in unix seconds; `container` names the one that it runs in."""

    def __init__(
        self,
        task: ReadyTask,
        number: int,
        directory: Path,
        pid: int,
        process_created: float,
        *,
        deadline: float | None = None,
        container: str = "",
    ) -> None:
        self.task = task
        self.number = number
        self.directory = directory
        self.pid = pid
        self.process_created = process_created
        self.deadline = deadline
        self.container = container
        self.status: int | None = None
        # On the clock that only goes forward; None: nobody has found it dead.
        self.dead_since: float | None = None
        self.problem = ""


class LiveRun:
    """A run that an engine owns.

    Raises:
        HeadraceError: its document cannot be read.
    """

    def __init__(self, row: Mapping[str, Any], home: Home) -> None:
        options = RunOptions(**json.loads(row["options"]))
        self.id: str = row["id"]
        self.home = home
        self.document: PipelineDocument = pipeline_spec.parse(row["document"], row["file"])
        self.arguments: dict[str, Any] = json.loads(row["parameters"])
        self.artifacts: dict[str, list[dict[str, Any]]] = json.loads(row["artifacts"])
        self.caching = bool(row["caching"])
        self.plugins: dict[str, Any] = json.loads(row["plugins_input"])
        self.environment = {
            "HEADRACE_RUN_ID": row["id"],
            "HEADRACE_PIPELINE": row["pipeline"],
            "HEADRACE_PROJECT": row["source_dir"],
            "HEADRACE_COMMIT": row["commit_sha"],
            "HEADRACE_ACTOR": row["actor"],
            "HEADRACE_REASON": row["reason"],
        }
        self.context = RunContext(
            row["id"],
            self.document.name,
            row["name"],
            rfc3339(row["created_at"]),
            options.pipeline_root or str(home.artifacts),
            workspace=options.workspace or str(home.path / "workspaces" / row["id"]),
            options=options,
            scheduled_at=rfc3339(row["scheduled_at"]) if row["scheduled_at"] is not None else "",
        )
        self.timeout = platform.timeout_seconds(platform.pipeline_config(self.document.platform))
        self.started_at: float = row["started_at"]
        self.shares_workspace = WORKSPACE_PLACEHOLDER in self.document.text
        self.facts: dict[str, TaskFact] = {}
        self.known = Memory()
        self.not_before: dict[str, float] = {}
        self.attempts: dict[str, Attempt] = {}
        self.claims: dict[str, Claim] = {}
        self.starting: set[str] = set()
        self.not_started: Counter[str] = Counter()
        # How many of its tasks could start if memory were free.
        self.held = 0
        # When the first of the backoffs that it waits for is over, in unix seconds.
        self.wakes_at = math.inf
        # When to read it anew from its rows, because a change could not be written; in unix seconds.
        self.reread_at: float | None = None
        # What nobody has foreseen, and ends it.
        self.problem = ""
        # Nothing more of it is wanted: it is cancelled, or has taken too long.
        self.ending = False
        self.changed = True

    def plan(self, limit: int | None = None, *, every_iteration: bool = False) -> Plan:
        """What can start now: all of it, or at least `limit` tasks if there are so many.

        `every_iteration`: what could if no loop had a parallelism.
        """
        return plan(
            self.document, self.arguments, self.facts, self.context, self.artifacts, memory=self.known, limit=limit,
            every_iteration=every_iteration,
        )  # fmt: skip

    def planned(self, path: str) -> ReadyTask:
        """A task that was started, as it was planned: what can start if it had not been."""
        facts = {name: fact for name, fact in self.facts.items() if name != path}
        ready = plan(self.document, self.arguments, facts, self.context, self.artifacts, every_iteration=True).ready
        return next(task for task in ready if task.path == path)

    def failure(self) -> str:
        """What every failed task said."""
        failed = [(path, fact.message) for path, fact in self.facts.items() if fact.state is State.FAILED]
        return "\n".join(f"task {path}: {message}" for path, message in failed)

    @property
    def folder(self) -> Path:
        """Where its artifacts go."""
        in_home = self.context.options.artifacts_in_home
        return (self.home.artifacts if in_home else Path(self.context.pipeline_root)) / self.id

    @property
    def pending(self) -> set[str]:
        """The tasks that are to be tried again: they themselves, or a group around them."""
        again = {path for path, fact in self.facts.items() if fact.state is State.PENDING}
        return again | {path for path, moment in self.not_before.items() if moment and path not in self.facts}

    @property
    def busy(self) -> bool:
        """Whether something runs or is being started."""
        return bool(self.attempts or self.starting)

    @property
    def memory(self) -> float:
        """The bytes of memory that its running tasks have asked for."""
        return sum(claim.memory_bytes for claim in self.claims.values())
