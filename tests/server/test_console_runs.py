"""The console's pages of runs: the list, a run, its tasks and artifacts, what a person does with it, two compared."""

import json
import re

import pytest

from headrace.contracts import pipeline_spec
from headrace.governance import approvals
from headrace.project.compile import compile_pipeline
from headrace.runs import queries
from headrace.runs.submit import create_run
from headrace.server.access import SESSION_COOKIE

HTML = {"accept": "text/html"}
PIPELINE = """
from kfp import dsl

@dsl.component
def make(name: str, table: dsl.Output[dsl.Dataset], page: dsl.Output[dsl.HTML], notes: dsl.Output[dsl.Markdown],
         metrics: dsl.Output[dsl.Metrics], judged: dsl.Output[dsl.ClassificationMetrics],
         picture: dsl.Output[dsl.Artifact], plain: dsl.Output[dsl.Artifact]):
    import base64
    table.path += ".csv"
    with open(table.path, "w") as stream:
        stream.write("a,b\\n" + "".join(f"{n},<b>{n}</b>\\n" for n in range(150)))
    with open(page.path, "w") as stream:
        stream.write("<script>document.title = 'ran'</script><h1>Report</h1>")
    with open(notes.path, "w") as stream:
        stream.write("# Notes\\n\\n<script>alert(1)</script> [x](javascript:alert(1)) ![p](http://example.org/p.png)")
    with open(picture.path, "wb") as stream:
        stream.write(base64.b64decode(
            "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="))
    with open(plain.path, "w") as stream:
        stream.write("x" * 200_000)
    metrics.log_metric("auc", 0.75)
    judged.log_confusion_matrix(["on time", "late"], [[90, 10], [5, 20]])
    judged.log_roc_curve([0.2, 0.4], [0.5, 0.9], [0.9, 0.1])
    print(f"made for {name}")

@dsl.component
def check(number: int, limit: int) -> int:
    print(f"checking {number}")
    if number >= limit:
        raise ValueError(f"{number} is <too> large")
    return number

@dsl.pipeline(name="kinds")
def kinds(name: str = "mary", limit: int = 10, numbers: list = [1, 2, 3], fast: bool = True):
    made = make(name=name).set_display_name("make </script><b>")
    with dsl.ParallelFor(numbers) as number:
        check(number=number, limit=limit).after(made)
"""


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    file = tmp_path_factory.mktemp("kinds") / "kinds.py"
    file.write_text(PIPELINE)
    return pipeline_spec.parse(compile_pipeline(file, "kinds"), "kinds.yaml")


def _begin(served, document, *, reason="", at=2.0, **parameters):
    return create_run(
        served.database, document, pipeline=document.name, parameters=parameters, environment="dev", at=at,
        actor="user:ann", reason=reason, commit="c0ffee" * 6,
    )  # fmt: skip


@pytest.fixture(scope="module")
def good(served, kinds):
    run_id = _begin(served, kinds, reason="the good one")
    served.drive(run_id)
    return run_id


@pytest.fixture(scope="module")
def bad(served, kinds, good):
    run_id = _begin(served, kinds, reason="the bad one", at=3.0, limit=3)
    served.drive(run_id)
    return run_id


def _page(served, path):
    answer = served.raw("GET", path, headers=HTML)
    assert answer.status_code == 200, answer.text
    return answer.text


def _send(served, path, **fields):
    """Send a form as the page has it: with the session's cookie and its token."""
    page = served.raw("GET", "/runs", headers=HTML)
    session = page.cookies[SESSION_COOKIE]
    run = served.raw("GET", path.rpartition("/")[0], headers={**HTML, "cookie": f"{SESSION_COOKIE}={session}"})
    token = re.search(r'name="csrf" value="([^"]+)"', run.text)[1]
    return served.raw(
        "POST", path, data={"csrf": token, **fields}, headers={**HTML, "cookie": f"{SESSION_COOKIE}={session}"}
    )


def _artifact(run_id, name, word="", position=0):
    return f"/runs/{run_id}/artifact{word}?task=make&name={name}&position={position}"


def test_the_list_is_filtered_and_searched(served, good, bad):
    def ids(query):
        status, told = served.send("GET", f"/runs.json?{query}")
        assert status == 200
        return [run["run_id"] for run in told["runs"]]

    assert ids("pipeline=kinds")[:2] == [bad, good]
    assert ids("state=FAILED&pipeline=kinds") == [bad]
    assert ids("text=GOOD one") == [good]
    assert ids(f"text={bad[:8]}") == [bad]
    assert set(ids("text=c0ffee")) >= {good, bad}
    assert ids("text=%25") == []
    page = _page(served, "/runs?state=FAILED")
    assert "3 is &lt;too&gt; large" in page
    assert served.send("GET", "/runs.json?state=ODD")[0] == 400
    assert served.send("GET", "/runs.json?before=soon")[0] == 400


def test_the_list_is_paged_without_gaps_or_repeats(served, kinds):
    made = {_begin(served, kinds, reason="one of many", at=100.0 + number // 7) for number in range(120)}
    path, seen = "/runs?text=one+of+many", []
    while path:
        _, told = served.send("GET", path.replace("/runs?", "/runs.json?"))
        seen += [run["run_id"] for run in told["runs"]]
        path = told["more"]
    assert len(seen) == len(set(seen)) == 120
    assert set(seen) == made


def test_a_run_shows_a_loop_as_one_line_and_unfolds_it(served, good):
    _, told = served.send("GET", f"/runs/{good}.json")
    nodes = {line["node"]["path"]: line["node"] for line in told["lines"]}
    assert set(nodes) == {"make", "for-loop-1"}
    loop = nodes["for-loop-1"]
    assert (loop["kind"], loop["state"], loop["done"], loop["total"]) == ("loop", "SUCCEEDED", 3, 3)
    assert loop["needs"] == ["make"]
    _, unfolded = served.send("GET", f"/runs/{good}.json?open=for-loop-1,for-loop-1/1")
    paths = [line["node"]["path"] for line in unfolded["lines"]]
    assert paths == ["make", "for-loop-1", "for-loop-1/0", "for-loop-1/1", "for-loop-1/1/check", "for-loop-1/2"]
    page = _page(served, f"/runs/{good}")
    assert "3 ×, 3 done" in page
    drawn = json.loads(re.search(r'<script type="application/json">(.*?)</script>', page)[1])
    assert [(node["path"], node["name"]) for node in drawn] == [
        ("make", "make </script><b>"), ("for-loop-1", "for-loop-1"),
    ]  # fmt: skip
    assert "</script><b>" not in page


def test_a_loop_of_a_thousand_is_a_small_page(served, kinds):
    run_id = _begin(served, kinds, at=8.0, numbers=list(range(1000)))
    _, told = served.send("GET", f"/runs/{run_id}.json?open=for-loop-1")
    loop = told["lines"][1]["node"]
    assert (loop["total"], loop["left_out"], len(told["lines"])) == (1000, 900, 102)
    assert len(_page(served, f"/runs/{run_id}?open=for-loop-1")) < 300_000


def test_tasks_that_have_not_started_stand_there(served, kinds):
    run_id = _begin(served, kinds, at=4.0, numbers=list(range(30)))
    _, told = served.send("GET", f"/runs/{run_id}.json")
    assert [(line["node"]["path"], line["node"]["state"]) for line in told["lines"]] == [
        ("make", "PENDING"), ("for-loop-1", "PENDING"),
    ]  # fmt: skip
    assert told["lines"][1]["node"]["total"] == 30
    _, task = served.send("GET", f"/runs/{run_id}.json?task=make")
    assert (task["task"]["state"], task["task"]["attempts"]) == ("PENDING", [])


def test_a_failed_run_says_why_with_the_lines_of_its_component(served, bad):
    page = _page(served, f"/runs/{bad}")
    assert "ValueError: 3 is &lt;too&gt; large" in page
    assert "checking 3" in page
    assert "Try the failed tasks again" in page


def test_a_task_tells_inputs_attempts_and_why_it_was_reused_or_not(served, good, bad):
    _, first = served.send("GET", f"/runs/{good}.json?task=make")
    assert first["task"]["inputs"] == {"name": "mary"}
    assert [attempt["state"] for attempt in first["task"]["attempts"]] == ["SUCCEEDED"]
    assert first["task"]["reuse"]["why"].startswith("Nothing with this key had succeeded")
    _, again = served.send("GET", f"/runs/{bad}.json?task=make")
    assert (again["task"]["reuse"]["word"], again["task"]["reuse"]["run_id"]) == ("reused", good)
    _, changed = served.send("GET", f"/runs/{bad}.json?task=for-loop-1/0/check")
    assert changed["task"]["reuse"]["why"] == "Since its last result, this changed: parameter limit."
    assert changed["task"]["reuse"]["run_id"] == good
    assert served.send("GET", f"/runs/{good}.json?task=nothing")[0] == 404


def test_artifacts_are_shown_by_their_kind(served, good):
    page = _page(served, f"/runs/{good}?task=make")
    assert "ROC curve; the area below it is 0.760." in page
    assert re.search(r'heat-9">90<', page)
    assert 'sandbox="allow-scripts"' in page
    assert re.search(r'auc</th><td class="n">0.75<', page)
    _, told = served.send("GET", _artifact(good, "table").replace("/artifact?", "/artifact.json?"))
    assert (told["view"]["columns"], len(told["view"]["rows"]), told["view"]["shortened"]) == (["a", "b"], 100, True)
    assert "&lt;b&gt;7&lt;/b&gt;" in _page(served, _artifact(good, "table"))
    notes = _page(served, _artifact(good, "notes"))
    assert "<h1>Notes</h1>" in notes
    assert "<script>alert" not in notes
    assert 'href="javascript:' not in notes
    assert "<img" not in notes.partition('class="card prose"')[2]
    plain = _page(served, _artifact(good, "plain"))
    assert "Only its beginning is shown." in plain
    assert len(plain) < 120_000


def test_content_is_served_in_a_sandbox_or_as_a_download(served, good):
    page = served.raw("GET", _artifact(good, "page", "/page"))
    assert page.headers["content-security-policy"].startswith("sandbox allow-scripts; default-src 'none';")
    assert "allow-same-origin" not in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    saved = served.raw("GET", _artifact(good, "page", "/download"))
    assert saved.headers["content-disposition"].startswith("attachment")
    assert saved.headers["content-type"] == "application/octet-stream"
    picture = served.raw("GET", _artifact(good, "picture", "/image"))
    assert picture.headers["content-type"] == "image/png"
    assert served.raw("GET", _artifact(good, "notes", "/page")).status_code == 404
    assert served.raw("GET", _artifact(good, "page", "/image")).status_code == 404
    assert served.raw("GET", _artifact(good, "../page", "/download")).status_code == 404
    assert served.raw("GET", _artifact(good, "page", "/download", position="x")).status_code == 400


def test_two_runs_stand_side_by_side(served, good, bad):
    _, told = served.send("GET", f"/runs/compare.json?a={good}&b={bad}")
    pairs = {pair["name"]: (pair["a"], pair["b"]) for pair in told["comparison"]["parameters"]}
    assert pairs["limit"] == (10, 3)
    assert {pair["name"]: pair["b"] for pair in told["comparison"]["tasks"]}["make"] == "reused"
    page = _page(served, f"/runs/compare?a={good}&b={bad}")
    assert "1 of 4 differ." in page
    assert served.send("GET", f"/runs/compare.json?a={good}")[0] == 400


def test_a_run_is_cancelled_by_a_form_of_its_session_only(served, kinds):
    run_id = _begin(served, kinds, at=5.0)
    refused = served.raw("POST", f"/runs/{run_id}/cancel", data={"csrf": "guessed"}, headers=HTML)
    assert refused.status_code == 403
    done = _send(served, f"/runs/{run_id}/cancel", reason="not needed")
    assert (done.status_code, done.headers["location"]) == (303, f"/runs/{run_id}")
    assert queries.find(served.database, run_id)["state"] == "CANCELING"
    _, told = served.send("GET", f"/events.json?kind=run.cancel-requested&subject=run/{run_id}")
    assert told["events"][0]["reason"] == "not needed"
    served.drive(run_id)
    assert _send(served, f"/runs/{run_id}/cancel").status_code == 409


def test_a_failed_run_is_tried_again(served, kinds):
    run_id = _begin(served, kinds, at=6.0, limit=2)
    served.drive(run_id)
    assert _send(served, f"/runs/{run_id}/retry", reason="once more").status_code == 303
    assert queries.find(served.database, run_id)["state"] == "PENDING"


def test_a_run_goes_on_in_another_one_with_other_parameters(served, bad):
    fields = {"p.name": "mary", "p.limit": "20", "p.numbers": "[1,2,3]", "p.fast": "true", "begin": ""}
    wrong = _send(served, f"/runs/{bad}/rerun", **{**fields, "p.limit": "many"})
    assert wrong.status_code == 400
    assert "limit must be a whole number" in wrong.text
    assert 'value="many"' in wrong.text, "what was typed stays"
    done = _send(served, f"/runs/{bad}/rerun", **fields, reason="a higher limit")
    assert done.status_code == 303
    new = done.headers["location"].rpartition("/")[2]
    row = queries.find(served.database, new)
    assert (json.loads(row["parameters"])["limit"], row["reason"]) == (20, "a higher limit")
    _, told = served.send("GET", f"/runs/{new}.json?task=make")
    assert (told["previous"], told["task"]["reuse"]["word"]) == (bad, "kept")
    served.drive(new)
    assert queries.find(served.database, new)["state"] == "SUCCEEDED"


def test_nothing_is_kept_when_that_is_asked(served, good):
    done = _send(served, f"/runs/{good}/rerun", anew="yes")
    new = done.headers["location"].rpartition("/")[2]
    _, told = served.send("GET", f"/runs/{new}.json")
    assert (told["counts"], told["previous"]) == ({}, good)


def test_a_gate_of_a_run_is_led_to(served, packages):
    file = packages("asks")
    document = pipeline_spec.parse(file.read_text(), str(file))
    run_id = _begin(served, document, at=7.0)
    served.drive(run_id)
    gate = approvals.gate_of(served.database, f"run/{run_id}/task/ask")
    assert f'href="/approvals/{gate.id}"' in _page(served, f"/runs/{run_id}")
    assert f'href="/approvals/{gate.id}"' in _page(served, f"/runs/{run_id}?task=ask")
