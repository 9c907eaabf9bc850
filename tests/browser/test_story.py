"""The way of a change, clicked through: a push, the person who is asked, the canary that is watched, the way back."""

import re

import pytest
from playwright.sync_api import expect

from flights import push_april
from headrace.cli.demo.stage import month_file

WAIT_MS = 60_000


def shown(place, text):
    expect(place.get_by_text(text).first).to_be_visible(timeout=WAIT_MS)


def decide(page, word, reason):
    form = page.locator("form").filter(has=page.get_by_role("button", name=word, exact=True))
    form.get_by_label("Why").fill(reason)
    form.get_by_role("button", name=word, exact=True).click()


@pytest.mark.slow
def test_from_a_push_to_the_way_back(stage, person):
    page = person.open("/")
    shown(page, "Nothing needs you")
    push_april(stage)

    # Home says by itself, with nobody loading it again, that a person is needed.
    page.get_by_role("link", name="May this model take live traffic?").first.click(timeout=WAIT_MS)
    shown(page, "Beside what serves now")
    decide(page, "Approve", "as good as the one before")
    shown(page, "Approved. It goes on.")

    # The canary moves while the page is looked at.
    page.goto("/services/delay")
    page.get_by_role("link", name="% to models:/flight-delay/2").first.click(timeout=WAIT_MS)
    shown(page, "25 %")
    expect(page.locator("h1 + .beside, .head").get_by_text("Healthy").first).to_be_visible(timeout=WAIT_MS)
    shown(page, "passed")

    # The model answers, and what it answered is traced back.
    page.goto("/services/delay#try")
    page.get_by_role("button", name="Send it through the gateway").click()
    shown(page, "The model answered 200.")
    expect(page.get_by_text("from delay-00002").first).to_be_visible()
    page.get_by_role("link", name="where it comes from").click()
    expect(page.get_by_role("link", name="flights-2013-04.parquet").first).to_be_visible(timeout=WAIT_MS)

    # On call: a model that somebody deployed is stopped in the middle of its canary.
    page.goto("/models/flight-delay/1")
    page.get_by_text("Deploy to delay").click()
    decide(page, "Start the rollout", "somebody thinks that January was better")
    shown(page, "has been asked for")
    shown(page, "5 %")
    page.get_by_text("Abort", exact=True).click()
    decide(page, "Give all traffic back", "nobody asked for this")
    shown(page, "Aborted")

    # And back to the model before, with a reason that is kept.
    page.goto("/services/delay")
    page.get_by_text("Roll back", exact=True).click()
    decide(page, "Roll back now", "January was better after all")
    shown(page, "The revision before is put back.")
    page.goto("/services/delay")
    expect(page.locator("p.lead")).to_contain_text("models:/flight-delay/1", timeout=WAIT_MS)
    page.goto("/events?subject=service/delay")
    page.goto("/events?kind=rollout")
    shown(page, "January was better after all")


@pytest.mark.slow
def test_why_a_run_failed_is_found_from_home(stage, person):
    page = person.open("/")
    when_may_is_pushed_corrupted(stage)
    page.get_by_role("link", name=re.compile("^retrain failed")).click(timeout=WAIT_MS)
    shown(page, "distance")
    page.get_by_role("heading", name=re.compile("validate")).get_by_role("link").first.click()
    expect(page.locator("#log")).to_contain_text("distance")
    page.get_by_label("Lines with").fill("distance")
    expect(page.locator("form[role=search]").get_by_role("status")).to_contain_text("line")


def test_a_page_that_a_pipeline_made_is_shown_where_it_can_reach_nothing(stage, person):
    run = next(run["run_id"] for run in stage.get("/runs") if run["state"] == "SUCCEEDED")
    page = person.open(f"/runs/{run}?task=for-loop-1/0/validate")
    report = page.frame_locator("iframe.sandbox").first
    expect(report.get_by_text("distance").first).to_be_visible()


def when_may_is_pushed_corrupted(stage):
    import pandas as pd

    table = pd.read_parquet(stage.template / "data" / month_file(5))
    table["distance"] = (table["distance"] * 1.609344).round().astype("Int16")
    table.to_parquet(stage.project / "data" / month_file(5), index=False)
    stage.commit("May")
    stage.push()
