"""Where a warm task's milliseconds go: `python -m bench.profile_task`.

Two views. First a chain, its steps timed one by one in the engine, the warm parent and the task's process (all read the
same clock): medians. Then cProfile of the engine's process while it carries 100 tasks side by side.
"""

from __future__ import annotations

import asyncio
import cProfile
import functools
import os
import pstats
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.documents import compiled
from bench.headrace_rows import create, finished, intervals_ms
from headrace.project import wiring
from headrace.runs import attempts, cache, environments, live, transitions, work
from headrace.runs.executors import warm

ROUNDS = 20


class Timed:
    """Seconds by name, in the order in which the names came up."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name].append(time.perf_counter() - start)

    def wrap(self, owner: Any, attribute: str, name: str) -> None:
        """Time a function or coroutine function from now on."""
        plain = getattr(owner, attribute)
        if asyncio.iscoroutinefunction(plain):

            @functools.wraps(plain)
            async def timed(*given: Any, **named: Any) -> Any:
                with self.span(name):
                    return await plain(*given, **named)
        else:

            @functools.wraps(plain)
            def timed(*given: Any, **named: Any) -> Any:
                with self.span(name):
                    return plain(*given, **named)

        setattr(owner, attribute, timed)


def wrap_engine(timed: Timed) -> None:
    """The steps of a task in the engine, in their order."""
    timed.wrap(live.LiveRun, "plan", "plan what can start")
    timed.wrap(cache, "key", "cache key")
    timed.wrap(transitions, "start_attempt", "transaction: the attempt starts")
    timed.wrap(work, "prepare", "prepare the work")
    timed.wrap(environments, "python_for", "find the environment")
    timed.wrap(warm.WarmExecutor, "start", "ask the warm parent, until it has forked")
    timed.wrap(transitions, "record_process", "transaction: which process does it")
    timed.wrap(attempts, "read_outputs", "read and digest outputs")
    timed.wrap(transitions, "succeed", "transaction: outputs and success")


def stages(home: Path) -> tuple[dict[str, float], float]:
    """Median milliseconds of each step of a warm task, and from one task's end to the next one's."""
    timed = Timed()
    wrap_engine(timed)
    platform = wiring.build(home)
    document = compiled(home / "documents") / "chain.yaml"
    ends: list[float] = []

    async def rounds() -> None:
        stop = asyncio.Event()
        serving = asyncio.create_task(platform.engine().serve(stop))
        for number in range(1 + ROUNDS):
            if number == 1:
                timed.seconds.clear()
                timed.seconds["task's process, from its claim to its result (by the files' times)"] = []
            run_id = create(platform, document, {})
            await finished(platform, run_id)
            if number:
                ends.extend(intervals_ms(platform, run_id))
                timed.seconds[next(iter(timed.seconds))].extend(_lives(platform, run_id))
        stop.set()
        await serving

    asyncio.run(rounds())
    return {name: statistics.median(found) * 1000 for name, found in timed.seconds.items()}, statistics.median(ends)


def _lives(platform: Any, run_id: str) -> list[float]:
    """Seconds from the first thing that each task's process left, its claim, to the last one, its result."""
    rows = platform.database.query("SELECT directory FROM attempt WHERE run_id = ?", (run_id,))
    folders = [Path(row["directory"]) for row in rows]
    return [((f / "result.json").stat().st_mtime_ns - (f / "claim").lstat().st_mtime_ns) / 1e9 for f in folders]


def profile(home: Path, tasks: int) -> str:
    """cProfile of the engine's process during one wide run, the most expensive functions first."""
    platform = wiring.build(home)
    document = compiled(home / "documents") / "wide.yaml"
    asyncio.run(platform.engine().drive(create(platform, document, {"items": [0, 1]})))
    run_id = create(platform, document, {"items": list(range(tasks))})
    profiler = cProfile.Profile()
    profiler.runcall(asyncio.run, platform.engine().drive(run_id))
    with tempfile.TemporaryFile("w+") as stream:
        pstats.Stats(profiler, stream=stream).sort_stats("tottime").print_stats(18)
        pstats.Stats(profiler, stream=stream).sort_stats("cumtime").print_stats("headrace", 25)
        stream.seek(0)
        return stream.read()


def main() -> None:
    """Print both views."""
    tasks = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HEADRACE_HOME"] = f"{folder}/.headrace"
        os.environ["BENCH_STAMPS"] = f"{folder}/stamps"
        print(profile(Path(folder), tasks))
        found, interval = stages(Path(folder))
    print(f"a warm task of a chain, medians of {ROUNDS} rounds of 10:")
    for name, milliseconds in found.items():
        print(f"  {milliseconds:7.2f} ms  {name}")
    print(f"  {interval:7.2f} ms  from one task's end to the next one's")


if __name__ == "__main__":
    main()
