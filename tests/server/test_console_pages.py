"""Services, rollouts, approvals, pipelines and models in the console, on real rows and a real registry."""

import json
import re
import time
import warnings

import httpx
import pytest

from headrace.catalog.registry import ModelRegistry
from headrace.contracts import rollout_document
from headrace.contracts.inference_service import InferenceService
from headrace.control.rollouts.request import Model, request
from headrace.governance import approvals
from headrace.server.console.choices import Choice, Choices
from headrace.serving import payload_log

HTML = {"accept": "text/html"}
AT = 1_790_000_000.0
DOCUMENT = """\
apiVersion: headrace.dev/v1alpha1
kind: Rollout
metadata: {name: any}
spec:
  strategy: {canary: {steps: [{setWeight: 10}, {analysis: {}}]}}
"""


class Browser:
    """Keeps cookies, and sends a page's forms as a browser does."""

    def __init__(self, served):
        self.http = httpx.Client(base_url=served.address, headers=HTML, timeout=60)

    def send(self, page, action, files=None, **fields):
        token = re.search(r'name="csrf" value="([0-9a-f]+)"', self.http.get(page).text)[1]
        return self.http.post(action, data={"csrf": token, **fields}, files=files, follow_redirects=True)


@pytest.fixture(scope="module")
def browser(served):
    browser = Browser(served)
    yield browser
    browser.http.close()


@pytest.fixture(scope="module", autouse=True)
def registry(served):
    with warnings.catch_warnings():
        # MLflow and its libraries warn of each other while they are imported and make the tables.
        warnings.simplefilter("ignore")
        return served.platform.registry.client


@pytest.fixture
def rollout(served, name):
    """A rollout that waits for its server, of a service that no other test uses."""
    service = name.replace("_", "-")[:50].strip("-")
    manifest = InferenceService(service, "default", "models:/iris/2", "mlflow", service, (), 1, 60.0)
    return service, request(
        served.database, service=manifest, rollout=rollout_document.parse(DOCUMENT, "rollout.yaml"),
        model=Model("models:/iris/2", "/nowhere"), key=name, actor="user:mary", reason="why not", at=AT,
    )  # fmt: skip


def gate_of(served, subject, **more):
    with served.database.transaction() as connection:
        return approvals.open_gate(
            connection,
            at=AT,
            subject=subject,
            question="May it?",
            evidence={"auc": 0.71, "model": "models:/x/1"},
            **more,
        )


def test_a_service_and_its_rollout_are_shown_and_held_and_given_up(served, browser, rollout):
    service, rollout_id = rollout
    for path in ("/services", f"/services/{service}", "/rollouts", f"/rollouts/{rollout_id}", "/"):
        page = served.raw("GET", path, headers=HTML)
        assert page.status_code == 200, path
        assert service in page.text or rollout_id in page.text
    here = f"/rollouts/{rollout_id}"
    assert "held where it is" in browser.send(here, f"{here}/pause", reason="lunch").text
    _, told = served.send("GET", f"{here}.json")
    assert (told["rollout"]["state"], told["rollout"]["to"]["model"]) == ("Paused", "models:/iris/2")
    needs = served.send("GET", "/home.json")[1]["needs"]
    assert any(need["path"] == here and not need["bad"] for need in needs)
    assert "It goes on" in browser.send(here, f"{here}/promote", reason="back").text
    assert "All traffic goes back" in browser.send(here, f"{here}/abort", reason="no").text
    late = browser.http.post(f"{here}/abort", data={"csrf": "0" * 64})
    assert late.status_code == 403
    told = served.send("GET", f"/events.json?subject=rollout/{rollout_id}")[1]["events"]
    reasons = " ".join(event["reason"] for event in told)
    assert all(word in reasons for word in ("lunch", "back", ": no"))


def test_a_deploy_without_a_project_says_what_to_do(browser, rollout):
    service, rollout_id = rollout
    answer = browser.send(f"/rollouts/{rollout_id}", f"/services/{service}/deploy", model="models:/iris/2", reason="x")
    assert answer.status_code == 400
    assert "no project here" in answer.text


def test_a_gate_is_decided_with_values_and_a_reason(served, browser, name):
    gate = gate_of(served, f"thing/{name}", parameters={"share": {"type": "int", "description": "percent"}})
    page = served.raw("GET", f"/approvals/{gate}", headers=HTML)
    assert "0.71" in page.text
    assert 'name="p.share"' in page.text
    wrong = browser.send(f"/approvals/{gate}", f"/approvals/{gate}/decide", decision="reject")
    assert wrong.status_code == 400
    assert "reason: is needed to reject" in wrong.text
    wrong = browser.send(
        f"/approvals/{gate}", f"/approvals/{gate}/decide", decision="approve", **{"p.share": "many"}
    )  # fmt: skip
    assert wrong.status_code == 400
    done = browser.send(
        f"/approvals/{gate}", f"/approvals/{gate}/decide", decision="approve", reason="good", **{"p.share": "5"}
    )  # fmt: skip
    assert "Approved. It goes on." in done.text
    told = served.send("GET", f"/approvals/{gate}.json")[1]["gate"]
    assert (told["state"], told["values"], told["decisions"][0]["reason"]) == ("approved", {"share": 5}, "good")
    assert gate in served.raw("GET", "/approvals", headers=HTML).text


def test_two_approvals_are_two_peoples(served, browser, name):
    gate = gate_of(served, f"thing/{name}", required=2)
    first = browser.send(f"/approvals/{gate}", f"/approvals/{gate}/decide", decision="approve", reason="one")
    assert "another one is needed" in first.text
    assert "it takes another person now" in first.text
    assert f'action="/approvals/{gate}/decide"' not in first.text
    again = browser.send("/pipelines", f"/approvals/{gate}/decide", decision="approve", reason="two")
    assert again.status_code == 409
    assert "You have decided about this already." in again.text


def test_a_pipeline_is_uploaded_started_and_repeated(served, browser, packages):
    file = packages("total")
    done = browser.send("/pipelines", "/pipelines", files={"file": ("total.yaml", file.read_bytes())}, name="uploaded")
    assert "uploaded has been uploaded" in done.text
    again = browser.send("/pipelines", "/pipelines", files={"file": ("total.yaml", file.read_bytes())}, name="uploaded")
    assert "A version of uploaded" in again.text
    page = served.send("GET", "/pipelines/uploaded.json")[1]
    assert [field["name"] for field in page["inputs"]] == ["a", "b"]
    assert [line["node"]["name"] for line in page["lines"]] == ["add"]
    assert len(page["versions"]) == 2
    started = browser.send("/pipelines/uploaded", "/pipelines/uploaded/run", **{"p.a": "4", "p.b": "2"})
    run = str(started.url).rpartition("/")[2]
    assert served.send("GET", f"/runs/{run}.json")[1]["run"]["runtime_config"]["parameters"] == {"a": 4, "b": 2}
    wrong = browser.send("/pipelines/uploaded", "/pipelines/uploaded/run", **{"p.a": "four"})
    assert wrong.status_code == 400
    assert "a: must be a whole number" in wrong.text
    made = browser.send("/pipelines/uploaded", "/pipelines/uploaded/recurring", name="often", cron="@daily")
    assert "again and again" in made.text
    (one,) = served.send("GET", "/pipelines/uploaded.json")[1]["recurring"]
    assert one["enabled"]
    assert len(one["next"]) == 3
    assert all("T00:00:00" in due for due in one["next"])
    browser.send("/pipelines/uploaded", f"/pipelines/uploaded/recurring/{one['recurring_run_id']}", do="disable")
    assert not served.send("GET", "/pipelines/uploaded.json")[1]["recurring"][0]["enabled"]
    browser.send("/pipelines/uploaded", f"/pipelines/uploaded/recurring/{one['recurring_run_id']}", do="delete")
    assert served.send("GET", "/pipelines/uploaded.json")[1]["recurring"] == []


def test_what_is_no_pipeline_is_refused_and_nothing_is_left(served, browser):
    answer = browser.send("/pipelines", "/pipelines", files={"file": ("x.yaml", b"a: 1")}, name="nothing")
    assert answer.status_code == 400
    assert served.raw("GET", "/pipelines/nothing", headers=HTML).status_code == 404
    assert browser.send("/pipelines", "/pipelines", files={"file": ("x.yaml", b"")}).status_code == 400


def test_models_are_those_of_the_registry(served, tmp_path):
    (tmp_path / "MLmodel").write_text("flavors: {}\n")
    made = served.platform.registry.register(
        "iris", tmp_path, key="run/register", run_name="one", parameters={"depth": 3}, metrics={"auc": 0.9},
        tags={"headrace.run": "4be4"},
    )  # fmt: skip
    (model,) = served.send("GET", "/models.json")[1]["models"]
    assert (model["name"], model["aliases"]) == ("iris", {"challenger": made.version})
    page = served.send("GET", "/models/iris.json")[1]
    assert page["versions"][0]["metrics"] == {"auc": 0.9}
    version = served.send("GET", f"/models/iris/{made.version}.json")[1]
    assert (version["run"], version["card"]["parameters"]) == ("4be4", {"depth": "3"})
    for path in ("/models", "/models/iris", f"/models/iris/{made.version}"):
        assert served.raw("GET", path, headers=HTML).status_code == 200
    for path in ("/models/none", "/models/iris/99", "/models/iris/last"):
        assert served.raw("GET", path, headers=HTML).status_code == 404


def test_a_json_twin_is_json_whatever_the_numbers(served):
    assert json.loads(served.raw("GET", "/rollouts.json").text)["rollouts"] is not None


MLMODEL = """\
flavors: {sklearn: {}}
signature:
  inputs: '[{"type": "string", "name": "carrier", "required": true},
    {"type": "double", "name": "hour", "required": false}]'
  outputs: '[{"type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [-1]}}]'
"""


@pytest.fixture
def serving(served, name, tmp_path):
    """A service that serves version 2 of a registered model."""
    (tmp_path / "MLmodel").write_text(MLMODEL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in (1, 2, 3):
            served.platform.registry.register(
                name,
                tmp_path,
                key=f"{name}/{number}",
                run_name="one",
                metrics={"auc": number / 10},
                parameters={},
                tags={},
            )
    service = name.replace("_", "-")[:50].strip("-")
    manifest = InferenceService(service, "default", f"models:/{name}/2", "mlflow", service, (), 1, 60.0)
    rollout_id = request(
        served.database, service=manifest, rollout=rollout_document.parse(DOCUMENT, "rollout.yaml"),
        model=Model(f"models:/{name}/2", str(tmp_path)), key=name, actor="user:mary", reason="", at=AT,
    )  # fmt: skip
    with served.database.transaction() as connection:
        connection.execute(
            "UPDATE service SET stable = (SELECT to_revision FROM rollout WHERE id = ?) WHERE name = ?",
            (rollout_id, service),
        )
    return service


def test_a_service_says_what_its_model_takes_and_offers_the_versions(served, serving, name):
    _, told = served.send("GET", f"/services/{serving}.json")
    assert told["inputs"] == [
        {"name": "carrier", "datatype": "BYTES", "shape": [-1, 1], "required": True},
        {"name": "hour", "datatype": "FP64", "shape": [-1, 1], "required": False},
    ]
    assert [(one["name"], one["datatype"], one["shape"]) for one in told["outputs"]] == [("output-0", "INT64", [-1])]
    page = served.raw("GET", f"/services/{serving}", headers=HTML).text
    assert re.search(r'<th scope="row">carrier</th><td>BYTES</td><td class="id nowrap">\[-1, 1\]</td><td></td>', page)
    assert re.search(
        r'<th scope="row">hour</th><td>FP64</td><td class="id nowrap">\[-1, 1\]</td><td>may be missing', page
    )
    # The page does not wait for the registry.
    deadline = time.monotonic() + 60
    while not (choices := served.send("GET", f"/services/{serving}.json")[1]["choices"]):
        assert time.monotonic() < deadline, "the registry has not answered"
        time.sleep(0.05)
    assert choices == [
        {"uri": f"models:/{name}/{number}", "told": told}
        for number, told in ((3, "challenger, auc 0.3"), (2, "auc 0.2"), (1, "auc 0.1"))
    ]


def test_versions_that_were_known_stay_known_when_the_registry_fails(until):
    choices = Choices(ModelRegistry("http://127.0.0.1:9"))
    choices._known["delay"] = [Choice("models:/delay/1", "champion")]
    assert choices.of("delay") == [Choice("models:/delay/1", "champion")]
    # It is asked again, since the question has ended.
    until(lambda: choices._asked["delay"] != float("inf"))
    assert choices.of("delay") == [Choice("models:/delay/1", "champion")]


def test_predictions_that_have_shifted_are_shown_and_need_somebody(served, serving):
    revision = served.send("GET", f"/services/{serving}.json")[1]["service"]["stable"]["id"]
    page = served.raw("GET", f"/services/{serving}", headers=HTML).text
    assert "Nothing to compare yet: 0 predictions on a side; 200 are needed." in page
    file = payload_log.path(served.platform.home, serving)
    for share in (5, 2):
        writer = payload_log.PayloadWriter(file, revision)
        for number in range(300):
            writer.add(f"{share}-{number}", "late" if number % share == 0 else "on time")
        writer.close()
    served.platform.clock.time += 60
    _, told = served.send("GET", f"/services/{serving}.json")
    drift = told["service"]["drift"]
    assert drift["verdict"]["outcome"] == "failed"
    assert [one["name"] for one in drift["verdict"]["evidence"]["bins"]] == ["on time", "late"]
    page = served.raw("GET", f"/services/{serving}", headers=HTML).text
    assert "much different from the first ones" in page
    assert re.search(r'<th scope="row">late</th><td class="n">20.0 %</td><td class="n">50.0 %</td>', page)
    (need,) = [
        one for one in served.send("GET", "/home.json")[1]["needs"] if one["path"].startswith(f"/services/{serving}")
    ]
    assert need["sentence"].startswith(f"What {serving} predicts is much different from the first ones (PSI 0.")
    assert not need["bad"]
