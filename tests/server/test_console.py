"""The frame of the console: pages, their JSON twins, their streams, problems, vendored files."""

import hashlib
import json
import re
import threading
import warnings
from pathlib import Path

import httpx
import pytest

import headrace.server.console as console
from headrace.store import events

HTML = {"accept": "text/html"}
STATIC = Path(console.__file__).with_name("static")


@pytest.fixture(scope="module")
def happened(served):
    with served.database.transaction() as connection:
        for number in range(120):
            events.append(
                connection, at=1_790_000_000.0 + number, actor="user:mary", kind="thing.done",
                subject=f"thing/{number}", reason="<script>alert(1)</script>",
            )  # fmt: skip
    return served


def test_home_is_a_page_with_a_json_twin(served):
    page = served.raw("GET", "/", headers=HTML)
    assert page.status_code == 200
    assert "What serves" in page.text
    assert served.send("GET", "/home.json") == (
        200, {"needs": [], "services": [], "active": [], "failed": []},
    )  # fmt: skip


def test_text_from_outside_is_escaped(happened):
    page = happened.raw("GET", "/events", headers=HTML)
    assert "<script>alert" not in page.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.text


def test_events_are_paged_and_filtered(happened):
    _, first = happened.send("GET", "/events.json?kind=thing.done")
    assert [event["subject"] for event in first["events"]][:2] == ["thing/119", "thing/118"]
    assert len(first["events"]) == 100
    assert first["broken"] is None
    _, second = happened.send("GET", f"/events.json?kind=thing.done&before={first['older']}")
    assert [event["subject"] for event in second["events"]][-1] == "thing/0"
    assert second["older"] is None
    _, one = happened.send("GET", "/events.json?subject=thing/7")
    assert [event["subject"] for event in one["events"]] == [
        f"thing/{n}" for n in (79, 78, 77, 76, 75, 74, 73, 72, 71, 70, 7)
    ]
    _, nobody = happened.send("GET", "/events.json?actor=user:nobody")
    assert nobody["events"] == []


def test_a_page_that_changes_says_so(happened):
    with httpx.stream("GET", f"{happened.address}/events.live", timeout=30) as stream:
        lines = stream.iter_lines()
        assert next(lines) == "event: watching"
        writer = threading.Timer(0.1, _write, (happened.database,))
        writer.start()
        assert next(line for line in lines if line.startswith("event:")) == "event: changed"
        writer.join()


def _write(database):
    with database.transaction() as connection:
        events.append(connection, at=1_790_000_500.0, actor="user:mary", kind="other.done", subject="other/1")


def test_browsers_are_told_of_problems_on_a_page_and_programs_in_json(served):
    page = served.raw("GET", "/nothing/here", headers=HTML)
    assert page.status_code == 404
    assert "There is no such page" in page.text
    status, told = served.send("GET", "/nothing/here")
    assert status == 404
    assert "error" in told


def test_a_wrong_number_in_an_address_is_told(served):
    page = served.raw("GET", "/events?before=soon", headers=HTML)
    assert page.status_code == 400
    assert "before: must be a whole number" in page.text


def test_vendored_files_are_the_listed_ones():
    listed = json.loads((STATIC / "vendor" / "PACKAGES.json").read_text())
    files = {name: digest for package in listed for name, digest in package["files"].items()}
    kept = {path.name for path in (STATIC / "vendor").iterdir()} - {"PACKAGES.json"}
    assert kept == set(files) | {package["licence_file"] for package in listed}
    for name, digest in files.items():
        assert hashlib.sha256((STATIC / "vendor" / name).read_bytes()).hexdigest() == digest
    for package in listed:
        assert re.fullmatch(r"\d+\.\d+\.\d+", package["version"])
        assert package["licence"] in ("0BSD", "MIT")


def test_no_page_holds_a_script_or_a_style_of_its_own():
    for template in Path(console.__file__).with_name("templates").glob("*.html"):
        text = template.read_text()
        assert not re.search(r"<script(?![^>]*(src=|type=\"application/json\"))", text), template.name
        assert not re.search(r"<style|\sstyle=|\son\w+=", text), template.name


def test_what_a_first_request_would_wait_for_is_made_before(served):
    made = served.app.state
    with warnings.catch_warnings():
        # MLflow and its libraries warn of each other while they are imported.
        warnings.simplefilter("ignore")
        made.warm_up()
    cached = {name for (_, name) in made.warm_up.__self__.renderer.environment.cache}
    pages = {page.template for page in made.warm_up.__self__.pages}
    assert pages <= cached
    assert served.raw("GET", "/").status_code == 200
