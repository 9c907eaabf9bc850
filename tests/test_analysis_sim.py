"""The simulation of rollouts works, and what it finds is what the judge promises."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROGRAM = """
import json
from bench.analysis import numbers, simulate, stepped, tables
from bench.analysis.simulate import HEADRACE, QUICK, WRONG_UNIT

same, worse = simulate.run(simulate.same(QUICK), 0), simulate.run(simulate.worse(QUICK), 1)
coin = [r for r in same if not r.scenario.sticky]
sticky = [r for r in same if r.scenario.sticky]
tenfold = [
    r for r in worse if r.scenario.worse == 10 and r.scenario.rate >= 0.005 and r.scenario.per_second >= 10
]
ended = stepped.run(QUICK)
healthy = [e for e in ended if e.canary == "identical"]
hopeless = [e for e in ended if e.canary == "fails on every second request"]
found = {**tables.tables(same, worse), **numbers.tables(), **stepped.tables(ended)}
page = "".join(f"<!-- sim:{name} -->\\nstale\\n<!-- /sim:{name} -->\\n" for name in found)
print(json.dumps({
    "same": [len(coin), len(sticky)],
    "rolled back": [tables.rollbacks(coin, HEADRACE), tables.rollbacks(sticky, HEADRACE)],
    "by request": tables.rollbacks(sticky, WRONG_UNIT),
    "tenfold": [len(tenfold), tables.rollbacks(tenfold, HEADRACE)],
    "healthy by steps": [len(healthy), sum(e.failed_at is not None for e in healthy)],
    "hopeless by steps": [len(hopeless), sum(e.failed_at is not None for e in hopeless)],
    "page": tables.put(page, found),
}))
"""


@pytest.mark.slow
def test_healthy_revisions_are_rolled_back_at_most_as_often_as_alpha_allows_and_tenfold_errors_are_found():
    told = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    found = json.loads(told.stdout)
    assert found["same"] == [128, 128]
    for runs, rolled_back in zip(found["same"], found["rolled back"], strict=True):
        # Three standard deviations above alpha.
        assert rolled_back <= runs * 0.05 + 3 * (runs * 0.05 * 0.95) ** 0.5
    assert found["by request"] > found["rolled back"][1]
    runs, rolled_back = found["tenfold"]
    assert rolled_back == runs > 0
    runs, rolled_back = found["healthy by steps"]
    assert rolled_back <= runs * 0.05 + 3 * (runs * 0.05 * 0.95) ** 0.5
    runs, rolled_back = found["hopeless by steps"]
    assert rolled_back == runs > 0
    assert "stale" not in found["page"]
    assert "| **Headrace** | " in found["page"]


def test_a_page_without_the_place_for_a_table_is_refused():
    sys.path.insert(0, str(ROOT))
    try:
        from bench.analysis import tables
    finally:
        sys.path.remove(str(ROOT))
    assert tables.put("<!-- sim:a -->x<!-- /sim:a -->.", {"a": "new"}) == "<!-- sim:a -->\nnew\n<!-- /sim:a -->."
    with pytest.raises(ValueError, match="no place for the table b"):
        tables.put("<!-- sim:a --><!-- /sim:a -->", {"b": ""})


def test_the_interval_of_wilson_is_the_known_one():
    sys.path.insert(0, str(ROOT))
    try:
        from bench.analysis import tables
    finally:
        sys.path.remove(str(ROOT))
    assert tables.wilson(10, 100) == pytest.approx((0.0552, 0.1744), abs=1e-4)
    assert tables.wilson(0, 20)[0] == 0.0


PAGE = ROOT / "docs" / "statistics.md"
DOCUMENT = """
apiVersion: headrace.dev/v1alpha1
kind: Rollout
spec:
  strategy: {canary: {steps: [{setWeight: 10}, {analysis: {}}]}}
"""


def test_the_page_holds_every_table_and_its_plots():
    text = PAGE.read_text(encoding="utf-8")
    places = re.findall(r"<!-- sim:(\S+) -->\n(.*?)<!-- /sim:\1 -->", text, flags=re.S)
    assert len(places) == 13
    assert all(table.strip() for _, table in places)
    images = re.findall(r"\]\((images/\S+)\)", text)
    assert len(images) == 3
    assert all((PAGE.parent / image).exists() for image in images)


def test_a_verdict_is_recomputed_as_the_page_says(tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.S)
    monkeypatch.chdir(tmp_path)
    Path("rollout.yaml").write_text(DOCUMENT)
    rows = [
        {
            "metric": "errors",
            "canary": {"requests": 10, "events": 3, "at_risk": None},
            "stable": {"requests": 90, "events": 0, "at_risk": None},
        }
        for _ in range(4)
    ]
    Path("windows.json").write_text(json.dumps(rows))
    exec(code, {})
    assert capsys.readouterr().out.startswith("failed errors: 12 of 40 canary requests failed (30.0%)")
