"""Every page, after the story: no complaint of the browser, readable without script, on a phone, and by everybody.

HEADRACE_SCREENSHOTS=FOLDER keeps a picture of each, light and dark.
"""

import os
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe

RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"], "resultTypes": ["violations"]}
SCREENSHOTS = os.environ.get("HEADRACE_SCREENSHOTS", "")
MOST_BYTES = 300_000
SETTLED_MS = 1500

PAGES = {
    "home": lambda stage: "/",
    "runs": lambda stage: "/runs",
    "run": lambda stage: f"/runs/{_run(stage)}",
    "compare": lambda stage: "/runs/compare?a={}&b={}".format(*[run["run_id"] for run in stage.get("/runs")[:2]]),
    "pipelines": lambda stage: "/pipelines",
    "pipeline": lambda stage: "/pipelines/retrain",
    "models": lambda stage: "/models",
    "model": lambda stage: "/models/flight-delay",
    "model-version": lambda stage: "/models/flight-delay/1",
    "services": lambda stage: "/services",
    "service": lambda stage: "/services/delay",
    "rollouts": lambda stage: "/rollouts",
    "rollout": lambda stage: f"/rollouts/{stage.get('/rollouts', limit=1)[0]['id']}",
    "approvals": lambda stage: "/approvals",
    "approval": lambda stage: f"/approvals/{stage.get('/gates')[-1]['id']}",
    "lineage": lambda stage: "/lineage?start=model:flight-delay@1",
    "events": lambda stage: "/events",
}


def _run(stage):
    return next(run["run_id"] for run in stage.get("/runs") if run["state"] == "SUCCEEDED")


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_page_is_for_everybody(stage, people, name, theme):
    person = people(viewport={"width": 1360, "height": 850}, color_scheme=theme)
    page = person.open(PAGES[name](stage))
    page.wait_for_timeout(SETTLED_MS)
    found = Axe().run(page, options=RULES)
    told = [(one["id"], one["help"], [node["target"] for node in one["nodes"]]) for one in found.response["violations"]]
    assert told == []
    assert person.complaints == []
    if SCREENSHOTS:
        page.screenshot(path=Path(SCREENSHOTS) / f"console-{name}-{theme}.png")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_can_be_read_without_script_and_has_a_twin(stage, people, name):
    person = people(java_script_enabled=False)
    path = PAGES[name](stage)
    page = person.open(path)
    assert page.locator("h1").inner_text().strip()
    assert page.locator("main").inner_text().strip()
    twin = page.get_by_role("link", name="this page as JSON").get_attribute("href")
    assert isinstance(person.context.request.get(twin).json(), dict)
    assert len(person.context.request.get(path, headers={"accept": "text/html"}).body()) < MOST_BYTES


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_a_phone(stage, people, name):
    person = people(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = person.open(PAGES[name](stage))
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
