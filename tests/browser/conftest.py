"""A real browser on a real server: the flights project, live traffic, and a person who clicks."""

import importlib.util
from pathlib import Path

import pytest

from flights import serve_january
from headrace.cli.demo.narrator import Narrator
from headrace.cli.demo.replay import Replay
from headrace.cli.demo.stage import Stage

ROOT = Path(__file__).parents[2]
PATIENCE_MS = 120_000


def _chromium():
    spec = importlib.util.spec_from_file_location("chromium", ROOT / "scripts" / "chromium.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.find()


@pytest.fixture(scope="session")
def chromium():
    from playwright.sync_api import sync_playwright

    path = _chromium()
    if not path:
        pytest.skip("there is no Chromium here: apt-get install chromium, or make test-browser, which does it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def stage(tmp_path_factory):
    """A project whose first model, of January, serves live traffic."""
    stage = Stage(tmp_path_factory.mktemp("browser"), Narrator(quiet=True))
    replay = Replay(predict_url=stage.predict_url, labels_url=stage.labels_url, rate=30, label_delay=1)
    stage.replay = replay
    try:
        serve_january(stage, replay)
        yield stage
    finally:
        if replay.sent:
            replay.stop()
        stage.close()


class Person:
    """Somebody with a browser. What the browser complains of is a failure."""

    def __init__(self, chromium, address, **context):
        self.context = chromium.new_context(base_url=address, **context)
        self.context.set_default_timeout(PATIENCE_MS)
        self.page = self.context.new_page()
        self.complaints = []
        self.page.on("console", lambda message: self._hear(message))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _hear(self, message):
        if message.type == "error":
            self.complaints.append(f"{message.text} at {message.location.get('url', '')}")

    def open(self, path):
        answer = self.page.goto(path)
        assert answer.status == 200, (path, answer.status, self.page.locator("main").inner_text())
        return self.page

    def close(self):
        self.context.close()


@pytest.fixture
def person(chromium, stage):
    """Somebody at a screen of usual size."""
    person = Person(chromium, f"http://127.0.0.1:{stage.port}", viewport={"width": 1360, "height": 850})
    yield person
    complaints = person.complaints
    person.close()
    assert complaints == []


@pytest.fixture
def people(chromium, stage):
    """Makes people with other browsers: dark, a phone, no script."""
    made = []

    def make(**context):
        made.append(Person(chromium, f"http://127.0.0.1:{stage.port}", **context))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A browser test that failed says what the person saw last."""
    report = yield
    person = item.funcargs.get("person")
    if report.when == "call" and report.failed and person is not None:
        report.sections.append(("the page", f"{person.page.url}\n{person.page.locator('body').inner_text()[:3000]}"))
    return report
