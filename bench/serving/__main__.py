"""`python -m bench.serving`: measure model servers and write their part of docs/benchmarks.md."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.__main__ import machine
from bench.serving import report
from bench.serving.measurements import ROWS, Bench, Sizes
from bench.serving.tools import chosen

ROOT = Path(__file__).parents[2]


def main() -> None:
    """What is not measured now keeps the results that the file of results holds."""
    parser = argparse.ArgumentParser(prog="make bench-serving", description=__doc__)
    parser.add_argument("--only", default="", help=f"rows, with commas between them: {', '.join(ROWS)}")
    parser.add_argument("--tools", default="", help="tools, with commas between them (default: all)")
    parser.add_argument("--models", default="iris,flights")
    parser.add_argument("--seconds", type=float, help="how long each load goes on (5)")
    parser.add_argument("--repeat", type=int, help="how many times; the median counts (3)")
    parser.add_argument("--quick", action="store_true", help="a second each, once: to see that it works")
    parser.add_argument("--results", type=Path, help="where the raw results are kept")
    parser.add_argument("--page", type=Path, help="the page that the tables are written to")
    parser.add_argument("--render", action="store_true", help="measure nothing, write the tables")
    asked = parser.parse_args()
    sizes = Sizes(1.0, 1) if asked.quick else Sizes()
    sizes = replace(sizes, seconds=asked.seconds or sizes.seconds, repeat=asked.repeat or sizes.repeat)
    page = asked.page or (None if asked.quick else ROOT / "docs" / "benchmarks.md")
    file = asked.results or ROOT / "bench" / "results" / ("serving-quick.json" if asked.quick else "serving.json")
    results: dict[str, Any] = {"versions": {}, "tools": {}, "faster": {}}
    if file.exists():
        results = json.loads(file.read_text())
    if not asked.render:
        rows = [row for row in asked.only.split(",") if row] or list(ROWS)
        if unknown := set(rows) - set(ROWS):
            sys.exit(f"no row is called {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
        measure(results, sizes, rows, asked.tools, asked.models.split(","), file)
    if page:
        report.write(page, results)
    print(report.render(results))


def measure(
    results: dict[str, Any], sizes: Sizes, rows: list[str], tools: str, models: list[str], file: Path
) -> None:  # fmt: skip
    """Measure, and keep what was measured after each server."""
    file.parent.mkdir(parents=True, exist_ok=True)
    results |= {
        "machine": machine(),
        "load": os.getloadavg()[0],
        "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
    }
    folder = Path(tempfile.mkdtemp(prefix="headrace-bench-"))
    try:
        bench = Bench(folder, chosen(tools), sizes)
        results["faster"] = {
            name: ("kept, " if outcome.kept else "none, ") + outcome.why for name, outcome in bench.faster.items()
        }
        for tool in bench.tools:
            environment = bench.environments[tool.name]
            if tool.peer and not environment.problem:
                results["versions"][tool.peer.removeprefix("serving-")] = environment.version
            for model in (name for name in models if name in tool.models):
                print(tool.name, model, file=sys.stderr, flush=True)
                found = bench.measure(tool, model, rows)
                kept = results["tools"].setdefault(tool.name, {}).get(model, {})
                if "cases" in found:
                    found["cases"] = kept.get("cases", {}) | found["cases"]
                results["tools"][tool.name][model] = found
                file.write_text(json.dumps(results, indent=1) + "\n")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
