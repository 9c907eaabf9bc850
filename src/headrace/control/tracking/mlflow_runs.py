"""A parent run in MLflow for a pipeline run, a nested one for each task, loop and iteration; parameters and metrics.

A run asks for it with `plugins_input: {"mlflow": {…}}`. Its tasks are started with MLFLOW_RUN_ID and
MLFLOW_EXPERIMENT_ID, so that MLflow code in components logs to the right place. The rest follows from the event log.
What MLflow does not take never changes what comes of a run: it is told in `plugins_output.mlflow`.

Source: KEP-12862 in kubeflow/pipelines (proposals/12862-mlflow-integration).
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Mapping
from typing import Any, Protocol

from headrace.clock import Clock
from headrace.errors import HeadraceError, NotFoundError
from headrace.runs import plugins
from headrace.runs.plugins import PluginRun
from headrace.store import events
from headrace.store.database import Database
from headrace.store.events import Event

PLUGIN = "mlflow"
SECONDS = 0.5
DEFAULT_EXPERIMENT = "Default"
PARENT_TAG = "mlflow.parentRunId"
_CURSOR = "mlflow"
_TASK_ENDS = {
    "task.succeeded": "FINISHED", "task.cached": "FINISHED", "task.kept": "FINISHED", "task.failed": "FAILED",
}  # fmt: skip
_RUN_ENDS = {"run.succeeded": "FINISHED", "run.failed": "FAILED", "run.canceled": "KILLED"}
_KINDS = ["run.created", "run.retried", *_TASK_ENDS, *_RUN_ENDS]
# KFP keeps these beside the values in the metadata of a metrics artifact.
_NO_METRICS = ("display_name", "store_session_info")


class Experiment(Protocol):
    """An experiment of MLflow."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...


class Tracking(Protocol):
    """What is needed of MLflow. Every method is idempotent.

    Each raises HeadraceError when MLflow fails; NotFoundError, when trying again is of no use.
    """

    def experiment(self, experiment_id: str, name: str) -> Experiment:
        """The experiment of this id, else of this name, which is made when it is not there."""

    def start(self, experiment_id: str, key: str, name: str, tags: Mapping[str, str], at: float) -> str:
        """Start the run of this key and return its id."""

    def log(self, run_id: str, parameters: Mapping[str, Any], metrics: Mapping[str, float], at: float) -> None:
        """Log parameters and metrics."""

    def end(self, run_id: str, status: str, at: float) -> None:
        """Give a run its end: FINISHED, FAILED or KILLED."""

    def reopen(self, run_id: str) -> None:
        """RUNNING again."""


class MlflowRuns:
    """Starts MLflow's runs where they are needed, ends them as the log tells. `pages`: MLflow's address for people."""

    def __init__(self, database: Database, clock: Clock, tracking: Tracking, pages: str = "") -> None:
        self.database = database
        self.clock = clock
        self.tracking = tracking
        self.pages = pages
        # The API and the engine may begin the same run at once.
        self._one_by_one = threading.Lock()

    def begin(self, run_id: str) -> None:
        """Start the parent run of a run that asks for one and has none; tell of it in its `plugins_output`."""
        with self._one_by_one:
            run = plugins.asking(self.database, run_id, PLUGIN)
            if run is None or run.told is not None:
                return
            experiment_id, name = run.wanted.get("experiment_id", ""), run.wanted.get("experiment_name", "")
            try:
                experiment = self.tracking.experiment(experiment_id, name or DEFAULT_EXPERIMENT)
                at = self.clock.now()
                mlflow_run_id = self.tracking.start(experiment.id, run_id, run.display_name, _tags(run), at)
            except HeadraceError as error:
                told = {"experiment_id": experiment_id, "experiment_name": name}
                plugins.tell(self.database, run_id, PLUGIN, _entries(told), str(error))
                return
            self._note(run_id, "", experiment.id, experiment.name, mlflow_run_id)
            told = {"experiment_name": experiment.name, "experiment_id": experiment.id, "root_run_id": mlflow_run_id}
            entries = _entries(told)
            if self.pages:
                address = f"{self.pages}/#/experiments/{experiment.id}/runs/{mlflow_run_id}"
                entries["run_url"] = {"value": address, "render_type": "URL"}
            plugins.tell(self.database, run_id, PLUGIN, entries, "")

    def environment(self, run_id: str, path: str) -> dict[str, str]:
        """The variables that a task is started with; none when its run is not tracked, or MLflow fails."""
        if plugins.asking(self.database, run_id, PLUGIN) is None:
            return {}
        self.begin(run_id)
        try:
            row = self._ensure(run_id, path)
        except HeadraceError as error:
            plugins.tell(self.database, run_id, PLUGIN, {}, str(error))
            return {}
        if row is None:
            return {}
        return {
            "MLFLOW_RUN_ID": row["mlflow_run_id"],
            "MLFLOW_EXPERIMENT_ID": row["experiment_id"],
            "MLFLOW_EXPERIMENT_NAME": row["experiment_name"],
        }

    def one_pass(self) -> float:
        """Handle what has happened since the last pass; returns the seconds after which to look again.

        Raises:
            HeadraceError: MLflow fails; what it was to be told is told in a later pass.
        """
        while found := events.read(self.database, after=self._cursor(), kinds=_KINDS):
            for event in found:
                if self._handle(event):
                    self._advance(event.seq)
            self._advance(found[-1].seq)
        return SECONDS

    def forget(self, run_ids: list[str]) -> None:
        """Drop what is known of runs that were deleted. MLflow keeps its own."""
        with self.database.transaction() as connection:
            connection.executemany("DELETE FROM mlflow_run WHERE run_id = ?", [(run_id,) for run_id in run_ids])

    def _handle(self, event: Event) -> bool:
        """Do what an event asks for; whether its run is tracked."""
        _, run_id, *rest = event.subject.split("/", 3)
        if plugins.asking(self.database, run_id, PLUGIN) is None:
            return False
        self.begin(run_id)
        try:
            if event.kind in _TASK_ENDS:
                self._end_task(run_id, rest[1], _TASK_ENDS[event.kind], event.at)
            elif event.kind in _RUN_ENDS:
                self._end_run(run_id, _RUN_ENDS[event.kind], event.at)
            elif event.kind == "run.retried":
                self._reopen(run_id)
        except NotFoundError as error:
            plugins.tell(self.database, run_id, PLUGIN, {}, str(error))
        return True

    def _end_task(self, run_id: str, path: str, status: str, at: float) -> None:
        task = self.database.one("SELECT inputs, outputs FROM task WHERE run_id = ? AND path = ?", (run_id, path))
        row = self._ensure(run_id, path)
        if task is None or row is None:
            return
        parameters = json.loads(task["inputs"]).get("parameters", {})
        self.tracking.log(row["mlflow_run_id"], parameters, _metrics(json.loads(task["outputs"])), at)
        self._end(row, status, at)

    def _end_run(self, run_id: str, status: str, at: float) -> None:
        """End what is open: tasks that were cut off before the loops around them, the parent last."""
        rows = self.database.query(
            "SELECT * FROM mlflow_run WHERE run_id = ? AND status = 'RUNNING' ORDER BY path DESC", (run_id,)
        )
        for row in rows:
            self._end(dict(row), status, at)

    def _reopen(self, run_id: str) -> None:
        rows = self.database.query(
            "SELECT * FROM mlflow_run WHERE run_id = ? AND (status != 'FINISHED' OR path = '')", (run_id,)
        )
        for row in rows:
            self.tracking.reopen(row["mlflow_run_id"])
            self._status(dict(row), "RUNNING")

    def _end(self, row: Mapping[str, Any], status: str, at: float) -> None:
        self.tracking.end(row["mlflow_run_id"], status, at)
        self._status(row, status)

    def _status(self, row: Mapping[str, Any], status: str) -> None:
        with self.database.transaction() as connection:
            connection.execute(
                "UPDATE mlflow_run SET status = ? WHERE run_id = ? AND path = ?", (status, row["run_id"], row["path"])
            )

    def _ensure(self, run_id: str, path: str) -> Mapping[str, Any] | None:
        """The row of a task or loop, its MLflow run started below that of the loop around it; None without a parent."""
        with self._one_by_one:
            above = self._row(run_id, "")
            for place in [*_loops(path), path]:
                if above is None:
                    return None
                row = self._row(run_id, place)
                if row is None:
                    name = place.removeprefix(f"{above['path']}/") if above["path"] else place
                    tags = {PARENT_TAG: above["mlflow_run_id"]}
                    started = self.tracking.start(
                        above["experiment_id"], f"{run_id}/{place}", name, tags, self.clock.now()
                    )
                    self._note(run_id, place, above["experiment_id"], above["experiment_name"], started)
                    row = self._row(run_id, place)
                above = row
            return above

    def _row(self, run_id: str, path: str) -> Mapping[str, Any] | None:
        row = self.database.one("SELECT * FROM mlflow_run WHERE run_id = ? AND path = ?", (run_id, path))
        return None if row is None else dict(row)

    def _note(self, run_id: str, path: str, experiment_id: str, experiment_name: str, mlflow_run_id: str) -> None:
        with self.database.transaction() as connection:
            connection.execute(
                "INSERT INTO mlflow_run (run_id, path, experiment_id, experiment_name, mlflow_run_id)"
                " VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (run_id, path, experiment_id, experiment_name, mlflow_run_id),
            )

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


def _entries(told: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    return {name: {"value": value} for name, value in told.items() if value}


def _tags(run: PluginRun) -> dict[str, str]:
    tags = {
        "kfp.pipeline_run_id": run.run_id,
        "kfp.pipeline_id": run.pipeline_id,
        "kfp.pipeline_version_id": run.pipeline_version_id,
    }
    return {name: value for name, value in tags.items() if value}


def _loops(path: str) -> list[str]:
    """The loops around a task: what stands before a number in its path."""
    pieces = path.split("/")
    return ["/".join(pieces[:place]) for place, piece in enumerate(pieces) if place and piece.isdigit()]


def _metrics(outputs: Mapping[str, Any]) -> dict[str, float]:
    """The numbers in the metadata of a task's system.Metrics artifacts."""
    found: dict[str, float] = {}
    for items in outputs.get("artifacts", {}).values():
        for item in items:
            if item.get("type", {}).get("schemaTitle") == "system.Metrics":
                for name, value in (item.get("metadata") or {}).items():
                    if name not in _NO_METRICS and _is_number(value):
                        found[name] = float(value)
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
