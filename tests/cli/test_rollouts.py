"""`headrace rollouts show`, live and line by line, and `verify`."""

import io
import os
import pty
import subprocess
import sys
import threading
import time

import pytest
from rich.console import Console

from headrace.cli import live
from headrace.contracts import rollout_document
from headrace.contracts.inference_service import InferenceService
from headrace.contracts.verdict import Outcome
from headrace.control.rollouts import judging, queries, rows
from headrace.control.rollouts.judging import Counted
from headrace.control.rollouts.request import Model, request
from headrace.quality.analysis.window import Window

DOCUMENT = """\
apiVersion: headrace.dev/v1alpha1
kind: Rollout
metadata: {name: delay}
spec:
  strategy: {canary: {steps: [{setWeight: 10}, {analysis: {}}]}}
"""


@pytest.fixture
def judged(headrace):
    """A rollout at 10 % with eight windows, the last of which shows that it is bad; `finish` ends it."""
    document = rollout_document.parse(DOCUMENT, "rollout.yaml")
    manifest = InferenceService("delay", "default", "models:/m@champion", "mlflow", "delay", (), 1, 60.0)
    with headrace.database() as database:
        made = []
        for number in (1, 2):
            rollout = request(
                database, service=manifest, rollout=document, model=Model(f"models:/m/{number}", "/m"),
                key=f"key-{number}", actor="user:ann", reason="", at=1000.0,
            )  # fmt: skip
            made.append(rollout)
            if number == 1:
                rows.finish(database, rows.rollout(database, rollout), "Healthy", at=1001.0)
        rollout = made[1]
        rows.advance(database, rows.rollout(database, rollout), weight=10, at=1002.0)
        windows = []
        for second in range(8):
            windows.append(Window(100, second, 900, 2))
            verdict = judging.analysis_verdict(document, Counted({"errors": windows}), next_weight=100)
            rows.record_windows(
                database, rows.rollout(database, rollout), counted={}, windows={"errors": windows[-1]}, verdict=verdict,
                at=1003.0 + second,
            )  # fmt: skip
        assert verdict.outcome is Outcome.FAILED

        def finish():
            with headrace.database() as database:
                rows.finish(
                    database, rows.rollout(database, rollout), "Degraded", at=1010.0, message=verdict.summary,
                    verdict=verdict,
                )  # fmt: skip

        yield rollout, finish


def test_a_rollout_is_followed_line_by_line_where_there_is_no_terminal(headrace, judged):
    rollout, finish = judged
    finish()
    done = headrace("rollouts", "show", rollout, "-w")
    assert done.returncode == 1
    assert "Degraded" in done.stdout
    assert "errors: 28 of 800 canary requests failed" in done.stdout
    assert "\x1b[" not in done.stdout
    assert headrace.json("rollouts", "show", rollout, "-w", code=1)["state"] == "Degraded"


def test_on_a_terminal_a_rollout_is_shown_live_until_it_ends(headrace, judged):
    rollout, finish = judged
    master, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "headrace.cli.main", "rollouts", "show", rollout, "-w"], cwd=headrace.folder,
        env={**os.environ, "HEADRACE_HOME": str(headrace.home), "TERM": "xterm-256color", "COLUMNS": "120"},
        stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal,
    )  # fmt: skip
    os.close(terminal)
    said = bytearray()
    reader = threading.Thread(target=_read, args=(master, said), daemon=True)
    reader.start()
    try:
        deadline = time.monotonic() + 60
        while b"judging" not in said:
            assert time.monotonic() < deadline, bytes(said)
            time.sleep(0.02)
        finish()
        assert process.wait(timeout=60) == 1
    finally:
        process.kill()
        process.wait()
        reader.join(timeout=10)
        os.close(master)
    text = said.decode()
    for words in ("delay-00001", "90 %", "delay-00002", "10 %", "errors", "28 of 800", "▁", "█", "Degraded"):
        assert words in text


def _read(master, said):
    while True:
        try:
            said += os.read(master, 4096)
        except OSError:
            return


def test_what_is_shown_has_weights_counts_evidence_and_the_verdict(headrace, judged):
    rollout, _ = judged
    with headrace.database() as database:
        found, windows = queries.rollout_json(database, rollout), queries.windows_json(database, rollout)
        assert queries.windows_json(database, rollout, newest=3) == windows[-3:]
    console = Console(file=io.StringIO(), width=140, force_terminal=False)
    console.print(live.view(found, windows))
    text = console.file.getvalue()
    evidence = windows[-1]["e_value"]
    assert f"{evidence:.3g}" in text
    assert f"{windows[-1]['limit']:.3g}" in text
    assert "28 of 800" in text
    assert "16 of 7200" in text
    assert f"failed: {found['latest_verdict']['summary'][:60]}" in text
    low, high = windows[-1]["ratio_interval"]
    assert f" {low:.3g} to {high:.3g} " in text
    shown = headrace("rollouts", "show", rollout).stdout
    assert f" {low:.3g} to {high:.3g}\n" in shown
    assert "RATIO OF RATES\n" in shown


@pytest.mark.parametrize(
    ("values", "line"),
    [([], ""), ([1.0], "▁"), ([0.0, 1.0], "▁█"), ([0.0, 0.5, 1.0, float("nan")], "▁▅█"), ([2.0, 2.0], "▁▁")],
)
def test_a_sparkline_goes_from_its_lowest_to_its_highest(values, line):
    assert live.sparkline(values) == line
    assert len(live.sparkline([float(i) for i in range(100)], width=10)) == 10


def test_verify_says_whether_the_counts_give_the_verdict(headrace, judged):
    rollout, finish = judged
    finish()
    done = headrace("rollouts", "verify", rollout)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("the same  failed (analysis, ")
    (told,) = headrace.json("rollouts", "verify", rollout)
    assert (told["same"], told["outcome"]) == (True, "failed")
    with headrace.database() as database, database.transaction() as connection:
        connection.execute("UPDATE rollout_window SET canary_x = 0")
    done = headrace("rollouts", "verify", rollout)
    assert done.returncode == 1
    assert done.stdout.startswith("OTHERWISE  failed")
    assert "now passed: errors: 0 of 800 canary requests failed" in done.stdout


def test_a_rollout_that_is_not_there_cannot_be_verified(headrace):
    headrace.refused("rollouts", "verify", "nope", says=["no rollout has the id nope"])


def test_show_tells_what_a_ready_revision_predicts_with(judged, headrace):
    rollout = judged[0]
    with headrace.database() as database, database.transaction() as connection:
        connection.execute("UPDATE revision SET message = 'predicts with ONNX' WHERE id = 'delay-00002'")
    shown = headrace("rollouts", "show", rollout)
    assert "model    predicts with ONNX\n" in shown.stdout


def test_show_tells_how_long_the_requests_of_both_arms_took(judged, headrace):
    rollout = judged[0]
    assert "LATENCY" not in headrace("rollouts", "show", rollout).stdout
    with headrace.database() as database:
        row = rows.rollout(database, rollout)
        took = {"canary": {10.0: 0, 20.0: 100}, "stable": {10.0: 900, 20.0: 900}}
        rows.record_windows(database, row, counted={}, windows={}, verdict=None, at=1011.0, took=took)
    lines = [line.split() for line in headrace("rollouts", "show", rollout).stdout.splitlines()]
    assert ["new", "100", "15.0", "ms", "19.0", "ms", "19.9", "ms"] in lines
    assert ["stable", "900", "5.0", "ms", "9.0", "ms", "9.9", "ms"] in lines
    assert headrace.json("rollouts", "show", rollout)["latency"]["stable"]["p99"] == 9.9
