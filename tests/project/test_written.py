import os

import pytest

from headrace.errors import NotFoundError
from headrace.project import load
from headrace.project.written import Sources

PROJECT = """
[project]
name = "small"
[pipelines.one]
source = "one.yaml"
[pipelines.two]
source = "two.py:two"
"""


@pytest.fixture
def sources(tmp_path):
    (tmp_path / "headrace.toml").write_text(PROJECT)
    (tmp_path / "one.yaml").write_text("a: 1")
    return Sources(load.load(tmp_path))


def test_a_document_is_read_again_when_its_file_has_changed(sources):
    file = sources.project.root / "one.yaml"
    assert sources.kept("one") is None
    assert sources.read("one").document == "a: 1"
    assert sources.kept("one").document == "a: 1"
    file.write_text("a: 22")
    os.utime(file, (5, 5))
    assert sources.kept("one") is None
    assert sources.read("one").document == "a: 22"
    assert sources.changed_at("one") == 5.0


def test_a_source_that_is_not_there_says_so_until_it_is(sources):
    assert sources.is_python("two")
    assert not sources.is_python("one")
    told = sources.read("two")
    assert (told.document, told.problem.endswith("no such file: two.py")) == ("", True)
    (sources.project.root / "two.py").write_text("x =")
    assert "syntax error" in sources.read("two").problem


def test_an_unknown_pipeline_is_not_found(sources):
    with pytest.raises(NotFoundError):
        sources.kept("three")
