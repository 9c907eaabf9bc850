import os

import pytest

from headrace.errors import UsageError
from headrace.store.home import Home


def test_the_home_stands_beside_the_nearest_project_file(tmp_path, monkeypatch):
    monkeypatch.delenv("HEADRACE_HOME", raising=False)
    (tmp_path / "headrace.toml").touch()
    deep = tmp_path / "pipelines" / "old"
    deep.mkdir(parents=True)
    assert Home.locate(deep).path == tmp_path / ".headrace"


def test_headrace_home_moves_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "elsewhere"))
    assert Home.locate(tmp_path).path == tmp_path / "elsewhere"


def test_a_home_that_cannot_be_made_names_the_path_and_the_remedy(tmp_path):
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(UsageError, match="the state folder cannot be written") as caught:
        Home(blocked / "home").create()
    assert "HEADRACE_HOME" in caught.value.remedy
    assert caught.value.exit_code == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_home_is_refused(tmp_path):
    Home(tmp_path / "home").create()
    (tmp_path / "home").chmod(0o500)
    with pytest.raises(UsageError, match="permission denied"):
        Home(tmp_path / "home").create()
