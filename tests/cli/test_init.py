import subprocess

from click.testing import CliRunner

from headrace.cli.main import cli
from headrace.errors import UsageError
from headrace.project import load
from headrace.project.wiring import open_database
from headrace.store import events
from headrace.store.home import Home


def _git(folder, *arguments):
    return subprocess.run(
        ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *arguments],
        capture_output=True, text=True, check=True,
    )  # fmt: skip


def test_a_new_project_is_committed_and_names_the_next_step(tmp_path):
    done = CliRunner().invoke(cli, ["init", str(tmp_path / "new")])
    assert done.exit_code == 0
    assert "headrace run hello" in done.output
    assert load.load(tmp_path / "new").file.pipelines["hello"].push == ("pipelines/**",)
    assert _git(tmp_path / "new", "status", "--porcelain").stdout == ""
    assert _git(tmp_path / "new", "log", "--format=%s").stdout == "Start the project\n"


def test_a_push_to_the_remote_lands_in_the_event_log(tmp_path, monkeypatch):
    monkeypatch.delenv("HEADRACE_HOME", raising=False)
    project = tmp_path / "new"
    assert CliRunner().invoke(cli, ["init", str(project), "--remote", str(tmp_path / "r.git")]).exit_code == 0
    said = _git(project, "push", "origin", "main").stderr
    assert "headrace: took refs/heads/main" in said
    database = open_database(Home(project / ".headrace"))
    (event,) = events.read(database, kinds=["push.received"])
    database.close()
    assert event.data["repository"] == str(tmp_path / "r.git")
    assert event.data["before"] == "0" * 40


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    done = CliRunner().invoke(cli, ["init", str(tmp_path)])
    assert isinstance(done.exception, UsageError)
    assert "is not an empty folder" in str(done.exception)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_somebody_elses_hook_is_not_overwritten(tmp_path):
    project, bare = tmp_path / "new", tmp_path / "r.git"
    subprocess.run(["git", "init", "-q", "--bare", bare], check=True)
    (bare / "hooks" / "post-receive").write_text("#!/bin/sh\necho theirs\n")
    done = CliRunner().invoke(cli, ["init", str(project), "--remote", str(bare)])
    assert isinstance(done.exception, UsageError)
    assert "another post-receive hook" in str(done.exception)
    assert (bare / "hooks" / "post-receive").read_text() == "#!/bin/sh\necho theirs\n"
