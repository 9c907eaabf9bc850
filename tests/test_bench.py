"""The benchmark works and its tables render; how quick anything is, is not for tests to say."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_rows_of_headrace_are_measured_and_written_between_the_markers(tmp_path):
    page = tmp_path / "benchmarks.md"
    page.write_text("# Figures\n\n<!-- bench:start -->\nstale\n<!-- bench:end -->\n\nWhat follows stays.\n")
    results = tmp_path / "results.json"
    subprocess.run(
        [
            sys.executable, "-m", "bench", "--quick", "--tools", "headrace", "--only", "chain,wide,cached,many",
            "--results", str(results), "--page", str(page),
        ],
        cwd=ROOT, env={**os.environ, "TMPDIR": str(tmp_path)}, check=True, capture_output=True,
    )  # fmt: skip
    text = page.read_text()
    assert "stale" not in text
    assert text.startswith("# Figures\n")
    assert text.endswith("What follows stays.\n")
    assert "| a warm task: p50 ≤ 8 ms |" in text
    assert "failed" not in text
    assert set(json.loads(results.read_text())["rows"]) == {"chain", "wide", "cached", "many"}


def test_a_tool_that_does_not_install_is_listed_with_the_reason():
    sys.path.insert(0, str(ROOT))
    try:
        from bench import report
    finally:
        sys.path.remove(str(ROOT))
    sample = {"wall": 1.0, "cpu": 0.5, "code": 0, "rss_mb": 10.0}
    row = {
        "date": "2026-11-25 12:00", "load": 0.1,
        "samples": {"headrace": [sample], "prefect": [{"problem": "does not install: no such version"}]},
    }  # fmt: skip
    text = report.render({"machine": "a machine", "versions": {"headrace": "1"}, "rows": {"cold": row}})
    assert "| Prefect (not isolated) | does not install: no such version |  |  |  |" in text
    assert "| Headrace | 1.00 | 0.50 | 1× | 1× |" in text
