"""Runs the tools, one after another and then again, and keeps what each run told."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench import environments
from bench.documents import compiled
from bench.environments import Environment
from bench.peers import timed
from bench.tools import Ask, Tool, environment

DAGSTER = "telemetry:\n  enabled: false\n"
Sample = dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    """How much is measured. `limit`: the seconds that one run may take."""

    repeat: int = 3
    rounds: int = 5
    wide: tuple[int, ...] = (100, 1000)
    many: tuple[int, int] = (10, 10_000)
    limit: float = 150.0


QUICK = Sizes(repeat=1, rounds=2, wide=(10,), many=(5, 20), limit=120.0)


class Bench:
    """The tools with their environments and state folders below one folder."""

    def __init__(self, folder: Path, tools: list[Tool], sizes: Sizes) -> None:
        self.folder = folder
        self.tools = tools
        self.sizes = sizes
        self.documents = compiled(folder / "documents")
        self.environments = {tool.name: _environment(tool) for tool in tools}
        for tool in tools:
            self._prepare(tool)

    def row(self, name: str) -> dict[str, Any]:
        """The samples of one row by tool (and size); a tool without a figure has {"problem": why}."""
        load, began = os.getloadavg()[0], time.time()
        samples = dict(getattr(self, name)())
        return {"date": time.strftime("%Y-%m-%d %H:%M", time.gmtime(began)), "load": load, "samples": samples}

    def chain(self) -> dict[str, list[Sample]]:
        return self._interleaved(lambda tool: self._ask(tool, "chain", timed.TASKS, self._rounds(tool)))

    def cold(self) -> dict[str, list[Sample]]:
        once = Ask("chain", timed.TASKS, once=True)
        asks = {"": once, "-py": replace(once, row="chain_py")}
        found: dict[str, list[Sample]] = defaultdict(list)
        # The first run of each makes its database and the compiled Python files, and does not count.
        for number in range(1 + self.sizes.repeat):
            for tool in self.tools:
                for suffix, ask in asks.items():
                    few = tool.slow and number > 1
                    if (suffix and tool.name != "headrace") or few or _given_up(found[tool.name + suffix]):
                        continue
                    sample = self._sample(tool, ask)
                    if number or "problem" in sample:
                        found[tool.name + suffix].append(sample)
        return found

    def wide(self) -> dict[str, list[Sample]]:
        found: dict[str, list[Sample]] = {}
        for size in self.sizes.wide:
            for tool in self.tools:
                before = found.get(f"{tool.name}@{self.sizes.wide[0]}")
                rounds = 3 if tool.name == "headrace" and size <= 100 else 1
                ask = self._ask(tool, "wide", size, rounds)
                found[f"{tool.name}@{size}"] = [self._wide(tool, ask, before)]
        return found

    def _wide(self, tool: Tool, ask: Ask, before: list[Sample] | None) -> Sample:
        """A wide run, unless the smaller one has shown that it takes too long."""
        if before is not None:
            if "problem" in before[0]:
                return before[0]
            expected = before[0]["wall"] * ask.tasks / self.sizes.wide[0]
            if expected > self.sizes.limit and tool.name != "headrace":
                return {
                    "problem": f"not tried: at its speed with {self.sizes.wide[0]} it takes {expected / 60:.0f} min"
                }
        return self._sample(tool, ask)

    def cached(self) -> dict[str, list[Sample]]:
        return self._interleaved(lambda tool: self._ask(tool, "cached", timed.TASKS, self._rounds(tool)))

    def frame(self) -> dict[str, list[Sample]]:
        return self._interleaved(
            lambda tool: self._ask(tool, "frame", timed.TASKS, min(2, self._rounds(tool))), repeat=1
        )

    def many(self) -> dict[str, list[Sample]]:
        found = {}
        for tool in self.tools:
            if tool.name == "headrace":
                for count in self.sizes.many:
                    state = self.folder / f"many-{count}"
                    found[f"headrace@{count}"] = [self._sample(tool, Ask("many", count, 4 * self.sizes.rounds), state)]
        return found

    def _ask(self, tool: Tool, row: str, tasks: int, rounds: int) -> Ask:
        return Ask(row, tasks, rounds, once=not tool.warm, warm_up=0 if tool.slow else 1)

    def _rounds(self, tool: Tool) -> int:
        return 1 if tool.slow else self.sizes.rounds

    def _interleaved(self, ask: Any, repeat: int | None = None) -> dict[str, list[Sample]]:
        """Each tool once, and then again: whatever else the machine does meets them all."""
        found: dict[str, list[Sample]] = defaultdict(list)
        for number in range(repeat or self.sizes.repeat):
            for tool in self.tools:
                if _given_up(found[tool.name]) or (tool.slow and number):
                    continue
                found[tool.name].append(self._sample(tool, ask(tool)))
        return found

    def _sample(self, tool: Tool, ask: Ask, state: Path | None = None) -> Sample:
        """One process of a tool: its wall, CPU and peak, what it told, and the stamps of its tasks."""
        if ask.row in tool.lacks:
            return {"problem": tool.lacks[ask.row]}
        known = self.environments[tool.name]
        if known.problem:
            return {"problem": known.problem}
        state = state or self.folder / tool.name
        state.mkdir(exist_ok=True)
        (state / "stamps").unlink(missing_ok=True)
        log = state / "log"
        log.write_text("")
        print(f"  {tool.name} {ask.row} {ask.tasks}{' once' if ask.once else ''}", file=sys.stderr, flush=True)
        sample = self._run(tool, ask, tool.command(str(known.python), ask, self.documents), state)
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        if sample["code"] is None:
            return {**sample, "problem": f"took longer than {self.sizes.limit:g} s"}
        if sample["code"] != 0:
            return {**sample, "problem": f"failed: {_last(lines)}"}
        told = next((line for line in lines if line.startswith(timed.ANSWER)), None)
        if told is not None:
            return {**sample, "answer": json.loads(told.removeprefix(timed.ANSWER))}
        stamps = state / "stamps"
        return {**sample, "stamps": sorted(map(float, stamps.read_text().split())) if stamps.exists() else []}

    def _run(self, tool: Tool, ask: Ask, command: list[str], state: Path) -> Sample:
        limit = str(self.sizes.limit * (8 if tool.name == "headrace" else 1))
        variables = environment(tool, ask, state, self.environments[tool.name].python)
        measure = [sys.executable, "-I", "-S", str(Path(__file__).parent / "measure.py"), limit, str(state / "log")]
        done = subprocess.run(
            [*measure, *command], cwd=state, env=variables, capture_output=True, text=True, check=True
        )
        sample: Sample = json.loads(done.stdout)
        return sample

    def _prepare(self, tool: Tool) -> None:
        """What a tool needs before its first run; it is not measured."""
        state = self.folder / tool.name
        state.mkdir(parents=True, exist_ok=True)
        if tool.peer == "dagster":
            (state / "dagster.yaml").write_text(DAGSTER)
        if tool.prepare and not self.environments[tool.name].problem:
            program, *words = tool.prepare
            command = [str(self.environments[tool.name].python.parent / program), *words]
            self._run(tool, Ask("chain", timed.TASKS), command, state)


def _environment(tool: Tool) -> Environment:
    if not tool.peer:
        import headrace

        return Environment(Path(sys.executable), headrace.__version__)
    return environments.make(tool.peer)


def _last(lines: list[str]) -> str:
    """The last line of a log, as plain text."""
    text = next((line for line in reversed(lines) if line.strip()), "")
    return re.sub(r"\x1b\[[0-9;]*m", "", text)[:200].replace("|", "/")


def _given_up(samples: Iterable[Sample]) -> bool:
    return any("problem" in sample for sample in samples)
