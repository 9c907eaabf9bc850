"""Models in the console, on a real registry: versions side by side, who made them, and a registry that says nothing."""

import threading
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from headrace.project import wiring
from headrace.runs.submit import create_run
from headrace.server.console.models import Models
from headrace.server.console.patience import Patience
from headrace.server.requests import Call, Fields

HTML = {"accept": "text/html"}


@pytest.fixture(scope="module", autouse=True)
def mlflow():
    with warnings.catch_warnings():
        # MLflow and its libraries warn of each other while they are imported.
        warnings.simplefilter("ignore")
        import mlflow

        return mlflow


@pytest.fixture(scope="module")
def bees(served, packages, tmp_path_factory):
    """Three versions of a model; the run of the second is known here."""
    from headrace.contracts import pipeline_spec

    file = packages("total")
    run = create_run(
        served.database, pipeline_spec.parse(file.read_text(), str(file)), pipeline="total", parameters={},
        environment="dev", actor="user:mary", at=1_790_000_000.0, reason="to see",
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("model")
    (folder / "MLmodel").write_text("flavors: {}\n")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number, metrics in enumerate([{"auc": 0.7}, {"auc": 0.9, "rows": 5}, {"auc": 0.8, "rows": 5}]):
            served.platform.registry.register(
                "bees", folder, key=f"run/{number}", run_name="one", metrics=metrics,
                parameters={"depth": number, "trees": 9, **({"late": 1} if number == 2 else {})},
                tags={"headrace.run": run if number == 1 else "", "mlflow.source.git.commit": f"c0ffee{number}"},
            )  # fmt: skip
    return run


def test_versions_are_told_side_by_side(served, bees):
    page = served.send("GET", "/models/bees.json")[1]
    assert [one["version"] for one in page["versions"]] == [3, 2, 1]
    assert [one["metrics"].get("rows") for one in page["versions"]] == [5, 5, None]
    assert (page["parameters"], page["fixed"]) == (
        {"depth": ["2", "1", "0"], "late": ["1", None, None]},
        {"trees": "9"},
    )
    assert page["actors"] == {bees: "user:mary"}
    text = served.raw("GET", "/models/bees", headers=HTML).text
    assert all(words in text for words in ("c0ffee1", "user:mary", f'href="/runs/{bees}"'))


def test_a_metric_is_a_curve_over_the_versions_that_have_it(served, bees):
    auc, rows = served.send("GET", "/models/bees.json")[1]["curves"]
    assert [(one["version"], one["x"], one["y"]) for one in auc["points"]] == [(1, 0, 40), (2, 50, 0), (3, 100, 20)]
    assert (auc["lowest"], auc["highest"]) == (0.7, 0.9)
    # All the same: a line in the middle.
    assert [(one["version"], one["y"]) for one in rows["points"]] == [(2, 20), (3, 20)]
    text = served.raw("GET", "/models/bees", headers=HTML).text
    assert 'aria-label="auc: version 1 0.7, version 2 0.9, version 3 0.8"' in text


def test_a_version_says_who_made_it_of_what(served, bees):
    page = served.send("GET", "/models/bees/2.json")[1]
    assert (page["run"], page["actor"], page["data"]) == (bees, "user:mary", [])
    text = served.raw("GET", "/models/bees/2", headers=HTML).text
    assert "which user:mary started" in text
    assert "/lineage?start=model:bees@2" in text
    assert "not recorded" in text


def test_a_version_whose_mlflow_run_is_gone_is_shown_without_its_metrics(served, tmp_path, mlflow):
    (tmp_path / "MLmodel").write_text("flavors: {}\n")
    registry = served.platform.registry
    for number in range(2):
        registry.register(
            "wasps", tmp_path, key=f"run/{number}", run_name="one", parameters={}, metrics={"auc": 0.5}, tags={}
        )
    registry.client.create_model_version("wasps", str(tmp_path), run_id="0" * 32)
    page = served.send("GET", "/models/wasps.json")[1]
    assert [one["metrics"] for one in page["versions"]] == [{}, {"auc": 0.5}, {"auc": 0.5}]
    assert served.raw("GET", "/models/wasps/3", headers=HTML).status_code == 200


class Silent(BaseHTTPRequestHandler):
    """Is there, and answers nothing else: what a registry does whose database hangs."""

    def do_GET(self):
        if self.path != "/health":
            self.server.go.wait(60)
        self.send_response(200 if self.path == "/health" else 400)
        self.end_headers()

    def do_POST(self):
        self.do_GET()

    def log_message(self, *_):
        """Nothing to tell."""


@pytest.fixture
def silent(tmp_path, monkeypatch):
    """The platform of a project whose registry never answers."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Silent)
    server.go, server.daemon_threads = threading.Event(), True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    (tmp_path / "headrace.toml").write_text(f'[project]\nname = "x"\nmlflow = "{address}"\n')
    platform = wiring.build(tmp_path)
    yield platform
    server.go.set()
    server.shutdown()
    thread.join()
    server.server_close()
    platform.database.close()
    for one in threading.enumerate():
        if one.name == "registry":
            one.join(60)


def test_a_registry_that_never_answers_is_told_on_the_page(silent):
    models = Models(silent, {})
    models.patience = Patience(silent.registry, seconds=0.5)
    page = models.listed(Call({}, Fields(), Fields()))
    assert page.models == []
    assert page.problem == "MLflow has not answered in 0.5 s"
