"""`python -m bench`: measure Headrace beside its peers and write docs/benchmarks.md."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import report
from bench.measurements import QUICK, Bench, Sizes
from bench.tools import ROOT, ROWS, chosen


def main() -> None:
    """Rows that are not measured now keep the results that the file of results holds."""
    parser = argparse.ArgumentParser(prog="make bench-runs", description=__doc__)
    parser.add_argument("--only", default="", help=f"rows, with commas between them: {', '.join(ROWS)}")
    parser.add_argument("--tools", default="", help="tools, with commas between them (default: all)")
    parser.add_argument("--repeat", type=int, help="how many times each tool is started for a row")
    parser.add_argument("--quick", action="store_true", help="small sizes: to see that it works")
    parser.add_argument("--results", type=Path, help="where the raw results are kept")
    parser.add_argument("--page", type=Path, help="the page that the tables are written to")
    parser.add_argument("--render", action="store_true", help="measure nothing, write the tables")
    asked = parser.parse_args()
    sizes = QUICK if asked.quick else Sizes()
    if asked.repeat:
        sizes = replace(sizes, repeat=asked.repeat)
    # A part of it is not what the page is about, unless it is asked for.
    page = asked.page or (None if asked.quick else ROOT / "docs" / "benchmarks.md")
    file = asked.results or ROOT / "bench" / "results" / ("quick.json" if asked.quick else "runs.json")
    results = json.loads(file.read_text()) if file.exists() else {"versions": {}, "rows": {}}
    if not asked.render:
        measure(results, sizes, asked.only, asked.tools, file)
    if page:
        report.write(page, results)
    print(report.render(results))


def measure(results: dict[str, Any], sizes: Sizes, only: str, tools: str, file: Path) -> None:
    """Measure rows, and keep what was measured after each."""
    rows = [row for row in only.split(",") if row] or list(ROWS)
    if unknown := set(rows) - set(ROWS):
        sys.exit(f"no row is called {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    folder = Path(tempfile.mkdtemp(prefix="headrace-bench-"))
    try:
        bench = Bench(folder, chosen(tools), sizes)
        results["machine"] = machine()
        results["versions"] |= {
            tool.peer or tool.name: bench.environments[tool.name].version
            for tool in bench.tools
            if not bench.environments[tool.name].problem
        }
        for row in rows:
            print(row, file=sys.stderr, flush=True)
            found = bench.row(row)
            # Tools that are not measured now keep what was measured before.
            found["samples"] = results["rows"].get(row, {"samples": {}})["samples"] | found["samples"]
            results["rows"][row] = found
            file.write_text(json.dumps(results, indent=1) + "\n")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def machine() -> str:
    """What it was measured on."""
    model = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        named = (line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line)
        model = next(named, model)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    system = f"{platform.system()} {platform.release().partition('-')[0]}"
    return f"{os.cpu_count()} cores ({model}), {memory:.0f} GB, {system}, Python {platform.python_version()}"


if __name__ == "__main__":
    main()
