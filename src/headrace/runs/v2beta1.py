"""Runs as KFP's v2beta1 API gives them: what `queries` tells, with the document, the history and the tree of tasks.

Source: KFP's backend/api/v2beta1/run.proto. Every state is one that an event of the log told of.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from headrace.clock import rfc3339
from headrace.contracts import pipeline_spec
from headrace.errors import NotFoundError
from headrace.runs import experiments, packages, queries
from headrace.runs.listing import TIME, Condition, Field, Listable, ListQuery, page
from headrace.store.database import Database

LISTABLE = Listable(
    "run",
    {
        "run_id": Field("id"),
        "id": Field("id"),
        "display_name": Field("name"),
        "name": Field("name"),
        "description": Field("description"),
        "experiment_id": Field("experiment_id"),
        "pipeline_id": Field("pipeline_id"),
        "pipeline_version_id": Field("pipeline_version_id"),
        "recurring_run_id": Field("recurring_run_id"),
        "state": Field("state"),
        "storage_state": Field("storage_state"),
        "created_at": Field("created_at", TIME),
        "scheduled_at": Field("coalesce(scheduled_at, created_at)", TIME),
        "finished_at": Field("coalesce(finished_at, 0)", TIME),
    },
)
_NOT_DELETED = Condition("deleted_at IS NULL")

# The state that a run or task is in after an event of this kind.
_RUN_STATES = {
    "run.created": "PENDING", "run.started": "RUNNING", "run.requeued": "PENDING", "run.recovered": "RUNNING",
    "run.paused": "PAUSED", "run.resumed": "RUNNING", "run.cancel-requested": "CANCELING", "run.retried": "PENDING",
    "run.succeeded": "SUCCEEDED", "run.failed": "FAILED", "run.canceled": "CANCELED",
}  # fmt: skip
_TASK_STATES = {
    "task.started": "RUNNING", "task.requeued": "PENDING", "task.retried": "PENDING", "task.succeeded": "SUCCEEDED",
    "task.cached": "SUCCEEDED", "task.kept": "SUCCEEDED", "task.failed": "FAILED",
}  # fmt: skip
_ROOT = "root"


def run_row(database: Database, run_id: str) -> dict[str, Any]:
    """The row of the run with exactly this id. Raises NotFoundError."""
    row = database.one("SELECT * FROM run WHERE id = ? AND deleted_at IS NULL", (run_id,))
    if row is None:
        raise NotFoundError(f"Run {run_id} not found", remedy="List the runs to see their ids.")
    return dict(row)


def run_json(database: Database, run_id: str) -> dict[str, Any]:
    """A run as KFP's v2beta1 `Run` with its task details. Raises NotFoundError."""
    row = run_row(database, run_id)
    told = _run(row, _histories(database, [row["id"]]))
    return {**told, "run_details": {"task_details": task_details(database, row)}}


def list_runs(database: Database, query: ListQuery, experiment_id: str = "") -> dict[str, Any]:
    """A page of runs, without their tasks, as KFP's `ListRunsResponse`.

    Raises:
        NotFoundError: no such experiment.
        UsageError: the query is wrong.
    """
    conditions = [_NOT_DELETED]
    if experiment_id:
        experiments.experiment_json(database, experiment_id)
        conditions.append(Condition("experiment_id = ?", (experiment_id,)))
    found = page(database, LISTABLE, query, conditions)
    histories = _histories(database, [row["id"] for row in found.rows])
    return {
        "runs": [_run(row, histories) for row in found.rows],
        "total_size": found.total_size,
        "next_page_token": found.next_page_token,
    }


def task_details(database: Database, run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tasks of a run as KFP's `PipelineTaskDetail`s: the root, then groups and tasks, parents before children."""
    rows = database.query("SELECT * FROM task WHERE run_id = ? ORDER BY created_at, path", (run["id"],))
    details = _Details(database, run)
    leaves = {row["path"]: details.leaf(dict(row)) for row in rows}
    return details.tree(leaves)


class _Details:
    """The details of one run's tasks, with what stands in other tables read once."""

    def __init__(self, database: Database, run: Mapping[str, Any]) -> None:
        self.run = run
        self.attempts: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        self.produced: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        self.numbers: dict[str, str] = {}
        self.histories: dict[str, list[dict[str, Any]]] = defaultdict(list)
        parameters = (run["id"],)
        for row in database.query("SELECT * FROM attempt WHERE run_id = ? ORDER BY number", parameters):
            self.attempts[row["path"]].append(dict(row))
        for row in database.query(
            "SELECT rowid AS number, path, name, uri FROM artifact WHERE run_id = ? ORDER BY name, position", parameters
        ):
            # int64 is a string in protobuf's JSON.
            self.produced[row["path"]][row["name"]].append(str(row["number"]))
            self.numbers[row["uri"]] = str(row["number"])
        prefix = f"run/{run['id']}/task/"
        for row in database.query(
            "SELECT at, kind, subject, reason FROM event WHERE subject >= ? AND subject < ? ORDER BY seq",
            (prefix, f"run/{run['id']}/task0"),
        ):
            _note(self.histories[row["subject"].removeprefix(prefix)], dict(row), _TASK_STATES)

    def leaf(self, task: Mapping[str, Any]) -> dict[str, Any]:
        path = task["path"]
        told = queries.task_row_json(task)
        if (self.run["state"], task["state"]) == ("PENDING", "RUNNING"):
            # What was cut off is taken up again with its run, and until then it does not run.
            told["state"] = "PENDING"
        history = self.histories[path]
        if not history or history[-1]["state"] != told["state"]:
            # Gates and cancelled tasks have no event of their own.
            at = task["finished_at"] or task["started_at"] or task["created_at"]
            history = [*history, {"update_time": rfc3339(at), "state": told["state"]}]
        tried = [f"{path}/{attempt['number']}" for attempt in self.attempts[path]]
        failed = [f"{path}/{a['number']}" for a in self.attempts[path] if a["state"] in ("FAILED", "LOST")]
        inputs = json.loads(task["inputs"]).get("artifacts", {})
        return {
            **told,
            "inputs": {
                name: {"artifact_ids": [self.numbers[i["uri"]] for i in items if i["uri"] in self.numbers]}
                for name, items in inputs.items()
            },
            "inputs_values": told["inputs"]["parameters"],
            "outputs": {name: {"artifact_ids": numbers} for name, numbers in self.produced[path].items()},
            "executor_detail": {"main_job": tried[-1], "failed_main_jobs": failed} if tried else None,
            "state_history": history,
        }

    def tree(self, leaves: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
        # A dict for a set that keeps its order.
        children: dict[str, dict[str, None]] = defaultdict(dict)
        below: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for path, leaf in leaves.items():
            for parent, child in _ancestry(path):
                children[parent][child] = None
                below[parent].append(leaf)
        ended = self.run["finished_at"] is not None
        skipped = dict.fromkeys(self._skipped({*leaves, *below}, children))
        for path in skipped:
            children[path.rpartition("/")[0] or _ROOT][path] = None
        found = [self._root(children[_ROOT])]
        for path in _parents_first(_ROOT, children):
            parent = path.rpartition("/")[0] or _ROOT
            if path in leaves:
                found.append({**leaves[path], "parent_task_id": parent})
            elif path in skipped:
                found.append(self._never_started(path, parent))
            else:
                found.append(self._group(path, parent, children[path], below[path], ended=ended))
        return [_present(detail) for detail in found]

    def _skipped(self, started: Collection[str], children: Mapping[str, Collection[str]]) -> list[str]:
        """Tasks and groups that the run has ended without: in a branch not taken, or after a failure."""
        if self.run["state"] not in ("SUCCEEDED", "FAILED") or not started:
            return []
        tasks = _tasks(self.run["document"], self.run["file"])
        found, places = [], [("", "")]
        while places:
            component, above = places.pop()
            for name, below, is_loop in tasks.get(component, ()):
                path = f"{above}/{name}" if above else name
                if path not in started:
                    found.append(path)
                elif is_loop:
                    places += [(below, iteration) for iteration in sorted(children.get(path, ()))]
                else:
                    places.append((below, path))
        return found

    def _never_started(self, path: str, parent: str) -> dict[str, Any]:
        name, at = path.rpartition("/")[2], _time(self.run["finished_at"])
        return {
            "run_id": self.run["id"],
            "task_id": path,
            "name": name,
            "display_name": name,
            "parent_task_id": parent,
            "state": "SKIPPED",
            "create_time": at,
            "end_time": at,
        }

    def _root(self, children: Collection[str]) -> dict[str, Any]:
        run = self.run
        return {
            "run_id": run["id"],
            "task_id": _ROOT,
            "name": _ROOT,
            "display_name": _ROOT,
            "state": run["state"],
            "create_time": rfc3339(run["created_at"]),
            "start_time": _time(run["started_at"]),
            "end_time": _time(run["finished_at"]),
            "child_tasks": [{"task_id": child} for child in children],
        }

    def _group(
        self, path: str, parent: str, children: Collection[str], below: Sequence[Mapping[str, Any]], *, ended: bool
    ) -> dict[str, Any]:
        name = path.rpartition("/")[2]
        return {
            "run_id": self.run["id"],
            "task_id": path,
            "name": name,
            "display_name": name,
            "parent_task_id": parent,
            "state": _group_state([leaf["state"] for leaf in below], ended=ended),
            "create_time": min(leaf["create_time"] for leaf in below),
            "start_time": min((leaf["start_time"] for leaf in below if leaf["start_time"]), default=None),
            "end_time": max((leaf["end_time"] for leaf in below if leaf["end_time"]), default=None) if ended else None,
            "child_tasks": [{"task_id": child} for child in children],
        }


@lru_cache(maxsize=64)
def _tasks(text: str, file: str) -> Mapping[str, Sequence[tuple[str, str, bool]]]:
    """The tasks of each DAG of a pipeline ("" is the root): name, component, whether it is a loop."""
    spec = pipeline_spec.parse(text, file).spec
    return {
        name: [
            (task, called.component_ref.name, bool(called.WhichOneof("iterator")))
            for task, called in component.dag.tasks.items()
        ]
        for name, component in [("", spec.root), *spec.components.items()]
    }


def _group_state(states: Iterable[str], *, ended: bool) -> str:
    """What is known of a group from its tasks; until the run has ended more of them may come."""
    known = set(states)
    if not ended:
        return "PAUSED" if known <= {"PAUSED", "SUCCEEDED"} and "PAUSED" in known else "RUNNING"
    return next((state for state in ("FAILED", "CANCELED") if state in known), "SUCCEEDED")


def _ancestry(path: str) -> list[tuple[str, str]]:
    """Each (group, member of it) on the way from the root to a task."""
    pieces = path.split("/")
    ways = ["/".join(pieces[: n + 1]) for n in range(len(pieces))]
    return list(zip([_ROOT, *ways], ways, strict=False))


def _parents_first(path: str, children: Mapping[str, dict[str, None]]) -> list[str]:
    found: list[str] = []
    waiting = list(reversed(children.get(path, ())))
    while waiting:
        current = waiting.pop()
        found.append(current)
        waiting.extend(reversed(children.get(current, ())))
    return found


def _run(row: Mapping[str, Any], histories: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    told = {
        **queries.run_row_json(row),
        "description": row["description"],
        "service_account": row["service_account"],
        "recurring_run_id": row["recurring_run_id"] or None,
        "runtime_config": {
            "parameters": json.loads(row["parameters"]), "pipeline_root": row["pipeline_root"] or None,
        },
        "state_history": histories.get(row["id"], []),
        "plugins_input": json.loads(row["plugins_input"]),
        "plugins_output": json.loads(row["plugins_output"]),
    }  # fmt: skip
    if row["pipeline_version_id"]:
        told["pipeline_version_reference"] = {
            "pipeline_id": row["pipeline_id"], "pipeline_version_id": row["pipeline_version_id"],
        }  # fmt: skip
    else:
        told["pipeline_spec"] = packages.spec_json(row["document"])
    return _present(told)


def _histories(database: Database, run_ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """The states of runs, oldest first, as `RuntimeStatus`es."""
    found: dict[str, list[dict[str, Any]]] = {run_id: [] for run_id in run_ids}
    for row in database.query(
        "SELECT at, kind, subject, reason FROM event"
        f" WHERE subject IN ({','.join('?' * len(run_ids))}) ORDER BY subject, seq",
        [f"run/{run_id}" for run_id in run_ids],
    ):
        _note(found[row["subject"].removeprefix("run/")], dict(row), _RUN_STATES)
    return found


def _note(history: list[dict[str, Any]], event: Mapping[str, Any], states: Mapping[str, str]) -> None:
    state = states.get(event["kind"])
    last = history[-1]["state"] if history else ""
    # An engine that takes over what is to be stopped, or waits for a person, does not make it run.
    taken_over = event["kind"] in ("run.started", "run.recovered") and last in ("CANCELING", "PAUSED")
    if state is None or state == last or taken_over:
        return
    status: dict[str, Any] = {"update_time": rfc3339(event["at"]), "state": state}
    if state == "FAILED" and event["reason"]:
        status["error"] = {"code": 1, "message": event["reason"]}
    history.append(status)


def _present(told: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is not there, as protobuf's JSON leaves it out."""
    return {name: value for name, value in told.items() if value is not None}


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else rfc3339(seconds)
