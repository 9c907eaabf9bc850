"""Runs: the list, one run with its graph and tasks, two runs side by side, and what a person does with a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

from headrace.clock import rfc3339
from headrace.errors import UsageError
from headrace.governance import approvals
from headrace.project.wiring import Platform
from headrace.runs import browse, comparison, inspection, paths, queries, transitions, tree
from headrace.runs.browse import Wanted
from headrace.runs.model import FINAL, State
from headrace.runs.rerun import goes_on_from, rerun
from headrace.server.console import artifacts, forms
from headrace.server.console.actions import Action, Done, Submission
from headrace.server.console.folding import Links, asked, folds
from headrace.server.console.forms import Field
from headrace.server.console.pages import Page
from headrace.server.operations import TEXT
from headrace.server.requests import Call

PER_PAGE = 50
STATES = ("PENDING", "RUNNING", "PAUSED", "SUCCEEDED", "FAILED", "CANCELING", "CANCELED")
_MOST_FAILURES = 3


@dataclass(frozen=True)
class RunsPage:
    """`more`: the address of the next page; "" on the last."""

    runs: list[dict[str, Any]]
    state: str
    pipeline: str
    text: str
    states: list[str]
    pipelines: list[str]
    paged: bool
    more: str


@dataclass(frozen=True)
class ComparePage:
    """Two runs side by side; each row says whether it is the same in both."""

    comparison: comparison.Comparison


@dataclass(frozen=True)
class Line:
    """A node of the tree with its links, and its bar from `x` over `width`, in thousandths of the run's time."""

    node: tree.Node
    href: str
    toggle: str
    selected: bool
    started: str
    took: float | None
    x: float | None
    width: float | None


@dataclass(frozen=True)
class Failure:
    """A task that failed: what it said, and the last lines that it printed."""

    path: str
    href: str
    message: str
    lines: str


@dataclass(frozen=True)
class Gate:
    """A gate of the run that waits for a person."""

    id: str
    question: str


@dataclass(frozen=True)
class RunPage:
    """`seconds`: how long the bars' line is. `previous`: the run that this one goes on from; "" for none."""

    run: dict[str, Any]
    took: float | None
    seconds: float
    lines: list[Line]
    counts: dict[str, int]
    gates: list[Gate]
    failures: list[Failure]
    fields: list[Field]
    begin: list[str]
    task: inspection.TaskView | None
    views: list[artifacts.View]
    opened: str
    previous: str
    mlflow: str
    pipeline_id: str
    version_id: str
    final: bool
    can_cancel: bool
    can_retry: bool


def pages(platform: Platform) -> list[Page]:
    """/runs, /runs/compare and /runs/{run}."""
    shown = _Runs(platform)
    listing = {"state": TEXT, "pipeline": TEXT, "text": TEXT, "before": TEXT}
    return [
        Page("/runs", "runs.html", shown.listing, listing, live=True),
        Page("/runs/compare", "compare.html", shown.compare, {"a": TEXT, "b": TEXT}),
        _page_of_one(shown),
    ]


def _page_of_one(shown: _Runs) -> Page:
    return Page("/runs/{run}", "run.html", shown.one, {"task": TEXT, "open": TEXT}, live=True)


def actions(platform: Platform) -> list[Action]:
    """Cancel, retry, and run again."""
    acts = _Acts(platform)
    return [
        Action("/runs/{run}/cancel", acts.cancel),
        Action("/runs/{run}/retry", acts.retry),
        Action("/runs/{run}/rerun", acts.rerun, page=_page_of_one(_Runs(platform))),
    ]


class _Runs:
    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.database = platform.database

    def listing(self, call: Call) -> RunsPage:
        query = call.query
        wanted = Wanted(query.text("state"), query.text("pipeline"), query.text("text").strip(), query.text("before"))
        if wanted.state and wanted.state not in STATES:
            raise UsageError(f"{wanted.state} is no state", where="state", remedy=f"States: {', '.join(STATES)}.")
        found = browse.newest(self.database, wanted, limit=PER_PAGE)
        following = {"state": wanted.state, "pipeline": wanted.pipeline, "text": wanted.text, "before": found.older}
        kept = {name: value for name, value in following.items() if value}
        return RunsPage(
            runs=[{**run, "took": _took(run)} for run in found.runs],
            state=wanted.state, pipeline=wanted.pipeline, text=wanted.text, states=list(STATES),
            pipelines=browse.pipelines(self.database), paged=bool(wanted.before),
            more=f"/runs?{urlencode(kept)}" if found.older else "",
        )  # fmt: skip

    def compare(self, call: Call) -> ComparePage:
        a, b = call.query.text("a"), call.query.text("b")
        if not a or not b:
            raise UsageError("two runs are compared", where="a, b", remedy="Tick two runs in the list of runs.")
        return ComparePage(comparison.compare(self.database, a, b))

    def one(self, call: Call) -> RunPage:
        row = queries.find(self.database, call.path["run"])
        run, path = queries.run_row_json(row), call.query.text("task")
        opened = asked(call.query.text("open")) | set(paths.groups(path))
        nodes = tree.tree(self.database, row, opened)
        task = inspection.task(self.database, row, path) if path else None
        began = min((node.started_at for node in nodes if node.started_at is not None), default=row["created_at"])
        end = row["finished_at"] or self.platform.clock.now()
        links = Links(f"/runs/{quote(row['id'])}", frozenset(opened), path)
        return RunPage(
            run=run, took=_took(run), seconds=max(end - began, 0.001),
            lines=[_line(node, links, began, end) for node in nodes],
            counts=self._counts(row["id"]), gates=self._gates(row), failures=self._failures(row, links),
            fields=_fields(row), begin=[node.path for node in nodes if node.started_at is not None], task=task,
            views=[artifacts.view(one) for one in task.artifacts] if task else [],
            opened=",".join(sorted(opened)), previous=goes_on_from(self.database, row["id"]), mlflow=_mlflow(row),
            pipeline_id=row["pipeline_id"], version_id=row["pipeline_version_id"],
            final=State(row["state"]) in FINAL, can_cancel=row["state"] in ("PENDING", "RUNNING", "PAUSED"),
            can_retry=row["state"] in ("FAILED", "CANCELED"),
        )  # fmt: skip

    def _counts(self, run_id: str) -> dict[str, int]:
        rows = self.database.query(
            "SELECT state, count(*) AS n FROM task WHERE run_id = ? GROUP BY state ORDER BY state", (run_id,)
        )
        return {str(row["state"]): int(row["n"]) for row in rows}

    def _gates(self, row: Mapping[str, Any]) -> list[Gate]:
        if row["state"] in (State.SUCCEEDED, State.FAILED, State.CANCELED):
            return []
        waiting = approvals.gates(self.database, "waiting")
        return [Gate(gate.id, gate.question) for gate in waiting if gate.subject.startswith(f"run/{row['id']}/")]

    def _failures(self, row: Mapping[str, Any], links: Links) -> list[Failure]:
        failed = self.database.query(
            "SELECT path, message FROM task WHERE run_id = ? AND state = 'FAILED' ORDER BY finished_at LIMIT ?",
            (row["id"], _MOST_FAILURES),
        )
        home = self.platform.home
        return [
            Failure(
                one["path"], links.task(one["path"]), one["message"],
                inspection.last_lines(self.database, home, row["id"], one["path"]),
            )
            for one in failed
        ]  # fmt: skip


class _Acts:
    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.database = platform.database

    def cancel(self, sent: Submission) -> Done:
        run_id = self._run(sent)
        transitions.request_cancel(self.database, run_id, actor=sent.who.name, reason=sent.reason, at=self._now())
        return Done(f"/runs/{run_id}", "The run is being canceled.")

    def retry(self, sent: Submission) -> Done:
        run_id = self._run(sent)
        tried = transitions.retry_run(
            self.database, run_id, actor=sent.who.name, reason=sent.reason, at=self._now()
        )  # fmt: skip
        what = f"{len(tried)} {'task' if len(tried) == 1 else 'tasks'}"
        return Done(f"/runs/{run_id}", f"Trying {what} again, and what comes after; what succeeded stays.")

    def rerun(self, sent: Submission) -> Done:
        row = queries.find(self.database, sent.path["run"])
        begin = [sent.fields["begin"]] if sent.fields.get("begin") else []
        if sent.fields.get("anew"):
            known = self.database.query("SELECT DISTINCT path FROM task WHERE run_id = ?", (row["id"],))
            begin = sorted({str(one["path"]).partition("/")[0] for one in known})
        run_id = rerun(
            self.database, self.platform.home, row["id"], actor=sent.who.name, at=self._now(), begin=begin,
            parameters=forms.changed(_fields(row), sent.fields), reason=sent.reason,
        )  # fmt: skip
        self.platform.mlflow_runs.begin(run_id)
        return Done(f"/runs/{run_id}", f"This run goes on from {row['id']}.")

    def _run(self, sent: Submission) -> str:
        return str(queries.find(self.database, sent.path["run"])["id"])

    def _now(self) -> float:
        return self.platform.clock.now()


def _line(node: tree.Node, links: Links, began: float, end: float) -> Line:
    is_group = folds(node)
    ended = node.finished_at if node.finished_at is not None else end
    x = width = None
    if node.started_at is not None:
        scale = 1000 / max(end - began, 0.001)
        x = round(min(max((node.started_at - began) * scale, 0), 996), 1)
        width = round(max(min((ended - node.started_at) * scale, 1000 - x), 4), 1)
    return Line(
        node=node, href=links.toggle(node.path) if is_group else links.task(node.path),
        toggle=links.toggle(node.path) if is_group else "", selected=node.path == links.selected,
        started=rfc3339(node.started_at) if node.started_at is not None else "",
        took=None if node.started_at is None or node.finished_at is None else node.finished_at - node.started_at,
        x=x, width=width,
    )  # fmt: skip


def _fields(row: Mapping[str, Any]) -> list[Field]:
    return forms.fields(tree.document_of(row), json.loads(row["parameters"]))


def _took(run: Mapping[str, Any]) -> float | None:
    if not run["started_at"] or not run["finished_at"]:
        return None
    return (datetime.fromisoformat(run["finished_at"]) - datetime.fromisoformat(run["started_at"])).total_seconds()


def _mlflow(row: Mapping[str, Any]) -> str:
    told = json.loads(row["plugins_output"]).get("mlflow", {})
    address = told.get("entries", told).get("run_url", {})
    value = str(address.get("value", "")) if isinstance(address, dict) else ""
    return value if value.startswith(("http://", "https://")) else ""
