"""`python -m bench.analysis`: simulate rollouts, and write the tables and plots of docs/statistics.md."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.analysis import numbers, plots, simulate, stepped, tables

ROOT = Path(__file__).parents[2]


def main() -> None:
    """With --quick, fewer rollouts, and nothing is written unless it is said where."""
    parser = argparse.ArgumentParser(prog="make analysis-sim", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rollouts: to see that it works")
    parser.add_argument("--page", type=Path, help="the page with the markers that the tables are written between")
    parser.add_argument("--images", type=Path, help="the folder that the plots are written to")
    asked = parser.parse_args()
    sizes = simulate.QUICK if asked.quick else simulate.Sizes()
    page = asked.page or (None if asked.quick else ROOT / "docs" / "statistics.md")
    images = asked.images or (None if asked.quick else ROOT / "docs" / "images")
    same, worse = simulate.run(simulate.same(sizes), 0), simulate.run(simulate.worse(sizes), 1)
    found = {"conditions": tables.conditions(sizes), **tables.tables(same, worse), **numbers.tables()}
    found |= stepped.tables(stepped.run(sizes))
    if page:
        page.write_text(tables.put(page.read_text(encoding="utf-8"), found), encoding="utf-8")
    if images:
        count = 2 if asked.quick else 8
        paths = {
            times: simulate.paths(times, count if times == 1.0 else count // 2) for times in (1.0, *simulate.WORSE)
        }
        plots.draw(images, same, worse, paths)
    for name, table in found.items():
        print(f"{name}\n\n{table}\n")


if __name__ == "__main__":
    main()
