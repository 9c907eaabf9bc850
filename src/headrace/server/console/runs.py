"""Runs: the list, a run with its graph and timeline, a task with its log and artifacts, two runs side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from headrace.clock import rfc3339
from headrace.errors import UsageError
from headrace.governance import approvals
from headrace.governance.rbac import Role
from headrace.project.wiring import Platform
from headrace.runs import queries, transitions
from headrace.runs.graph import Node, folded, graph
from headrace.runs.packages import spec_json
from headrace.runs.rerun import rerun
from headrace.server.console import artifacts, forms
from headrace.server.console.actions import Action, Done, Submission
from headrace.server.console.artifacts import Shown
from headrace.server.console.forms import Field
from headrace.server.console.pages import Page
from headrace.server.operations import TEXT
from headrace.server.requests import Call

PER_PAGE = 50
STATES = ("PENDING", "RUNNING", "PAUSED", "SUCCEEDED", "FAILED", "CANCELING", "CANCELED")
FINAL = ("SUCCEEDED", "FAILED", "CANCELED")
MOST_BARS = 200
MOST_EXECUTIONS = 500
_LOG_BYTES = 48 * 1024


@dataclass(frozen=True)
class RunsPage:
    """`older`: the run to ask for the next page with; "" on the last."""

    runs: list[Mapping[str, Any]]
    state: str
    pipeline: str
    text: str
    pipelines: list[str]
    older: str


@dataclass(frozen=True)
class Bar:
    """An execution on the timeline: where it begins and how long it is, in thousandths of the run."""

    at: float
    wide: float
    state: str
    cached: bool


@dataclass(frozen=True)
class Row:
    """A task of the document, or a group: its executions together. Seconds of the first start to the last end."""

    id: str
    label: str
    kind: str
    depth: int
    state: str
    states: Mapping[str, int]
    cached: int
    count: int
    seconds: float | None
    bars: list[Bar]


@dataclass(frozen=True)
class RunPage:
    """`run`: as the API gives it, without its tasks; `graph`: the root of its graph."""

    run: Mapping[str, Any]
    seconds: float | None
    rows: list[Row]
    graph: Node
    gates: list[Mapping[str, Any]]
    inputs: list[Field]
    failed: list[Mapping[str, Any]]
    mlflow: str


@dataclass(frozen=True)
class Execution:
    """One execution of a task, for the list of a loop's."""

    path: str
    state: str
    cached: bool
    attempts: int
    seconds: float | None
    message: str


@dataclass(frozen=True)
class TaskPage:
    """`path` names one execution, or (in a loop) the task whose `executions` are listed; `total` of them there are."""

    run_id: str
    run_name: str
    path: str
    task: Mapping[str, Any] | None
    executions: list[Execution]
    total: int
    attempts: list[Mapping[str, Any]]
    artifacts: list[Shown]
    cache: str
    log: str
    log_cut: bool
    gate: str


@dataclass(frozen=True)
class Side:
    """A value of the one run and of the other."""

    name: str
    a: Any
    b: Any
    same: bool


@dataclass(frozen=True)
class ComparePage:
    """Two runs: what was given, measured, took how long, and made."""

    a: Mapping[str, Any]
    b: Mapping[str, Any]
    parameters: list[Side]
    metrics: list[Side]
    seconds: list[Side]
    digests: list[Side]


class Runs:
    """The data of the pages and what their forms do."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.database = platform.database

    def listed(self, call: Call) -> RunsPage:
        state, pipeline, text = call.query.text("state"), call.query.text("pipeline"), call.query.text("text")
        if state and state not in STATES:
            raise UsageError(f"{state} is no state", where="state", remedy=f"One of {', '.join(STATES)}.")
        found = queries.search_runs(
            self.database, state=state, pipeline=pipeline, text=text, before=call.query.text("before"),
            limit=PER_PAGE + 1,
        )  # fmt: skip
        return RunsPage(
            runs=list(found[:PER_PAGE]), state=state, pipeline=pipeline, text=text,
            pipelines=queries.pipelines_run(self.database),
            older=found[PER_PAGE - 1]["run_id"] if len(found) > PER_PAGE else "",
        )  # fmt: skip

    def shown(self, call: Call) -> RunPage:
        row = queries.find(self.database, call.path["run"])
        tasks = self.database.query(
            "SELECT path, state, cached, started_at, finished_at, message FROM task WHERE run_id = ?"
            " ORDER BY created_at, path", (row["id"],),
        )  # fmt: skip
        spec = spec_json(row["document"])
        root = graph(spec, [dict(task) for task in tasks])
        now = self.platform.clock.now()
        begun, ended = row["started_at"] or row["created_at"], row["finished_at"] or now
        bars = _bars(tasks, begun, ended)
        waiting = [
            gate for gate in approvals.gates(self.database, "waiting") if gate.subject.startswith(f"run/{row['id']}/")
        ]
        definitions = spec.get("pipeline_spec", spec).get("root", {}).get("inputDefinitions", {}).get("parameters", {})
        outcome = json.loads(row["plugins_output"] or "{}")
        return RunPage(
            run=queries.run_row_json(row),
            seconds=row["finished_at"] - begun if row["finished_at"] else None,
            rows=[_row(depth, node, *bars.get(node.id, ([], None))) for depth, node in root.walk()],
            graph=root,
            gates=[gate.to_dict() for gate in waiting],
            inputs=forms.fields(definitions, json.loads(row["parameters"])),
            failed=[{"task": task["path"], "message": task["message"]} for task in tasks if task["state"] == "FAILED"],
            mlflow=str(outcome.get("mlflow", {}).get("entries", {}).get("run_url", {}).get("value", "")),
        )  # fmt: skip

    def task(self, call: Call) -> TaskPage:
        row = queries.find(self.database, call.path["run"])
        path = call.query.text("path")
        found = self.database.query("SELECT * FROM task WHERE run_id = ? ORDER BY created_at, path", (row["id"],))
        exact = next((dict(task) for task in found if task["path"] == path), None)
        inside = [task for task in found if _within(folded(task["path"]), path)] if exact is None else []
        if exact is None and len(inside) == 1:
            exact = dict(inside[0])
        if exact is None and not inside:
            queries.require_task(self.database, row["id"], path)
        known = exact["path"] if exact else path
        log, cut = self._log(row["id"], known) if exact else ("", False)
        gate = approvals.gate_of(self.database, f"run/{row['id']}/task/{known}") if exact else None
        return TaskPage(
            run_id=row["id"], run_name=row["name"], path=known,
            task=queries.task_row_json(exact) if exact else None,
            executions=[] if exact else [_execution(dict(task)) for task in inside[:MOST_EXECUTIONS]],
            total=len(inside),
            attempts=self._attempts(row["id"], known) if exact else [],
            artifacts=artifacts.of_task(self.database, row["id"], known) if exact else [],
            cache=self._cache(row, exact) if exact else "",
            log=log, log_cut=cut, gate=gate.id if gate else "",
        )  # fmt: skip

    def _attempts(self, run_id: str, path: str) -> list[Mapping[str, Any]]:
        rows = self.database.query(
            "SELECT number, state, message, started_at, finished_at FROM attempt WHERE run_id = ? AND path = ?"
            " ORDER BY number", (run_id, path),
        )  # fmt: skip
        return [
            {
                "number": one["number"], "state": one["state"], "message": one["message"],
                "started_at": rfc3339(one["started_at"]),
                "seconds": one["finished_at"] - one["started_at"] if one["finished_at"] else None,
            }
            for one in rows
        ]  # fmt: skip

    def _log(self, run_id: str, path: str) -> tuple[str, bool]:
        """The end of the newest attempt's log, and whether there is more before it."""
        tried = queries.attempts(self.database, self.platform.home, run_id, path, missing_ok=True)
        files = [file for one, _, file in tried if one == path and file.exists()]
        if not files:
            return "", False
        size = files[-1].stat().st_size
        with files[-1].open("rb") as stream:
            stream.seek(max(0, size - _LOG_BYTES))
            return stream.read(_LOG_BYTES).decode("utf-8", "replace"), size > _LOG_BYTES

    def _cache(self, run: Mapping[str, Any], task: Mapping[str, Any]) -> str:
        """Why the task was, or was not, taken from the cache."""
        if task["cached"]:
            source = self.database.one(
                "SELECT run_id FROM task WHERE cache_key = ? AND state = 'SUCCEEDED' AND cached = 0"
                " AND run_id != ? ORDER BY finished_at DESC LIMIT 1", (task["cache_key"], run["id"]),
            )  # fmt: skip
            return f"taken from run {source['run_id']}" if source else "taken from an earlier run"
        if task["attempt"] == 0:
            return "there was nothing to run"
        if not run["caching"]:
            return "ran: the run was started with caching off"
        if not task["cache_key"]:
            return "ran: caching is off for this task"
        return "ran: nothing had succeeded with the same code, image, parameters and contents of inputs"

    def compared(self, call: Call) -> ComparePage:
        rows = [queries.find(self.database, call.query.text(name)) for name in ("a", "b")]
        runs = [queries.run_row_json(row) for row in rows]
        parameters = [json.loads(row["parameters"]) for row in rows]
        made = [self._made(row["id"]) for row in rows]
        return ComparePage(
            a=runs[0], b=runs[1], parameters=_sides(*parameters), metrics=_sides(made[0][0], made[1][0]),
            seconds=_sides(self._took(rows[0]["id"]), self._took(rows[1]["id"])),
            digests=_sides(made[0][1], made[1][1]),
        )  # fmt: skip

    def _made(self, run_id: str) -> tuple[dict[str, Any], dict[str, str]]:
        metrics: dict[str, Any] = {}
        digests: dict[str, str] = {}
        for one in self.database.query("SELECT * FROM artifact WHERE run_id = ? ORDER BY path, name", (run_id,)):
            name = f"{one['path']}: {one['name']}"
            if one["type"].endswith("Metrics"):
                told = json.loads(one["metadata"])
                metrics |= {f"{name}: {key}": value for key, value in told.items() if isinstance(value, int | float)}
            elif one["digest"]:
                digests[name] = one["digest"]
        return metrics, digests

    def _took(self, run_id: str) -> dict[str, float]:
        rows = self.database.query(
            "SELECT path, finished_at - started_at AS took FROM task WHERE run_id = ? AND finished_at IS NOT NULL"
            " AND started_at IS NOT NULL AND cached = 0 ORDER BY path", (run_id,),
        )  # fmt: skip
        return {row["path"]: row["took"] for row in rows}

    def cancel(self, sent: Submission) -> Done:
        run_id = self._id(sent)
        transitions.request_cancel(
            self.database, run_id, actor=sent.who.name, reason=sent.reason, at=self.platform.clock.now()
        )
        return Done(f"/runs/{run_id}", "The run is being stopped.")

    def retry(self, sent: Submission) -> Done:
        run_id = self._id(sent)
        again = transitions.retry_run(
            self.database, run_id, actor=sent.who.name, reason=sent.reason, at=self.platform.clock.now()
        )
        return Done(f"/runs/{run_id}", f"Tried again: {', '.join(again)}.")

    def again(self, sent: Submission) -> Done:
        """Run again: from what failed, from a chosen task, or all of it; with other parameters."""
        row = queries.find(self.database, sent.path["run"])
        spec = spec_json(row["document"])
        root = spec.get("pipeline_spec", spec).get("root", {})
        before = json.loads(row["parameters"])
        asked = forms.fields(root.get("inputDefinitions", {}).get("parameters", {}), before)
        given = forms.read(asked, sent.fields)
        begin = [one for one in [sent.fields.get("from", "")] if one]
        if begin == ["*"]:
            begin = list(root.get("dag", {}).get("tasks", {}))
            known = self.database.query("SELECT path FROM task WHERE run_id = ?", (row["id"],))
            begin = [name for name in begin if any(_within(task["path"], name) for task in known)]
        run_id = rerun(
            self.database, self.platform.home, row["id"], actor=sent.who.name, at=self.platform.clock.now(),
            begin=begin, reason=sent.reason,
            parameters={name: value for name, value in given.items() if value != before.get(name)},
        )  # fmt: skip
        self.platform.mlflow_runs.begin(run_id)
        return Done(f"/runs/{run_id}", f"A new run goes on from {row['id']}.")

    def _id(self, sent: Submission) -> str:
        return str(queries.find(self.database, sent.path["run"])["id"])


def pages(platform: Platform) -> list[Page]:
    """The pages below /runs."""
    runs = Runs(platform)
    asked = {"state": TEXT, "pipeline": TEXT, "text": TEXT, "before": TEXT}
    return [
        Page("/runs", "runs.html", runs.listed, asked, live=True),
        Page("/runs/compare", "compare.html", runs.compared, {"a": TEXT, "b": TEXT}),
        Page("/runs/{run}/task", "task.html", runs.task, {"path": TEXT}, live=True),
        Page("/runs/{run}", "run.html", runs.shown, live=True),
    ]


def actions(platform: Platform) -> list[Action]:
    """What can be done with a run."""
    runs = Runs(platform)
    return [
        Action("/runs/{run}/cancel", runs.cancel, (Role.OPERATOR,)),
        Action("/runs/{run}/retry", runs.retry, (Role.OPERATOR,)),
        Action("/runs/{run}/again", runs.again, (Role.OPERATOR,)),
    ]


def task_address(run_id: str, path: str) -> str:
    """Where a task is shown."""
    return f"/runs/{run_id}/task?path={quote(path, safe='')}"


def _bars(tasks: Sequence[Any], begun: float, ended: float) -> dict[str, tuple[list[Bar], float | None]]:
    """By folded paths: the bars of the executions, and the seconds from the first start to the last end."""
    span = max(ended - begun, 0.001)
    found: dict[str, tuple[list[Bar], float, float | None]] = {}
    for task in tasks:
        if task["started_at"] is None:
            continue
        key = folded(task["path"])
        until = task["finished_at"] or ended
        bars, first, last = found.get(key, ([], task["started_at"], 0.0))
        if len(bars) < MOST_BARS:
            at = 1000 * (task["started_at"] - begun) / span
            wide = max(1000 * (until - task["started_at"]) / span, 2.0)
            bars.append(Bar(round(at, 1), round(wide, 1), task["state"], bool(task["cached"])))
        moving = last is None or task["finished_at"] is None
        found[key] = (bars, min(first, task["started_at"]), None if moving else max(last or 0.0, until))
    return {key: (bars, None if last is None else last - first) for key, (bars, first, last) in found.items()}


def _row(depth: int, node: Node, bars: list[Bar], seconds: float | None) -> Row:
    return Row(
        node.id, node.label, node.kind, depth, node.state, node.states, node.cached, sum(node.states.values()), seconds,
        bars,
    )  # fmt: skip


def _execution(task: Mapping[str, Any]) -> Execution:
    ended = task["finished_at"] is not None and task["started_at"] is not None
    return Execution(
        task["path"], task["state"], bool(task["cached"]), task["attempt"],
        task["finished_at"] - task["started_at"] if ended else None, task["message"],
    )  # fmt: skip


def _within(path: str, group: str) -> bool:
    return path == group or path.startswith(f"{group}/")


def _sides(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Side]:
    return [Side(name, a.get(name), b.get(name), a.get(name) == b.get(name)) for name in sorted({*a, *b})]
