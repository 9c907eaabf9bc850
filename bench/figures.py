"""From samples to the figures of the table: pure functions."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import chain, pairwise
from typing import Any

from bench.peers.timed import TASKS

Sample = dict[str, Any]


def problem(samples: Sequence[Sample]) -> str:
    """Why there is no figure; "" when there is one."""
    if not samples:
        return "not measured"
    return next((sample["problem"] for sample in samples if "problem" in sample), "")


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which so many percent lie (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def intervals_ms(samples: Sequence[Sample]) -> list[float]:
    """From each task to the next one, in milliseconds, of all rounds."""
    found: list[float] = []
    for sample in samples:
        answer = sample.get("answer", {})
        if "intervals_ms" in answer:
            found += chain.from_iterable(answer["intervals_ms"])
            continue
        for stamps in answer.get("stamps", [sample.get("stamps", [])]):
            found += [(after - before) * 1000 for before, after in pairwise(stamps)]
    return found


def walls(samples: Sequence[Sample]) -> list[float]:
    """Seconds that each round took; of a run from a cold shell: from shell to exit."""
    return [wall for sample in samples for wall in sample.get("answer", {}).get("walls", [sample.get("wall", 0.0)])]


def cpus(samples: Sequence[Sample]) -> list[float]:
    """CPU seconds of each round."""
    return [cpu for sample in samples for cpu in sample.get("answer", {}).get("cpus", [sample.get("cpu", 0.0)])]


def chained(samples: Sequence[Sample]) -> dict[str, float]:
    """Milliseconds a task: between two tasks (p50, p95), the run's wall and its CPU by its number of tasks."""
    between = intervals_ms(samples)
    return {
        "p50": percentile(between, 50),
        "p95": percentile(between, 95),
        "whole": statistics.median(walls(samples)) / TASKS * 1000,
        "cpu": statistics.mean(cpus(samples)) / TASKS * 1000,
    }


def cold(samples: Sequence[Sample]) -> dict[str, float]:
    """Seconds from shell to exit."""
    return {
        "wall": statistics.median(sample["wall"] for sample in samples),
        "cpu": statistics.median(sample["cpu"] for sample in samples),
    }


def wide(samples: Sequence[Sample], tasks: int) -> dict[str, float]:
    """Tasks a second, and the peak memory (MB) of the process that orchestrates."""
    answer = samples[0].get("answer", {})
    rss = answer.get("rss_mb", samples[0]["rss_mb"])
    return {
        "rate": (tasks + 1) / statistics.median(walls(samples)),
        "cpu": statistics.mean(cpus(samples)) / (tasks + 1) * 1000,
        "rss": rss[-1] if isinstance(rss, list) else rss,
    }


def a_task_ms(samples: Sequence[Sample]) -> float:
    """The wall of a round by its number of tasks, in milliseconds."""
    return statistics.median(walls(samples)) / TASKS * 1000


def frames(samples: Sequence[Sample]) -> dict[str, float]:
    """Seconds for ten tasks that pass a table on; for Headrace also those that they read and write for, and those that
    one warm process does."""
    answer = samples[0].get("answer", {})
    found = {"wall": statistics.median(walls(samples)), "cpu": statistics.mean(cpus(samples))}
    if "files_alone" in answer:
        found["files"] = statistics.median(answer["files_in_tasks"])
        found["alone"] = statistics.median(answer["files_alone"])
        found["ten"] = statistics.median(sum(ends[-TASKS:]) for ends in answer["intervals_ms"]) / 1000
    return found
