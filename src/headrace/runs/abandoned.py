"""Runs that say that they run, and nothing of them does: they wait for an engine, and are made to say so."""

from __future__ import annotations

from pathlib import Path

from headrace.processes import alive
from headrace.runs import transitions
from headrace.runs.executors.warm_parent import claimed_by
from headrace.store.database import Database
from headrace.store.home import Home
from headrace.store.locks import holder


def requeue_abandoned(database: Database, home: Home, at: float) -> list[str]:
    """Make RUNNING runs PENDING whose engine is dead and none of whose tasks' processes lives; their ids.

    Idempotent. It says how they stand and changes nothing else: the next engine takes them over where they were.
    """
    found = []
    for run in database.query("SELECT id, owner FROM run WHERE state = 'RUNNING' AND owner IS NOT NULL"):
        driven = holder(home.locks / f"{run['owner']}.lock") is not None
        if driven or _lives(database, run["id"]):
            continue
        if transitions.requeue_run(database, run["id"], owner=run["owner"], at=at):
            found.append(str(run["id"]))
    return found


def _lives(database: Database, run_id: str) -> bool:
    attempts = database.query("SELECT * FROM attempt WHERE run_id = ? AND state = 'RUNNING'", (run_id,))
    known = [(row["pid"], row["process_created"]) for row in attempts if row["pid"] is not None]
    untold = [claimed_by(Path(row["directory"])) for row in attempts if row["pid"] is None]
    return any(alive(pid, born) for pid, born in known + untold)
