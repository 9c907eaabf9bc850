import pytest

from headrace.project.wiring import open_database
from headrace.runs import browse
from headrace.runs.browse import Wanted
from headrace.store.home import Home


@pytest.fixture
def database(tmp_path):
    database = open_database(Home(tmp_path))
    yield database
    database.close()


def add(database, run_id, at, state="SUCCEEDED", pipeline="often"):
    with database.transaction() as connection:
        connection.execute(
            "INSERT INTO run (id, pipeline, name, document, file, parameters, environment, actor, reason, source_dir,"
            " commit_sha, caching, state, created_at) VALUES (?, ?, ?, '', '', '{}', 'dev', 'a', 'b', '', '', 1, ?, ?)",
            (run_id, pipeline, run_id, state, at),
        )


def ids(runs):
    return [run["run_id"] for run in runs]


def test_a_pipeline_that_runs_seldom_is_not_hidden_by_one_that_runs_often(database):
    add(database, "seldom-good", 1.0, pipeline="seldom")
    add(database, "seldom-bad", 2.0, "FAILED", pipeline="seldom")
    for number in range(100):
        add(database, f"often-{number}", 3.0 + number)
    add(database, "often-now", 200.0, "RUNNING")
    assert sorted(ids(browse.ended_last(database))) == ["often-99", "seldom-bad"]


def test_runs_of_one_moment_are_on_one_page_each(database):
    for number in range(5):
        add(database, f"run-{number}", 7.0)
    first = browse.newest(database, Wanted(), limit=3)
    second = browse.newest(database, Wanted(before=first.older), limit=3)
    assert ids(first.runs + second.runs) == ["run-4", "run-3", "run-2", "run-1", "run-0"]
    assert second.older == ""
