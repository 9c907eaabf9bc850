import subprocess

import pytest

from headrace.clock import SystemClock
from headrace.control.triggers import push
from headrace.errors import UsageError
from headrace.store import events
from headrace.store.database import Database
from headrace.store.migrations import migrate


class RecordingLauncher:
    """Stands in for a project: what matters here is which pushes start which pipelines."""

    def __init__(self, watching):
        self.globs = watching
        self.launched = []

    def checkout(self, repository, commit):
        return repository / commit

    def watching(self, checkout):
        return self.globs

    def launch(self, checkout, pipeline, *, commit, actor, reason):
        self.launched.append((pipeline, commit, reason))
        return f"run-of-{pipeline}"


@pytest.fixture
def database(tmp_path):
    database = Database(tmp_path / "headrace.db")
    migrate(database, ["headrace.store", "headrace.control"])
    yield database
    database.close()


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "repository"
    subprocess.run(["git", "init", "-q", "-b", "main", folder], check=True)
    return folder


def _commit(repository, path, message):
    (repository / path).parent.mkdir(parents=True, exist_ok=True)
    (repository / path).write_text(message)
    git = ["git", "-C", str(repository), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", message], check=True)
    return subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()


def _receive(database, repository, before, after, ref="refs/heads/main"):
    return push.receive(database, repository=repository, ref=ref, before=before, after=after, actor="user:ann", at=1.0)


def test_a_push_starts_the_pipelines_that_watch_what_changed_and_only_once(database, repository):
    first = _commit(repository, "data/01.parquet", "Add January")
    second = _commit(repository, "docs/readme.md", "Explain")
    launcher = RecordingLauncher({"retrain": ["data/**"], "publish": ["docs/*.md"]})
    trigger = push.PushTrigger(database, SystemClock(), launcher)

    number = _receive(database, repository, "0" * 40, first)
    assert trigger.handle_new() == ["run-of-retrain"]
    assert launcher.launched == [("retrain", first, f"push {number}, {first[:8]}: Add January")]

    _receive(database, repository, first, second)
    assert trigger.handle_new() == ["run-of-publish"]
    assert trigger.handle_new() == []


def test_pushes_of_other_branches_start_nothing(database, repository):
    commit = _commit(repository, "data/01.parquet", "Add January")
    launcher = RecordingLauncher({"retrain": ["**"]})
    _receive(database, repository, "0" * 40, commit, ref="refs/heads/try")
    assert push.PushTrigger(database, SystemClock(), launcher).handle_new() == []


def test_a_commit_that_cannot_run_is_told_and_does_not_block_the_next(database, repository):
    class Refusing(RecordingLauncher):
        def watching(self, checkout):
            if not self.launched and not getattr(self, "refused", False):
                self.refused = True
                raise UsageError("headrace.toml is broken")
            return self.globs

    first = _commit(repository, "data/01", "Break")
    second = _commit(repository, "data/02", "Mend")
    _receive(database, repository, "0" * 40, first)
    _receive(database, repository, first, second)
    assert push.PushTrigger(database, SystemClock(), Refusing({"retrain": ["data/*"]})).handle_new() == [
        "run-of-retrain"
    ]
    failed = events.read(database, kinds=["push.failed"])
    assert [(e.reason, e.data["after"]) for e in failed] == [("headrace.toml is broken", first)]


def test_a_push_of_a_commit_that_is_not_there_is_refused(database, repository):
    with pytest.raises(UsageError, match="git cat-file failed"):
        _receive(database, repository, "0" * 40, "1" * 40)
    assert events.read(database) == []


@pytest.mark.parametrize(
    ("path", "glob", "expected"),
    [
        ("data/a.parquet", "data/**", True),
        ("data/2013/a.parquet", "data/**", True),
        ("data/2013/a.parquet", "data/*", False),
        ("data/a.parquet", "**/*.parquet", True),
        ("a.parquet", "**/*.parquet", True),
        ("mydata/a", "data/**", False),
        ("data+1", "data+?", True),
        ("dataa1", "data+?", False),
    ],
)
def test_globs(path, glob, expected):
    assert push.matches(path, glob) is expected
