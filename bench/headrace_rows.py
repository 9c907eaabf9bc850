"""The rows of the benchmark on Headrace, in a process of their own: `python -m bench.headrace_rows ROW …`.

State is in HEADRACE_HOME. One engine serves all rounds of a row, as in `headrace up`; the times of tasks are those of
the database's own rows.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.peers import timed
from headrace.contracts import pipeline_spec
from headrace.project import wiring
from headrace.project.wiring import Platform
from headrace.runs import browse, queries, v2beta1
from headrace.runs.abandoned import requeue_abandoned
from headrace.runs.browse import Wanted
from headrace.runs.listing import ListQuery
from headrace.runs.submit import create_run

POLL_SECONDS = 0.02
# No more than the smaller database holds, so that both lists are equally long.
PAGE = 5
_FINAL = ("SUCCEEDED", "FAILED", "CANCELED")


def create(platform: Platform, document: Path, parameters: dict[str, Any], *, caching: bool = False) -> str:
    """A new run of a compiled pipeline."""
    return create_run(
        platform.database, pipeline_spec.parse(document.read_text(), str(document)), pipeline=document.stem,
        parameters=parameters, environment="dev", actor="user:bench", at=time.time(), caching=caching,
    )  # fmt: skip


async def _rounds(platform: Platform, document: Path, parameters: Any, rounds: int, *, caching: bool) -> dict[str, Any]:
    engine, stop = platform.engine(), asyncio.Event()
    serving = asyncio.create_task(engine.serve(stop))
    answer: dict[str, Any] = {"walls": [], "cpus": [], "intervals_ms": [], "rss_mb": []}
    for number in range(1 + rounds):
        cpu = timed.tree_cpu()
        run_id = create(platform, document, parameters, caching=caching)
        run = await finished(platform, run_id)
        assert run["state"] == "SUCCEEDED", run["error"]
        if number:
            answer["walls"].append(run["finished_at"] - run["started_at"])
            answer["cpus"].append(timed.tree_cpu() - cpu)
            answer["intervals_ms"].append(intervals_ms(platform, run_id))
        answer["rss_mb"].append(timed.peak_rss_mb())
    stop.set()
    await serving
    return answer


async def finished(platform: Platform, run_id: str) -> Any:
    """The row of a run, once it is at its end; the engine that carries it writes to the same database."""
    while True:
        run = _run(platform, run_id)
        if run["state"] in _FINAL:
            return run
        await asyncio.sleep(POLL_SECONDS)


def _run(platform: Platform, run_id: str) -> Any:
    return platform.database.one("SELECT * FROM run WHERE id = ?", (run_id,))


def intervals_ms(platform: Platform, run_id: str) -> list[float]:
    """From each task's end to the next one's."""
    rows = platform.database.query("SELECT finished_at FROM task WHERE run_id = ? ORDER BY finished_at", (run_id,))
    ends = [row["finished_at"] for row in rows]
    return [(after - before) * 1000 for before, after in pairwise(ends)]


def files_in_tasks(told: Path) -> list[float]:
    """Seconds that the ten tasks of each round but the first have read and written for, by their own clocks."""
    seconds = [float(line) for line in told.read_text().splitlines()]
    return [sum(seconds[at : at + timed.TASKS]) for at in range(timed.TASKS, len(seconds), timed.TASKS)]


def files_alone(rounds: int) -> list[float]:
    """Seconds that reading and writing the ten files takes in one warm process, once for each round."""
    import pandas

    walls = []
    with tempfile.TemporaryDirectory() as folder:
        timed.frame().to_parquet(f"{folder}/0")
        for number in range(1 + rounds):
            start = time.perf_counter()
            for file in range(10):
                pandas.read_parquet(f"{folder}/{file}").to_parquet(f"{folder}/{file + 1}")
            if number:
                walls.append(time.perf_counter() - start)
    return walls


def many_runs(platform: Platform, document: Path, count: int, rounds: int) -> dict[str, Any]:
    """Milliseconds for what people do with runs, in a database that holds `count` runs of ten tasks each."""
    model = create(platform, document, {})
    asyncio.run(platform.engine().drive(model))
    _copies(platform, model, count - 1)
    wanted = platform.database.one("SELECT id FROM run ORDER BY created_at LIMIT 1 OFFSET ?", (count // 2,))
    assert wanted is not None

    def listed() -> None:
        requeue_abandoned(platform.database, platform.home, time.time())
        browse.newest(platform.database, Wanted(), limit=PAGE)

    works = {
        "list": listed,
        "list_api": lambda: v2beta1.list_runs(platform.database, ListQuery(page_size=PAGE)),
        "show": lambda: queries.run_json(platform.database, wanted["id"]),
        "show_short_id": lambda: queries.run_json(platform.database, wanted["id"][:8]),
    }
    answer: dict[str, Any] = {name: _median_ms(work, rounds) for name, work in works.items()}
    started = [_start(platform, document) for _ in range(max(3, rounds // 4))]
    answer["start"] = statistics.median(first for first, _ in started)
    answer["run"] = statistics.median(whole for _, whole in started)
    answer["database_mb"] = platform.home.database.stat().st_size / 1e6
    return answer


def _median_ms(work: Any, rounds: int) -> float:
    walls = []
    for _ in range(1 + rounds):
        start = time.perf_counter()
        work()
        walls.append((time.perf_counter() - start) * 1000)
    return statistics.median(walls[1:])


def _start(platform: Platform, document: Path) -> tuple[float, float]:
    """From asking for a run to the start of its first task, and to the run's end, in milliseconds."""
    asked = time.time()
    run_id = create(platform, document, {})
    asyncio.run(platform.engine().drive(run_id))
    first = platform.database.one("SELECT min(started_at) AS at FROM task WHERE run_id = ?", (run_id,))
    assert first is not None
    return (first["at"] - asked) * 1000, (_run(platform, run_id)["finished_at"] - asked) * 1000


def _copies(platform: Platform, model: str, count: int) -> None:
    """Finished runs as they stand in a database that has been in use, a minute apart: runs, tasks, attempts, events."""
    database = platform.database
    rows = {
        table: [dict(row) for row in database.query(f"SELECT * FROM {table} WHERE {key} = ?", (model,))]
        for table, key in (("run", "id"), ("task", "run_id"), ("attempt", "run_id"))
    }
    events = [dict(row) for row in database.query("SELECT * FROM event WHERE subject LIKE ?", (f"run/{model}%",))]
    with database.transaction() as connection:
        for number in range(count):
            run_id, earlier = os.urandom(6).hex(), 60.0 * (number + 1)
            for table, found in rows.items():
                for row in found:
                    own = {"id": run_id} if table == "run" else {"run_id": run_id}
                    if table == "task":
                        own["cache_key"] = os.urandom(32).hex()
                    _insert(connection, table, {**_earlier(row, earlier), **own})
            for row in events:
                plain = {name: value for name, value in row.items() if name != "seq"}
                subject = row["subject"].replace(model, run_id)
                _insert(connection, "event", {**_earlier(plain, earlier), "subject": subject})


def _earlier(row: dict[str, Any], seconds: float) -> dict[str, Any]:
    return {
        name: value - seconds if name in ("created_at", "started_at", "finished_at", "at") and value else value
        for name, value in row.items()
    }


def _insert(connection: Any, table: str, row: dict[str, Any]) -> None:
    names = ", ".join(row)
    connection.execute(f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(row))})", tuple(row.values()))


def main() -> None:
    """Do one row and print what was measured."""
    parser = argparse.ArgumentParser()
    parser.add_argument("row", choices=["chain", "wide", "cached", "frame", "many"])
    parser.add_argument("documents", type=Path)
    parser.add_argument("--tasks", type=int, default=timed.TASKS)
    parser.add_argument("--rounds", type=int, default=1)
    asked = parser.parse_args()
    platform = wiring.build()
    if asked.row == "many":
        timed.answer(many_runs(platform, asked.documents / "chain.yaml", asked.tasks, asked.rounds))
        return
    name = {"cached": "chain", "frame": "frames"}.get(asked.row, asked.row)
    parameters = {"wide": {"items": list(range(asked.tasks))}, "cached": {"start": 7}}.get(asked.row, {})
    document = asked.documents / f"{name}.yaml"
    caching = asked.row == "cached"
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BENCH_FILES"] = f"{folder}/seconds"
        found = asyncio.run(_rounds(platform, document, parameters, asked.rounds, caching=caching))
        if asked.row == "frame":
            found["files_in_tasks"] = files_in_tasks(Path(os.environ["BENCH_FILES"]))
            found["files_alone"] = files_alone(asked.rounds)
    timed.answer(found)


if __name__ == "__main__":
    main()
