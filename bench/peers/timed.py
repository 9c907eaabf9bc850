"""What the peers' pipelines have in common: time stamps of task bodies, and how a process tells what it measured.

Standard library only, as it is imported in every peer's own environment.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TASKS = 10
ANSWER = "BENCH "


def stamp() -> None:
    """Note when a task's body runs: the time between two of them is what a task costs in all."""
    with Path(os.environ["BENCH_STAMPS"]).open("a") as stream:
        stream.write(f"{time.time():.6f}\n")


def stamps() -> list[float]:
    """The stamps since the last call."""
    file = Path(os.environ["BENCH_STAMPS"])
    found = sorted(float(line) for line in file.read_text().split()) if file.exists() else []
    file.unlink(missing_ok=True)
    return found


def frame() -> Any:
    """10 MB of a table as people have them: numbers, times and a category."""
    import numpy
    import pandas

    rows = 250_000
    random = numpy.random.default_rng(0)
    return pandas.DataFrame(
        {
            "time": pandas.Timestamp("2026-01-01") + pandas.to_timedelta(numpy.arange(rows), unit="s"),
            "a": random.normal(size=rows),
            "b": random.normal(size=rows),
            "c": random.integers(0, 1000, size=rows),
            "d": random.integers(0, 1000, size=rows),
        }
    )


def tree_cpu() -> float:
    """CPU seconds of this process, of its living descendants, and of all that they have waited for."""
    ticks = os.sysconf("SC_CLK_TCK")
    parents, spent = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        pid = int(stat.parent.name)
        parents[pid], spent[pid] = int(fields[1]), sum(map(int, fields[11:15])) / ticks
    mine = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in mine} - mine:
        mine |= more
    return sum(spent.get(pid, 0.0) for pid in mine)


def peak_rss_mb() -> float:
    """The most memory that this process has had, in MB."""
    scale = 1e6 if sys.platform == "darwin" else 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


def measured(work: Callable[[], Any], rounds: int, warm_up: int = 1) -> dict[str, Any]:
    """Do the work `warm_up + rounds` times; walls and CPU (seconds) and the stamps of each counted round."""
    answer: dict[str, Any] = {"walls": [], "cpus": [], "stamps": []}
    for number in range(warm_up + rounds):
        stamps()
        cpu, start = tree_cpu(), time.perf_counter()
        work()
        wall = time.perf_counter() - start
        if number >= warm_up:
            answer["walls"].append(wall)
            answer["cpus"].append(tree_cpu() - cpu)
            answer["stamps"].append(stamps())
    return {**answer, "rss_mb": peak_rss_mb()}


def answer(found: dict[str, Any]) -> None:
    """Tell the benchmark."""
    print(ANSWER + json.dumps(found), flush=True)


def arguments() -> argparse.Namespace:
    """ROW, how many tasks it has, and how often it is done; `--once`: only run it, as from a shell."""
    parser = argparse.ArgumentParser()
    parser.add_argument("row", choices=["chain", "wide", "cached", "frame"])
    parser.add_argument("--tasks", type=int, default=TASKS)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--warm-up", type=int, default=1)
    parser.add_argument("--once", action="store_true")
    return parser.parse_args()


def main(works: dict[str, Callable[[int], Any]]) -> None:
    """Run one row of a tool that runs pipelines in the process that asks for it."""
    asked = arguments()
    work = works[asked.row]
    if asked.once:
        work(asked.tasks)
    else:
        answer(measured(lambda: work(asked.tasks), asked.rounds, asked.warm_up))
