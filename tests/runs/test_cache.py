"""A task is not done again while nothing that its result depends on has changed."""

from functools import partial
from pathlib import Path

import pytest
from kfp import dsl

component = partial(dsl.component, base_image="python:3.12")


@component
def clean(raw: dsl.Input[dsl.Dataset], journal: str, table: dsl.Output[dsl.Dataset], drop: str = "#") -> int:
    from pathlib import Path

    lines = [line for line in Path(raw.path).read_text().splitlines() if not line.startswith(drop)]
    Path(table.path).write_text("\n".join(lines))
    table.metadata["lines"] = len(lines)
    with Path(journal).open("a") as stream:
        stream.write("clean\n")
    return len(lines)


@component
def count(table: dsl.Input[dsl.Dataset], journal: str) -> int:
    from pathlib import Path

    with Path(journal).open("a") as stream:
        stream.write("count\n")
    return len(Path(table.path).read_text())


@dsl.pipeline
def counting(file: str, journal: str, drop: str = "#") -> int:
    raw = dsl.importer(artifact_uri=file, artifact_class=dsl.Dataset)
    cleaned = clean(raw=raw.output, journal=journal, drop=drop)
    return count(table=cleaned.outputs["table"], journal=journal).output


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "raw.txt"
    file.write_text("# head\nabc\n")
    return file


@pytest.fixture
def counted(run, tmp_path, file):
    """Runs the pipeline and tells its output, and which tasks were really done."""
    journal = tmp_path / "journal"

    def once(**more):
        journal.write_text("")
        result = run(counting, **{"file": str(file), "journal": str(journal), **more})
        assert result.state == "SUCCEEDED", result.error
        done = journal.read_text().split()
        cached = sorted(name for name, task in result.tasks.items() if task["cached"])
        assert cached == sorted({"clean", "count"} - set(done))
        return result.outputs["Output"], done

    return once


def test_what_has_not_changed_is_not_done_again(counted):
    assert counted() == (3, ["clean", "count"])
    assert counted() == (3, [])


def test_a_file_that_has_changed_is_read_again(counted, file):
    counted()
    file.write_text("# head\nabcd\n")
    assert counted() == (4, ["clean", "count"])


def test_a_file_with_the_same_content_elsewhere_is_the_same(counted, file, tmp_path):
    counted()
    moved = tmp_path / "moved.txt"
    file.rename(moved)
    assert counted(file=str(moved)) == (3, [])


def test_what_comes_out_the_same_stops_the_change_there(counted, file):
    counted()
    file.write_text("# another head\nabc\n")
    assert counted() == (3, ["clean"])


def test_another_parameter_is_another_task(counted):
    counted()
    assert counted(drop="a") == (6, ["clean", "count"])


def test_a_cached_task_gives_its_artifacts_with_their_metadata(run, file, tmp_path, database):
    for _ in range(2):
        result = run(counting, file=str(file), journal=str(tmp_path / "journal"))
    kept = database.query("SELECT * FROM artifact WHERE run_id = ? AND path = 'clean'", (result.run_id,))
    assert [(row["name"], row["metadata"]) for row in kept] == [("table", '{"lines": 1}')]
    assert Path(kept[0]["uri"]).read_text() == "abc"
    assert database.query("SELECT * FROM attempt WHERE run_id = ?", (result.run_id,)) == []


def test_a_run_may_be_told_to_do_everything_anew(counted):
    counted()
    assert counted(caching=False) == (3, ["clean", "count"])


def test_a_result_whose_files_are_gone_is_made_anew(counted, database):
    counted()
    for row in database.query("SELECT uri FROM artifact WHERE path = 'clean'"):
        Path(row["uri"]).unlink()
    assert counted() == (3, ["clean"])


def test_a_task_that_failed_is_not_remembered(run, tmp_path):
    for _ in range(2):
        result = run(needing, place=str(tmp_path / "there"))
        assert result.state == "FAILED"
    (tmp_path / "there").touch()
    assert run(needing, place=str(tmp_path / "there")).state == "SUCCEEDED"


@component
def need(place: str) -> bool:
    from pathlib import Path

    return Path(place).stat().st_size == 0


@dsl.pipeline
def needing(place: str):
    need(place=place)


@component
def fresh(journal: str) -> str:
    from pathlib import Path

    with Path(journal).open("a") as stream:
        stream.write("fresh\n")
    return "fresh"


@dsl.pipeline
def never_cached(journal: str):
    fresh(journal=journal).set_caching_options(False)


def test_a_task_whose_author_wants_no_cache_is_always_done(run, tmp_path):
    for _ in range(2):
        run(never_cached, journal=str(tmp_path / "journal"))
    assert (tmp_path / "journal").read_text() == "fresh\nfresh\n"


@component
def remote(model: dsl.Output[dsl.Model]):
    model.uri = "s3://bucket/model"


@component
def use(model: dsl.Input[dsl.Model], journal: str):
    from pathlib import Path

    with Path(journal).open("a") as stream:
        stream.write(f"{model.uri}\n")


@dsl.pipeline
def elsewhere(journal: str):
    use(model=remote().outputs["model"], journal=journal)


def test_nothing_is_assumed_of_an_artifact_that_is_not_on_this_machine(run, tmp_path):
    for _ in range(2):
        assert run(elsewhere, journal=str(tmp_path / "journal")).state == "SUCCEEDED"
    assert (tmp_path / "journal").read_text() == "s3://bucket/model\n" * 2
