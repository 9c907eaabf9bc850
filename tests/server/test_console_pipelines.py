"""The pipelines of a project in the console: what a person types, what is looked up, what is refused and kept."""

import html
import os
import re
from datetime import datetime

import httpx
import pytest

from headrace.governance import tokens
from headrace.governance.rbac import Role
from headrace.runs import packages as uploads
from headrace.runs import pipelines
from headrace.runs.pipelines import Named, Source

HTML = {"accept": "text/html"}
AT = 1_790_000_000.0


class Form:
    """A form of a page as a browser would fill and send it."""

    def __init__(self, served, page, action):
        self.http = httpx.Client(base_url=served.address, headers=HTML, timeout=60, follow_redirects=True)
        self.action = action
        text = self.http.get(page).text
        self.text = re.search(rf'<form[^>]* action="{re.escape(action)}".*?</form>', text, re.DOTALL)[0]

    def filled(self):
        """What stands in its fields."""
        found = {}
        for tag in re.findall(r"<input [^>]*>", self.text):
            name, value = re.search(r'name="([^"]*)"', tag), re.search(r' value="([^"]*)"', tag)
            found[name[1]] = html.unescape(value[1]) if value else ""
        for name, value in re.findall(r'<textarea name="([^"]*)"[^>]*>([^<]*)</textarea>', self.text):
            found[name] = html.unescape(value)
        for name, options in re.findall(r'<select name="([^"]*)"[^>]*>(.*?)</select>', self.text, re.DOTALL):
            chosen = re.search(r"<option[^>]* selected[^>]*>([^<]*)<", options) or re.search(r">([^<]*)<", options)
            found[name] = html.unescape(chosen[1])
        return found

    def send(self, **typed):
        answer = self.http.post(self.action, data={**self.filled(), **typed})
        self.http.close()
        return answer


@pytest.fixture
def started(of_project):
    """The parameters of the run that an answer leads to."""

    def parameters(answer):
        assert answer.status_code == 200, answer.text
        run = str(answer.url).rpartition("/")[2]
        return of_project.send("GET", f"/runs/{run}.json")[1]["run"]["runtime_config"]["parameters"]

    return parameters


def every(of_project):
    return Form(of_project, "/pipelines/every", "/pipelines/every/run")


TYPED = {"p.real": "2", "p.truth": "true", "p.fields": '{"a": 1}', "reason": "to see"}


def test_what_is_left_empty_is_looked_up_as_headrace_toml_says(of_project, started):
    form = every(of_project)
    assert (form.filled()["p.items"], form.filled()["p.whole"]) == ("", "7")
    assert "glob data/*.csv, from headrace.toml" in form.text
    found = started(form.send(**TYPED))
    root = of_project.platform.project.root
    assert found["items"] == [str(root / "data" / f"{month}.csv") for month in ("june", "may")]
    assert found["text"] == str(root / "every.yaml")
    assert (found["whole"], found["real"], found["truth"], found["fields"]) == (7, 2.0, True, {"a": 1})


def test_what_is_typed_counts_for_more(of_project, started):
    found = started(every(of_project).send(**TYPED, **{"p.items": "[1, 2]", "p.whole": "8", "p.text": "short"}))
    assert (found["items"], found["whole"], found["text"]) == ([1, 2], 8, "short")


def test_a_refused_form_is_shown_again_with_what_was_typed(of_project):
    wrong = {"p.whole": "seven & more", "p.fields": "[]", "p.real": "2.5", "reason": "<i>why</i>"}
    answer = every(of_project).send(**{**TYPED, **wrong})
    assert answer.status_code == 400
    assert "whole must be a whole number" in answer.text
    assert "fields must be an object, as JSON" in answer.text
    assert 'value="seven &amp; more"' in answer.text
    assert 'value="2.5"' in answer.text
    assert "&lt;i&gt;why&lt;/i&gt;" in answer.text
    assert answer.text.count('aria-invalid="true"') == 2
    assert 'href="#refused"' in answer.text
    assert 'id="refused"' in answer.text
    assert "data-live" not in answer.text
    assert 'href="/pipelines/every.json"' in answer.text


def test_whoever_is_no_browser_is_told_of_it_as_well(of_project):
    form = every(of_project)
    answer = form.http.post(form.action, data={**form.filled(), "p.real": "x"}, headers={"accept": "*/*"})
    form.http.close()
    assert answer.status_code == 400
    assert "real: must be a number" in answer.text


def test_a_form_of_another_session_is_refused_as_before(of_project):
    form = every(of_project)
    answer = form.send(**{"csrf": "0" * 64})
    assert answer.status_code == 403
    assert "not from your session" in answer.text


def test_a_pipeline_that_never_ran_is_shown_as_it_is_written(of_project, started):
    page = of_project.send("GET", "/pipelines/written.json")[1]
    assert [(one["name"], one["kind"], one["text"]) for one in page["inputs"]] == [
        ("number", "NUMBER_INTEGER", ""), ("why", "STRING", "because"),
    ]  # fmt: skip
    assert [line["node"]["name"] for line in page["lines"]] == ["double"]
    form = Form(of_project, "/pipelines/written", "/pipelines/written/run")
    assert started(form.send(**{"p.number": "3"})) == {"number": 3, "why": "because"}


def test_what_does_not_compile_says_so_on_its_page(of_project):
    page = of_project.raw("GET", "/pipelines/broken", headers=HTML)
    assert page.status_code == 200
    assert "no pipeline function is called &#34;nothing&#34;" in page.text
    assert "Pipelines in this file: written." in page.text


def test_a_source_that_was_changed_since_the_last_run_is_told_and_read_when_asked(of_project):
    Form(of_project, "/pipelines/written", "/pipelines/written/run").send(**{"p.number": "3"})
    file = of_project.platform.project.root / "written.py"
    old = file.read_text()
    try:
        file.write_text(old.replace("why: str", "whether: str"))
        os.utime(file, (AT + 60, AT + 60))
        page = of_project.send("GET", "/pipelines/written.json")[1]
        assert (page["is_newer"], [one["name"] for one in page["inputs"]]) == (True, ["number", "why"])
        page = of_project.send("GET", "/pipelines/written.json?version=source")[1]
        assert [one["name"] for one in page["inputs"]] == ["number", "whether"]
        # Now it is known, and shown unasked.
        page = of_project.send("GET", "/pipelines/written.json")[1]
        assert (page["as_of"], page["inputs"][1]["name"]) == (None, "whether")
    finally:
        file.write_text(old)


@pytest.fixture
def uploaded(served, packages):
    """The pages of an uploaded pipeline with an input of every kind."""
    with httpx.Client(base_url=served.address, headers=HTML, timeout=60, follow_redirects=True) as http:
        token = re.search(r'name="csrf" value="([0-9a-f]+)"', http.get("/pipelines").text)[1]
        file = {"file": ("every.yaml", packages("every_kind").read_bytes())}
        answer = http.post("/pipelines", data={"csrf": token, "name": "every"}, files=file)
        assert answer.status_code == 200
        yield http


def test_a_recurring_run_has_its_own_values_and_a_refused_one_keeps_them(served, uploaded):
    typed = {
        "p.whole": "3", "p.real": "0.5", "p.text": "a", "p.truth": "false", "p.items": "[]", "p.fields": "{}",
        "name": "nightly",
    }  # fmt: skip

    def send(**more):
        return Form(served, "/pipelines/every", "/pipelines/every/recurring").send(**{**typed, **more})

    for more, words in (
        ({}, "cron: give either this or an interval"),
        ({"cron": "@daily", "every": "5"}, "cron: give either this or an interval"),
        ({"every": "-5"}, "every: must be a whole number of seconds"),
        ({"cron": "every day"}, "Schedule cron is not a supported format"),
        ({"every": "60", "p.whole": "x"}, "whole: must be a whole number"),
    ):
        refused = send(**more)
        assert (refused.status_code, words in refused.text) == (400, True), more
        assert 'value="nightly"' in refused.text
    assert send(every="60").status_code == 200
    (one,) = served.send("GET", "/pipelines/every.json")[1]["recurring"]
    assert (one["name"], one["schedule"], one["parameters"]["whole"]) == ("nightly", "every 60 s", 3)
    seconds = [datetime.fromisoformat(due).timestamp() - AT for due in one["next"]]
    assert seconds == [60, 120, 180]
    (row,) = (row for row in served.send("GET", "/pipelines.json")[1]["pipelines"] if row["name"] == "every")
    assert (row["triggers"], row["versions"]) == (["every 60 s"], 1)


def test_recurring_runs_are_not_of_the_projects_pipelines(of_project):
    form = every(of_project)
    answer = form.http.post("/pipelines/every/recurring", data={**form.filled(), "cron": "@daily"})
    form.http.close()
    assert answer.status_code == 404
    assert "recurring runs are of uploaded pipelines" in answer.text


def test_whoever_may_only_look_sees_inputs_and_no_form(guarded, packages):
    _, secret = tokens.create(guarded.database, "lucy", [Role.VIEWER], actor="user:mary", at=AT)
    headers = {**HTML, "authorization": f"Bearer {secret}"}
    source = Source(packages("every_kind").read_text(), "every.yaml")
    pipelines.create(guarded.database, Named("every"), source, actor="user:mary", at=AT)
    text = guarded.raw("GET", "/pipelines/every", headers=headers).text
    assert '<th scope="row">whole</th>' in text
    assert "1e-05" in text
    assert "/pipelines/every/run" not in text
    assert "/pipelines/every/recurring" not in text
    refused = guarded.raw("POST", "/pipelines/every/run", headers=headers, data={"p.whole": "1"})
    assert refused.status_code == 403


def test_a_file_that_is_too_large_is_refused(served, uploaded, monkeypatch):
    monkeypatch.setattr(uploads, "MAX_BYTES", 1000)
    token = re.search(r'name="csrf" value="([0-9a-f]+)"', uploaded.get("/pipelines").text)[1]
    answer = uploaded.post(
        "/pipelines", data={"csrf": token, "name": "large"}, files={"file": ("a.yaml", b"x" * 1_200_000)}
    )
    assert answer.status_code == 400
    assert "is larger than" in answer.text
    without = uploaded.post("/pipelines", data={"csrf": "0" * 64}, files={"file": ("a.yaml", b"a: 1")})
    assert without.status_code == 403
