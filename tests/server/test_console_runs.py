"""The console's pages of runs, on runs that a real engine drove."""

import re

import pytest

HTML = {"accept": "text/html"}


class Browser:
    """Keeps cookies, and sends a page's forms as a browser does."""

    def __init__(self, served):
        import httpx

        self.http = httpx.Client(base_url=served.address, headers=HTML, timeout=60)

    def get(self, path):
        return self.http.get(path)

    def send(self, page, action, **fields):
        token = re.search(r'name="csrf" value="([0-9a-f]+)"', self.get(page).text)[1]
        return self.http.post(action, data={"csrf": token, **fields}, follow_redirects=True)


@pytest.fixture(scope="module")
def browser(served):
    browser = Browser(served)
    yield browser
    browser.http.close()


@pytest.fixture
def driven(served, client, packages, name):
    def drive(function, **arguments):
        run_id = client.create_run_from_pipeline_package(str(packages(function)), arguments, run_name=name).run_id
        served.drive(run_id)
        return run_id

    return drive


def test_the_list_finds_runs_by_state_pipeline_and_text_and_has_pages(served, driven, name):
    run_id = driven("total")
    _, found = served.send("GET", f"/runs.json?text={name}&state=SUCCEEDED&pipeline=sum")
    assert [run["run_id"] for run in found["runs"]] == [run_id]
    assert found["older"] == ""
    assert served.send("GET", f"/runs.json?text={name}&state=FAILED")[1]["runs"] == []
    assert served.raw("GET", "/runs?state=GONE", headers=HTML).status_code == 400


def test_a_loop_is_one_row_and_its_executions_are_listed(served, driven):
    run_id = driven("tree")
    _, page = served.send("GET", f"/runs/{run_id}.json")
    rows = {row["id"]: row for row in page["rows"]}
    assert rows["for-loop-2/add"]["states"] == {"SUCCEEDED": 2}
    assert len(rows["for-loop-2/add"]["bars"]) == 2
    _, listed = served.send("GET", f"/runs/{run_id}/task.json?path=for-loop-2/add")
    assert [one["path"] for one in listed["executions"]] == ["for-loop-2/0/add", "for-loop-2/1/add"]
    assert served.raw("GET", f"/runs/{run_id}", headers=HTML).status_code == 200
    assert served.raw("GET", f"/runs/{run_id}/task?path=for-loop-2/add", headers=HTML).status_code == 200


def test_a_task_shows_inputs_log_and_artifacts(served, driven):
    run_id = driven("tree", a=3)
    _, task = served.send("GET", f"/runs/{run_id}/task.json?path=for-loop-2/0/add")
    assert task["task"]["inputs"]["parameters"] == {"a": 1, "b": 3}
    assert task["log"] == "adding 1 and 3\n"
    assert task["cache"].startswith("ran: nothing had succeeded")
    _, kept = served.send("GET", f"/runs/{run_id}/task.json?path=keep")
    (model,) = kept["artifacts"]
    assert (model["kind"], model["data"]) == ("text", "3")
    bytes_ = served.raw("GET", model["download"])
    assert bytes_.text == "3"
    assert bytes_.headers["content-security-policy"].startswith("sandbox")
    assert bytes_.headers["content-disposition"].startswith("attachment")


def test_an_artifact_is_found_by_its_row_and_never_by_a_path(served, driven):
    run_id = driven("tree")
    assert served.raw("GET", f"/runs/{run_id}/artifact?task=keep&name=../../etc/passwd").status_code == 404


def test_a_failed_run_says_why_and_can_be_retried_and_run_again(served, driven, browser):
    run_id = driven("refuses")
    page = browser.get(f"/runs/{run_id}").text
    assert "ValueError: not 7" in page
    told = browser.send(f"/runs/{run_id}", f"/runs/{run_id}/again", **{"p.number": "8", "from": "", "reason": "other"})
    assert "A new run goes on from" in told.text
    new = str(told.url).rpartition("/")[2]
    _, run = served.send("GET", f"/runs/{new}.json")
    assert run["run"]["runtime_config"]["parameters"] == {"number": 8}
    assert run["run"]["reason"] == "other"
    wrong = browser.send(f"/runs/{run_id}", f"/runs/{run_id}/again", **{"p.number": "eight"})
    assert wrong.status_code == 400
    assert "number: must be a whole number" in wrong.text
    told = browser.send(f"/runs/{run_id}", f"/runs/{run_id}/retry", reason="once more")
    assert "Tried again: refuse" in told.text
    assert served.send("GET", f"/runs/{run_id}.json")[1]["run"]["state"] == "PENDING"
    told = browser.send(f"/runs/{run_id}", f"/runs/{run_id}/cancel", reason="enough")
    assert "is being stopped" in told.text
    _, log = served.send("GET", f"/events.json?subject=run/{run_id}&kind=run.cancel")
    assert log["events"][0]["reason"] == "enough"


def test_a_form_of_another_session_does_nothing(served, driven, browser):
    run_id = driven("refuses")
    for token in ("", "0" * 64):
        answer = browser.http.post(f"/runs/{run_id}/retry", data={"csrf": token})
        assert answer.status_code == 403
    assert served.send("GET", f"/runs/{run_id}.json")[1]["run"]["state"] == "FAILED"


def test_two_runs_side_by_side(served, driven):
    a, b = driven("total", a=5), driven("total", a=6)
    _, page = served.send("GET", f"/runs/compare.json?a={a}&b={b}")
    assert {"name": "a", "a": 5, "b": 6, "same": False} in page["parameters"]
    assert served.raw("GET", f"/runs/compare?a={a}&b={b}", headers=HTML).status_code == 200


def test_what_is_not_there_is_a_page_that_says_so(served):
    page = served.raw("GET", "/runs/000000", headers=HTML)
    assert page.status_code == 404
    assert "no run has the id 000000" in page.text
