"""The page of a lineage, its JSON twin, and the same over the API."""

import re

import pytest
from kfp import compiler, dsl

from headrace.components import PYTHON_IMAGE

HTML = {"accept": "text/html"}


@dsl.component(base_image=PYTHON_IMAGE)
def copy(rows: dsl.Input[dsl.Dataset], copied: dsl.Output[dsl.Dataset]):
    import shutil

    shutil.copyfile(rows.path, copied.path)


@dsl.pipeline(name="copies")
def copies(rows: str):
    copy(rows=dsl.importer(artifact_uri=rows, artifact_class=dsl.Dataset).output)


@pytest.fixture(scope="module")
def dataset(served, tmp_path_factory):
    """A file that a run has copied; its name is one that must not be taken for markup."""
    folder = tmp_path_factory.mktemp("data")
    rows = folder / "<b>rows & more.csv"
    rows.write_text("1\n")
    document = folder / "copies.yaml"
    compiler.Compiler().compile(copies, str(document))
    run = served.client().create_run_from_pipeline_package(str(document), arguments={"rows": str(rows)})
    served.drive(run.run_id)
    return f"dataset:{rows}", run.run_id


def test_a_page_without_a_start_names_some_that_exist(served, dataset):
    start, run = dataset
    page = served.raw("GET", "/lineage", headers=HTML)
    assert page.status_code == 200
    assert f"run:{run}" in page.text
    _, told = served.send("GET", "/lineage.json")
    assert told["examples"] == [f"run:{run}", start]


def test_the_page_has_the_graph_as_data_and_as_a_list(served, dataset):
    start, run = dataset
    page = served.raw("GET", "/lineage", params={"start": start, "direction": "down"}, headers=HTML)
    assert page.status_code == 200
    assert "<b>rows" not in page.text
    assert "&lt;b&gt;rows &amp; more.csv" in page.text
    assert re.search(r'<script type="application/json" id="lineage-data">.*task:' + run, page.text)
    assert "What came of it" in page.text
    assert "What it came from" not in page.text.partition("<h2>")[2]
    _, told = served.send("GET", "/lineage.json", params={"start": start, "direction": "down"})
    assert [line["node"]["kind"] for line in told["trees"]["down"]] == ["dataset", "artifact", "task", "artifact"]


def test_the_api_gives_the_same(served, dataset):
    start, _ = dataset
    given = {"start": start, "direction": "down"}
    status, told = served.send("GET", "/apis/headrace/v1/lineage", params=given)
    assert (status, told["start"], told["direction"]) == (200, start, "down")
    assert told == served.send("GET", "/lineage.json", params=given)[1]["found"]


def test_what_is_not_there_is_told_on_the_page_and_refused_by_the_api(served, dataset):
    page = served.raw("GET", "/lineage?start=run:none", headers=HTML)
    assert "no run has the id none" in page.text
    assert "Starts that exist here" in page.text
    assert served.send("GET", "/apis/headrace/v1/lineage?start=run:none")[0] == 404
    assert served.send("GET", "/apis/headrace/v1/lineage?start=x")[0] == 400
    assert served.send("GET", "/apis/headrace/v1/lineage")[0] == 400
    status, told = served.send("GET", "/apis/headrace/v1/lineage?start=run:none&direction=left")
    assert (status, told["error"]) == (400, "direction: 'left' is no direction")
