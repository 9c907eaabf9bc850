"""What a person decides upon: evidence, the difference to what serves, what is asked, and words for who comes late."""

import re
import threading
import warnings

import httpx
import pytest

from headrace.errors import HeadraceError
from headrace.governance import approvals
from headrace.server.console.patience import Patience

HTML = {"accept": "text/html"}
AT = 1_790_000_000.0


@pytest.fixture(scope="module")
def models(served, tmp_path_factory):
    """A champion and a challenger that was measured beside it."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "MLmodel").write_text("flavors: {}\n")
    registry = served.platform.registry
    with warnings.catch_warnings():
        # MLflow and its libraries warn of each other while they are imported and make the tables.
        warnings.simplefilter("ignore")
        for number, metrics in enumerate([{"auc": 0.7, "loss": 0.5}, {"auc": 0.71, "champion_auc": 0.72, "loss": 0.4}]):
            made = registry.register(
                "bees", folder, key=f"run/{number}", run_name="one", parameters={"depth": 3 + number, "trees": 5},
                metrics=metrics, tags={"headrace.run": f"4be{number}", "data_version": f"d{number}"},
            )  # fmt: skip
            if number == 0:
                registry.promoted(made.uri)
    return registry


@pytest.fixture
def ask(served, name):
    """Open a gate about something that no other test uses; its id."""

    def opened(**more):
        asked = {"evidence": {}, "question": "May it?", **more}
        with served.database.transaction() as connection:
            return approvals.open_gate(connection, at=AT, subject=f"thing/{name}/{len(more)}", **asked)

    return opened


@pytest.fixture
def browser(served):
    with httpx.Client(base_url=served.address, headers=HTML, timeout=60, follow_redirects=True) as http:
        yield http


def decide(browser, gate, decision, **fields):
    token = re.search(r'name="csrf" value="([0-9a-f]+)"', browser.get("/pipelines").text)[1]
    return browser.post(f"/approvals/{gate}/decide", data={"csrf": token, "decision": decision, **fields})


def test_a_model_is_compared_with_the_champion_on_the_same_rows_where_that_was_measured(served, browser, models, ask):
    gate = ask(evidence={"model": "models:/bees/2"})
    page = served.send("GET", f"/approvals/{gate}.json")[1]
    assert (page["champion"]["version"], page["model"]["version"]) == (1, 2)
    auc, loss = page["metrics"]
    # Its own run's 0.7 is lower than 0.71, and was measured on other rows.
    assert (auc["name"], auc["old"], auc["new"], auc["better"], auc["same_data"]) == ("auc", 0.72, 0.71, False, True)
    assert (loss["name"], loss["better"], loss["same_data"]) == ("loss", True, False)
    assert [(one["name"], one["old"], one["new"]) for one in page["parameters"]] == [("depth", "3", "4")]
    assert page["same"] == 1
    text = browser.get(f"/approvals/{gate}").text
    assert "better, on other data" in text
    assert "same rows" in text
    assert all(words in text for words in ("d0", "d1", 'href="/runs/4be0"'))


def test_the_champion_itself_is_said_to_serve(browser, models, ask):
    assert "It is the champion" in browser.get(f"/approvals/{ask(evidence={'model': 'models:/bees/1'})}").text


def test_a_model_that_is_not_there_leaves_the_page_readable(browser, models, ask):
    text = browser.get(f"/approvals/{ask(evidence={'model': 'models:/wasps/1'})}").text
    assert "The registry does not tell of the model" in text
    assert "Approve" in text


def test_evidence_is_escaped_and_its_verdict_is_told(browser, ask):
    gate = ask(
        question="<script>1</script>?",
        evidence={"check": {"outcome": "failed", "summary": "<b>no</b>", "evidence": {"<i>": 1}}},
    )
    text = browser.get(f"/approvals/{gate}").text
    assert "<script>1" not in text
    assert "<b>no</b>" not in text
    assert "&lt;b&gt;no&lt;/b&gt;" in text
    assert "raw evidence" in text


PARAMETERS = {
    "share": {"type": "int", "description": "percent"}, "where": {"enum": [1, 2]},
    "limits": {"type": "dict", "default": {"a": 1}}, "slow": {"type": "bool", "default": True},
}  # fmt: skip


def test_values_are_typed_and_a_refused_form_keeps_them(served, browser, ask):
    gate = ask(parameters=PARAMETERS)
    wrong = decide(
        browser, gate, "approve", reason="so & so", **{"p.share": "ten", "p.limits": "[1]", "p.where": "2"}
    )  # fmt: skip
    assert wrong.status_code == 400
    assert "share must be a whole number" in wrong.text
    assert "limits must be an object, as JSON" in wrong.text
    assert 'value="so &amp; so"' in wrong.text
    assert "<option selected>2</option>" in wrong.text
    lacking = decide(browser, gate, "approve", **{"p.where": "2"})
    assert (lacking.status_code, "share needs a value" in lacking.text) == (400, True)
    none = decide(browser, gate, "approve", **{"p.share": "1", "p.where": "3"})
    assert (none.status_code, "where must be one of 1, 2" in none.text) == (400, True)
    assert approvals.gate(served.database, gate).to_dict()["state"] == "waiting"
    decide(browser, gate, "approve", **{"p.share": "10", "p.where": "2", "p.limits": '{"b": 2}', "p.slow": "false"})
    found = approvals.gate(served.database, gate).to_dict()
    assert found["state"] == "approved"
    assert found["values"] == {"share": 10, "where": 2, "limits": {"b": 2}, "slow": False}


def test_a_rejection_needs_a_reason_but_no_values(served, browser, ask):
    gate = ask(parameters=PARAMETERS)
    refused = decide(browser, gate, "reject", reason=" ")
    assert (refused.status_code, "is needed to reject" in refused.text) == (400, True)
    assert "Rejected." in decide(browser, gate, "reject", reason="not now").text
    assert approvals.gate(served.database, gate).to_dict()["decisions"][0]["reason"] == "not now"


def test_who_comes_late_is_told_who_was_first(served, browser, ask):
    gate = ask()
    approvals.decide(served.database, gate, at=AT, actor="user:anna", approve=True, reason="fine")
    late = decide(browser, gate, "reject", reason="no!")
    assert late.status_code == 409
    assert "Your decision came too late: it is approved already, by user:anna." in late.text
    assert "fine" in late.text


def test_who_comes_after_the_time_is_over_is_told_that(served, browser, ask):
    gate = ask(expires_at=AT - 1)
    late = decide(browser, gate, "approve")
    assert late.status_code == 409
    assert "it is expired already, by the clock" in late.text


def test_the_list_tells_how_many_are_missing_and_what_comes_when_nobody_decides(served, browser, ask):
    gate = ask(required=3, expires_at=AT + 60, approved_on_expiry=True)
    approvals.decide(served.database, gate, at=AT, actor="user:anna", approve=True, reason="")
    (one,) = (one for one in served.send("GET", "/approvals.json")[1]["waiting"] if one["id"] == gate)
    assert (one["missing"], one["run"]) == (2, "")
    text = browser.get("/approvals").text
    assert "2 approvals missing of 3" in text
    assert "if nobody decides, approved by itself" in text


class Silent:
    """A registry on another machine that takes questions and answers none until it is told to."""

    tracking_uri = "http://silent.invalid"

    def __init__(self):
        self.go = threading.Event()

    def answer(self):
        self.go.wait(60)
        return "late"


def test_a_registry_that_does_not_answer_is_given_up_however_many_ask():
    silent = Silent()
    patience = Patience(silent, seconds=0.05)
    try:
        for _ in range(6):
            with pytest.raises(HeadraceError, match=r"MLflow has not answered in 0\.05 s"):
                patience.ask(lambda registry: registry.answer())
        # Two of them did not even get to ask.
        assert sum(one.name == "registry" for one in threading.enumerate()) == 4
    finally:
        silent.go.set()


def test_what_a_registry_answers_or_raises_arrives():
    silent = Silent()
    silent.go.set()
    patience = Patience(silent, seconds=60)
    assert patience.ask(lambda registry: registry.answer()) == "late"
    with pytest.raises(ZeroDivisionError):
        patience.ask(lambda registry: 1 / 0)
