import subprocess

import pytest

from headrace.contracts.project_file import Reference
from headrace.errors import DocumentError, NotFoundError, UsageError
from headrace.project import environments, load

PIPELINE = """
from kfp import dsl

@dsl.component
def add(a: int, b: int) -> int:
    return a + b

@dsl.pipeline(name="sum")
def total(a: int = 1) -> int:
    return add(a=a, b=2).output
"""


@pytest.fixture
def project(tmp_path):
    (tmp_path / "headrace.toml").write_text(
        '[project]\nname = "p"\n[pipelines.total]\nsource = "total.py"\nparameters = { a = 5 }\n'
        '[environments.prod]\nengine = "kubeflow"\n[environments.dev]\nengine = "embedded"\n'
    )
    (tmp_path / "total.py").write_text(PIPELINE)
    return load.load(tmp_path)


def test_a_pipeline_by_its_name_comes_compiled_with_its_parameters(project):
    source = load.pipeline_source(project, "total")
    assert (source.name, source.parameters) == ("total", {"a": 5})
    assert "name: sum" in source.text
    assert source.file == str(project.root / "total.py")


def test_a_pipeline_file_with_and_without_its_function(project, monkeypatch):
    monkeypatch.chdir(project.root)
    assert load.pipeline_source(None, "total.py:total").text == load.pipeline_source(None, "total.py").text


@pytest.mark.parametrize(
    ("wanted", "problem", "remedy"),
    [
        ("totl", 'no pipeline is called "totl"', 'Did you mean "total"?'),
        ("missing.py", "no such file: missing.py", "Check the path"),
        ("total.py:sum", 'no pipeline function is called "sum"', "total"),
    ],
)
def test_what_cannot_be_found_is_named_with_a_remedy(project, monkeypatch, wanted, problem, remedy):
    monkeypatch.chdir(project.root)
    with pytest.raises(UsageError) as caught:
        load.pipeline_source(project, wanted)
    assert problem in caught.value.problem
    assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "problem", "line"),
    [
        ("def broken(:\n", "syntax error", 1),
        ("x = 1\nimport nothing_like_this\n", "No module named 'nothing_like_this'", 2),
        ("x = 1\n", "the file has no pipeline", None),
    ],
)
def test_a_file_that_does_not_compile_names_the_line(tmp_path, monkeypatch, text, problem, line):
    (tmp_path / "bad.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=problem) as caught:
        load.pipeline_source(None, "bad.py")
    assert caught.value.where == str(tmp_path / "bad.py") + (f":{line}" if line else "")


def test_references_become_absolute_paths_and_the_commit(tmp_path):
    for month in ("02", "01"):
        (tmp_path / f"{month}.parquet").touch()
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    assert load.commit_of(tmp_path) == ""
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    resolved = load.resolve(
        {"months": Reference("glob", "*.parquet"), "commit": Reference("git", "commit"), "n": 3}, tmp_path
    )
    assert resolved["months"] == [str(tmp_path / "01.parquet"), str(tmp_path / "02.parquet")]
    assert len(resolved["commit"]) == 40
    assert resolved["n"] == 3
    with pytest.raises(UsageError, match=r"parameter suite: none\.json does not exist"):
        load.resolve({"suite": Reference("path", "none.json")}, tmp_path)


def test_a_folder_without_a_project(tmp_path):
    assert load.find(tmp_path) is None
    with pytest.raises(UsageError, match="no project here"):
        load.load(tmp_path)
    (tmp_path / "headrace.toml").write_text("[project\n")
    with pytest.raises(DocumentError, match="not valid TOML"):
        load.find(tmp_path)


def test_the_environment_is_dev_unless_named(project):
    assert environments.choose(None, None).engine == "embedded"
    assert environments.choose(project, None).name == "dev"
    with pytest.raises(NotFoundError, match='no environment is called "stage"'):
        environments.choose(project, "stage")
    with pytest.raises(UsageError, match='the engine "kubeflow" is not part of this version'):
        environments.choose(project, "prod")
