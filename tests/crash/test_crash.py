"""A short form of the suite; and each of its checks finds what it is there to find."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from crash import checks, ledger, pipelines

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process adopt orphans")
TESTS = Path(__file__).parents[1]


@pytest.mark.slow
def test_some_kills_lose_and_repeat_nothing():
    command = [sys.executable, "-m", "crash", "--kills", "6", "--seed", "6"]
    path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stdout + done.stderr
    kills = re.search(r"(\d+) kills in \d+ runs and \d+ s; nothing lost, repeated, torn or left behind", done.stdout)
    assert kills is not None, done.stdout
    assert int(kills[1]) >= 6


@pytest.fixture(scope="module")
def texts():
    return pipelines.documents()


@pytest.fixture
def ended(runner, texts, tmp_path, monkeypatch):
    """A run that has ended well, with nothing wrong about it; the checks see its tables and its ledger."""
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    run = runner.run(texts["cached"], {"ledger": str(tmp_path / "ledger"), "fresh": "1"})
    assert run.state == "SUCCEEDED", run.error
    return Ended(runner.database, run.run_id, tmp_path / "ledger")


class Ended:
    def __init__(self, database, run, folder):
        self.database = database
        self.run = run
        self.folder = folder

    def lines(self):
        return ledger.lines(self.folder, self.run)

    def ran_twice(self, lines=None, killed=()):
        return checks.ran_twice(self.database, self.run, self.lines() if lines is None else lines, killed)

    def change(self, sql, *parameters):
        with self.database.transaction() as connection:
            assert connection.execute(sql, parameters).rowcount


def test_a_run_without_kills_has_no_problem(ended):
    assert len(ended.lines()) == 8
    assert ended.ran_twice() == checks.torn(ended.database, ended.run) == checks.damaged(ended.database) == []
    found = checks.ending(ended.database, ended.run)
    assert checks.ended_otherwise(found, found) == []


def test_it_finds_a_task_that_was_begun_again_in_the_same_attempt(ended):
    begun = next(line for line in ended.lines() if (line.path, line.what) == ("write", "begun"))
    (problem,) = ended.ran_twice([*ended.lines(), replace(begun, pid=1)])
    assert problem == "attempt 1 of write has begun 2 times"


def test_it_finds_a_task_that_ran_again_after_its_commit(ended):
    begun = next(line for line in ended.lines() if (line.path, line.what) == ("write", "begun"))
    problems = ended.ran_twice([*ended.lines(), replace(begun, attempt=2)])
    assert "attempt 1 of write was committed, and the task ran again" in problems
    assert "attempt 2 of write ran, and no table knows of it" in problems


def test_it_finds_a_success_that_never_came_to_its_end(ended):
    (problem,) = ended.ran_twice([line for line in ended.lines() if (line.path, line.what) != ("read", "ended")])
    assert problem == "attempt 1 of read is said to have succeeded, and did not come to its end"


def test_it_finds_a_failure_that_no_kill_explains(ended):
    ended.change("UPDATE attempt SET state = 'FAILED', message = 'ValueError: it is torn' WHERE path = 'read-2'")
    assert "attempt 1 of read-2 failed: ValueError: it is torn" in ended.ran_twice()


def test_it_finds_work_that_was_given_up_though_nobody_had_killed_it(ended):
    ended.change("UPDATE attempt SET state = 'LOST' WHERE path = 'read-2'")
    pid = next(line.pid for line in ended.lines() if line.path == "read-2")
    given_up = "attempt 1 of read-2 was given up, and nobody had killed it"
    assert given_up in ended.ran_twice()
    assert given_up not in ended.ran_twice(killed={pid})


def test_it_finds_attempts_that_are_open_or_succeeded_twice(ended):
    ended.change(
        "INSERT INTO attempt SELECT run_id, path, 2, 'RUNNING', directory, pid, process_created, message, started_at,"
        " finished_at FROM attempt WHERE path = 'write'"
    )
    assert "attempt 2 of write is still open" in ended.ran_twice()
    ended.change("UPDATE attempt SET state = 'SUCCEEDED' WHERE number = 2")
    assert "write succeeded in attempts [1, 2] of [(1, 'SUCCEEDED'), (2, 'SUCCEEDED')]" in ended.ran_twice()


def test_it_finds_a_cached_task_that_ran(ended):
    ended.change("UPDATE task SET cached = 1 WHERE path = 'read'")
    assert ended.ran_twice() == ["read came from the cache and ran nevertheless"]


@pytest.mark.parametrize("name", ["data", "tree"])
def test_it_finds_a_torn_artifact(ended, name):
    row = ended.database.one("SELECT uri FROM artifact WHERE path = 'write' AND name = ?", (name,))
    file = Path(row["uri"])
    file = file / "part-3" if file.is_dir() else file
    file.write_bytes(file.read_bytes()[:-1])
    (problem,) = checks.torn(ended.database, ended.run)
    assert problem.startswith(f"artifact {name} of write is not what was recorded")
    file.unlink()
    assert len(checks.torn(ended.database, ended.run)) == 1


def test_it_finds_another_ending(ended):
    expected = checks.ending(ended.database, ended.run)
    ended.change("UPDATE task SET state = 'FAILED' WHERE path = 'read-2'")
    ended.change("UPDATE run SET outputs = ?", json.dumps({"parameters": {"Output": "other"}, "artifacts": {}}))
    problems = checks.ended_otherwise(expected, checks.ending(ended.database, ended.run))
    assert [problem.split()[0] for problem in problems] == ["ended", "task"]


def test_it_finds_damage(ended):
    with ended.database.transaction() as connection:
        connection.execute("DROP TRIGGER event_is_never_changed")
    ended.change("UPDATE event SET reason = 'another' WHERE seq = 3")
    assert checks.damaged(ended.database) == ["the event log is broken at line 3"]


def test_it_finds_a_run_that_was_taken_over_late_or_never(ended):
    started = ended.database.one("SELECT at FROM event WHERE kind = 'run.started'")["at"]
    assert checks.resumed_late(ended.database, ended.run, killed=started - 9, ready=started - 4)[1] == []
    late = checks.resumed_late(ended.database, ended.run, killed=started - 9, ready=started - 6)[1]
    assert late == [f"run {ended.run} was taken over 6.0 s after the server was ready"]
    never = checks.resumed_late(ended.database, ended.run, killed=started + 1, ready=started + 1)[1]
    assert never == [f"run {ended.run} was not taken over"]


LEAVES = """
import random, subprocess, sys
from pathlib import Path
from crash.stage import Stage, adopt_orphans, until
adopt_orphans()
stage = Stage(Path(sys.argv[1]), random.Random(1))
assert stage.strangers() == []
subprocess.run(["sh", "-c", "setsid sleep 60 >/dev/null 2>&1 & exit 0"])
until(lambda: [one for one in stage.strangers() if one.endswith("sleep 60")], "the daemon is found")
print(stage.strangers())
stage.close()
print(stage.descendants())
"""


def test_it_finds_a_process_that_was_left_behind(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-c", LEAVES, str(tmp_path)], env=environment, capture_output=True, text=True, check=False,
        timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found, after = done.stdout.splitlines()
    assert "sleep 60" in found
    assert after == "[]"
