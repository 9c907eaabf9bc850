"""What must hold after any kill. Each check returns what is wrong, in words; nothing when all is well."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crash import ledger
from headrace.store import events
from headrace.store.artifacts import content
from headrace.store.database import Database

RESUME_SECONDS = 5.0
# What may be said of an attempt that failed: the task's own doing, or that a process was killed.
_EXPLAINED = re.compile(
    r"ValueError: as planned|killed by SIGKILL|ended without a result|the warm parent died \d times"
)


@dataclass(frozen=True)
class Ending:
    """How a run ended, as far as it is the same each time: its state, its outputs, its tasks' states and outputs."""

    state: str
    outputs: str
    tasks: Mapping[str, tuple[str, str]]


def ending(database: Database, run_id: str) -> Ending:
    """How a run has ended. Artifacts are told by what they hold."""
    run = database.one("SELECT * FROM run WHERE id = ?", (run_id,))
    assert run is not None
    rows = database.query("SELECT path, state, outputs FROM task WHERE run_id = ?", (run_id,))
    tasks = {row["path"]: (row["state"], _told(row["outputs"])) for row in rows}
    return Ending(run["state"], _told(run["outputs"]), tasks)


def ended_otherwise(expected: Ending, found: Ending) -> list[str]:
    """The run ends as it would have without kills."""
    problems = []
    if (expected.state, expected.outputs) != (found.state, found.outputs):
        problems.append(f"ended {found.state} {found.outputs}, not {expected.state} {expected.outputs}")
    for path in sorted({*expected.tasks, *found.tasks}):
        if expected.tasks.get(path) != found.tasks.get(path):
            problems.append(f"task {path} came to {found.tasks.get(path)}, not to {expected.tasks.get(path)}")
    return problems


def ran_twice(database: Database, run_id: str, lines: list[ledger.Line], killed: Collection[int]) -> list[str]:
    """A task ran again only when its attempt had not been committed; the ledger and the tables tell the same.

    `killed`: the processes of tasks that were killed. The work of all others counts.
    """
    rows = database.query("SELECT * FROM attempt WHERE run_id = ?", (run_id,))
    known = {(row["path"], row["number"]) for row in rows}
    noted = Counter((line.path, line.attempt, line.what) for line in lines)
    problems = [
        f"attempt {n} of {path} has {what} {times} times" for (path, n, what), times in noted.items() if times > 1
    ]
    for line in lines:
        if (line.path, line.attempt) not in known:
            problems.append(f"attempt {line.attempt} of {line.path} ran, and no table knows of it")
    for row in rows:
        problems += [f"attempt {row['number']} of {row['path']} {told}" for told in _wrong(row, lines, killed)]
    return problems + _miscounted(database, run_id, rows, {line.path for line in lines if line.what == "begun"})


def _wrong(attempt: Any, lines: list[ledger.Line], killed: Collection[int]) -> list[str]:
    """What an attempt's row says, and the ledger does not bear out."""
    mine = [line for line in lines if (line.path, line.attempt) == (attempt["path"], attempt["number"])]
    begun = {line.pid for line in mine if line.what == "begun"}
    unharmed = not ({attempt["pid"], *begun} & set(killed))
    state, message = attempt["state"], attempt["message"]
    if state == "SUCCEEDED":
        later = any(
            line.path == attempt["path"] and line.what == "begun" and line.attempt > attempt["number"] for line in lines
        )
        problems = ["was committed, and the task ran again"] if later else []
        whole = any(line.what == "ended" for line in mine)
        return problems if whole else [*problems, "is said to have succeeded, and did not come to its end"]
    if state == "LOST" and begun and unharmed:
        return ["was given up, and nobody had killed it"]
    if state == "FAILED" and unharmed and not _EXPLAINED.search(message):
        return [f"failed: {message}"]
    return []


def _miscounted(database: Database, run_id: str, attempts: list[Any], begun: set[str]) -> list[str]:
    """A task that succeeded has one attempt that did, the last one; a cached one has none; none is open at the end."""
    problems = []
    for task in database.query("SELECT * FROM task WHERE run_id = ?", (run_id,)):
        mine = sorted((row["number"], row["state"]) for row in attempts if row["path"] == task["path"])
        succeeded = [number for number, state in mine if state == "SUCCEEDED"]
        if len(succeeded) > 1 or (succeeded and succeeded != [mine[-1][0]]):
            problems.append(f"{task['path']} succeeded in attempts {succeeded} of {mine}")
        if task["cached"] and (mine or task["path"] in begun):
            problems.append(f"{task['path']} came from the cache and ran nevertheless")
        problems += [
            f"attempt {number} of {task['path']} is still open" for number, state in mine if state == "RUNNING"
        ]
    told = Counter(
        event["subject"]
        for event in database.query(
            "SELECT subject FROM event WHERE kind IN ('task.succeeded', 'task.cached') AND subject LIKE ?",
            (f"run/{run_id}/%",),
        )
    )
    return problems + [
        f"{subject} is told {count} times to have succeeded" for subject, count in told.items() if count > 1
    ]


def torn(database: Database, run_id: str) -> list[str]:
    """Every artifact that is recorded holds what is recorded of it."""
    problems = []
    for row in database.query("SELECT * FROM artifact WHERE run_id = ?", (run_id,)):
        path = Path(row["uri"])
        if not path.exists():
            problems.append(f"artifact {row['name']} of {row['path']} is not there: {path}")
        elif (content.digest(path), content.size(path)) != (row["digest"], row["bytes"]):
            problems.append(f"artifact {row['name']} of {row['path']} is not what was recorded: {path}")
    return problems


def damaged(database: Database) -> list[str]:
    """The database is whole, and so is the chain of the event log."""
    told = [row[0] for row in database.query("PRAGMA integrity_check")]
    problems = [] if told == ["ok"] else [f"integrity_check: {line}" for line in told]
    problems += [f"a row without its parent: {tuple(row)}" for row in database.query("PRAGMA foreign_key_check")]
    broken = events.first_broken(database)
    return problems + ([f"the event log is broken at line {broken}"] if broken else [])


def resumed_late(database: Database, run_id: str, *, killed: float, ready: float) -> tuple[float, list[str]]:
    """How many seconds after the server was ready a run was taken over, by the event log. It has been, or NaN."""
    row = database.one(
        "SELECT min(at) AS at FROM event WHERE subject = ? AND at > ? AND kind IN ('run.recovered', 'run.started')",
        (f"run/{run_id}", killed),
    )
    if row is None or row["at"] is None:
        return float("nan"), [f"run {run_id} was not taken over"]
    seconds = max(0.0, row["at"] - ready)
    late = (
        [f"run {run_id} was taken over {seconds:.1f} s after the server was ready"] if seconds > RESUME_SECONDS else []
    )
    return seconds, late


def _told(outputs: str) -> str:
    """Outputs as text that is the same in every run: an artifact is its digest, whatever folder it lies in."""
    read = json.loads(outputs)
    artifacts = {
        name: [[item["digest"], item["metadata"]] for item in items]
        for name, items in read.get("artifacts", {}).items()
    }
    return json.dumps([read.get("parameters", {}), artifacts], sort_keys=True)
