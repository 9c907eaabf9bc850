import asyncio
import json
import subprocess

import httpx
import pytest

from headrace.contracts import inference_service, pipeline_spec, rollout_document
from headrace.control.rollouts import rows
from headrace.control.rollouts.request import Model, request
from headrace.governance import approvals
from headrace.project import wiring
from headrace.project.compile import compile_pipeline
from headrace.quality.analysis.window import Window
from headrace.runs.submit import create_run
from headrace.server.api import MAX_LABELS
from headrace.server.application import application
from headrace.server.requests import MAX_BODY_BYTES
from headrace.serving import payload_log

PREFIX = "/apis/headrace/v1"

PIPELINE = """
from kfp import dsl

@dsl.component
def add(a: float) -> float:
    return a + 2

@dsl.pipeline(name="sum")
def total(a: float = 1.0) -> float:
    return add(a=a).output
"""

DELAY = """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: delay}
spec: {predictor: {sklearn: {storageUri: models:/m/1}}}
"""

CANARY = """
apiVersion: headrace.dev/v1alpha1
kind: Rollout
spec: {strategy: {canary: {steps: [{setWeight: 5}, {pause: {}}]}}}
"""


JSON = {"content-type": "application/json"}


class Api:
    """The application, asked as over HTTP but without a socket; answers are (status, body)."""

    def __init__(self, platform):
        self.app = application(platform, {"project": "p", "gateway": "http://127.0.0.1:8081"})

    def get(self, path, **parameters):
        return self.send("GET", PREFIX + path, params=parameters)

    def post(self, path, body=None):
        return self.send("POST", PREFIX + path, json={} if body is None else body)

    def send(self, method, path, **more):
        async def once():
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
                return await client.request(method, path, **more)

        answer = asyncio.run(once())
        assert answer.headers["content-type"] == "application/json"
        return answer.status_code, json.loads(answer.text, parse_constant=lambda word: pytest.fail(f"{word}: no JSON"))


@pytest.fixture
def platform(tmp_path, monkeypatch):
    monkeypatch.delenv("HEADRACE_HOME", raising=False)
    platform = wiring.build(tmp_path)
    yield platform
    platform.database.close()


@pytest.fixture
def api(platform):
    return Api(platform)


@pytest.fixture(scope="module")
def document(tmp_path_factory):
    source = tmp_path_factory.mktemp("pipeline") / "sum.py"
    source.write_text(PIPELINE)
    return pipeline_spec.parse(compile_pipeline(source), str(source))


def _gate(platform, **more):
    with platform.database.transaction() as connection:
        return approvals.open_gate(
            connection, at=1.0, subject="run/1/task/ask", question="Deploy?", evidence={"auc": 0.7}, **more
        )


def _run(platform, document, a=1.0):
    return create_run(
        platform.database, document, pipeline="sum", parameters={"a": a}, environment="dev", actor="user:ann", at=2.0
    )


def _rollout(platform, key, healthy=False):
    """A rollout as `headrace deploy` asks for it, at `key` seconds; the loop that carries it out does not run here."""
    rollout_id = request(
        platform.database, service=inference_service.parse(DELAY, "d.yaml"),
        rollout=rollout_document.parse(CANARY, "r.yaml"), model=Model(f"models:/m/{key}", "/models/m"), key=key,
        actor="user:ann", reason="newer data", at=float(key),
    )  # fmt: skip
    if healthy:
        assert rows.finish(platform.database, rows.rollout(platform.database, rollout_id), "Healthy", at=float(key))
    return rollout_id


def test_health_tells_whose_server_this_is(api):
    status, told = api.send("GET", "/healthz")
    assert status == 200
    assert told == {"status": "ok", "version": told["version"], "project": "p", "gateway": "http://127.0.0.1:8081"}


def test_a_gate_is_approved_once_with_who_and_why(api, platform):
    gate = _gate(platform, parameters={"weight": {"default": 5}})
    assert [g["id"] for g in api.get("/gates", state="waiting")[1]] == [gate]
    assert api.get(f"/gates/{gate}")[1]["evidence"] == {"auc": 0.7}
    body = {"actor": "ann", "reason": "AUC is up", "values": {"weight": 10}}
    status, decided = api.post(f"/gates/{gate}:approve", body)
    assert (status, decided["state"], decided["values"]) == (200, "approved", {"weight": 10})
    (decision,) = decided["decisions"]
    assert (decision["actor"], decision["approved"], decision["reason"]) == ("user:ann", True, "AUC is up")
    assert api.post(f"/gates/{gate}:reject", {"actor": "bob"}) == (
        409, {"error": f"gate {gate}: the gate is approved already"},
    )  # fmt: skip
    assert (api.get("/gates", state="waiting"), len(api.get("/gates")[1])) == ((200, []), 1)
    assert [e["kind"] for e in api.get("/events", subject=f"gate/{gate}")[1]] == ["gate.opened", "gate.approved"]


def test_a_gate_is_rejected_by_whoever_runs_the_server_unless_named(api, platform, monkeypatch):
    monkeypatch.setenv("LOGNAME", "carla")
    status, decided = api.post(f"/gates/{_gate(platform)}:reject")
    assert (status, decided["state"], decided["decisions"][0]["actor"]) == (200, "rejected", "user:carla")


def test_one_person_cannot_approve_twice(api, platform):
    gate = _gate(platform, required=2)
    assert api.post(f"/gates/{gate}:approve", {"actor": "ann"})[1]["state"] == "waiting"
    status, told = api.post(f"/gates/{gate}:approve", {"actor": "ann"})
    assert (status, told["remedy"]) == (409, "Another person has to decide.")


@pytest.mark.parametrize(
    ("body", "error", "remedy"),
    [
        (b"{", "the body is not JSON", "Send a JSON object."),
        (b"[1]", "the body must be a JSON object", 'Send {"name": value'),
        (b'{"values": 5}', "values: must be an object", '"values": {'),
        (b'{"values": {"size": 1}}', "the gate does not ask for size", "nothing but a decision"),
        (b'{"actor": ["ann"]}', "actor: must be a string", '"actor": "'),
        (b'{"reason": 5}', "reason: must be a string", '"reason": "'),
        (b'"' + b"x" * MAX_BODY_BYTES + b'"', "the body is larger than 8 MiB", "Send less."),
    ],
    ids=["broken", "list", "values", "unasked", "actor", "reason", "too-large"],
)
def test_a_wrong_body_decides_nothing_and_is_told_what_to_send(api, platform, body, error, remedy):
    gate = _gate(platform)
    status, told = api.send("POST", f"{PREFIX}/gates/{gate}:approve", content=body, headers=JSON)
    assert status == 400
    assert error in told["error"]
    assert remedy in told["remedy"]
    assert api.get(f"/gates/{gate}")[1]["state"] == "waiting"


def test_what_does_not_exist_is_not_found(api):
    for path in ("/gates/nope", "/runs/nope", "/services/nope", "/rollouts/nope", "/rollouts/nope/windows"):
        status, told = api.get(path)
        assert (status, "nope" in told["error"], bool(told["remedy"])) == (404, True, True)
    for path in ("/gates/nope:approve", "/rollouts/nope:promote", "/services/nope:rollback"):
        assert api.post(path)[0] == 404
    assert api.send("GET", "/nowhere")[0] == 404
    status, told = api.send("DELETE", f"{PREFIX}/runs/nope")
    assert (status, told["error"]) == (405, f"DELETE {PREFIX}/runs/nope: Method Not Allowed")


def test_runs_are_shown_as_the_command_line_shows_them(api, platform, document):
    first, second = _run(platform, document), _run(platform, document, a=float("nan"))
    assert {run["run_id"] for run in api.get("/runs")[1]} == {first, second}
    assert len(api.get("/runs", limit=1)[1]) == 1
    status, run = api.get(f"/runs/{first[:8]}")
    assert (status, run["state"], run["actor"], run["run_details"]) == (
        200, "PENDING", "user:ann", {"task_details": []},
    )  # fmt: skip
    assert api.get(f"/runs/{second}")[1]["runtime_config"] == {"parameters": {"a": "NaN"}}


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "x", "²", "9" * 5000])
def test_a_limit_that_is_none_is_refused(api, limit):
    status, told = api.get("/runs", limit=limit)
    assert (status, told["error"]) == (400, "limit: must be a number from 1 to 1000")


def test_the_windows_of_a_rollout_are_told_with_what_they_say_so_far(api, platform):
    _rollout(platform, "1", healthy=True)
    rollout = _rollout(platform, "2")
    for at in range(5):
        row = rows.rollout(platform.database, rollout)
        windows = {"errors": Window(100, 3, 900, 20)}
        assert rows.record_windows(platform.database, row, counted={}, windows=windows, verdict=None, at=10.0 + at)
    status, told = api.get(f"/rollouts/{rollout}/windows")
    assert (status, len(told)) == (200, 5)
    low, high = told[-1]["ratio_interval"]
    assert low < told[-1]["ratio"] < high
    assert api.get(f"/rollouts/{rollout}/windows", points=2) == (200, [told[1], told[4]])
    assert api.get(f"/rollouts/{rollout}/windows", points=0)[0] == 400


def test_a_rollout_is_paused_promoted_and_aborted_by_name(api, platform):
    _rollout(platform, "1", healthy=True)
    rollout = _rollout(platform, "2")
    assert api.get("/rollouts")[1][0]["id"] == rollout
    assert api.get("/services/delay")[1]["rollout"] == rollout

    status, paused = api.post(f"/rollouts/{rollout}:pause", {"actor": "ann", "reason": "lunch"})
    assert (status, paused["state"], paused["message"]) == (200, "Paused", "paused by user:ann")
    assert api.post(f"/rollouts/{rollout}:pause")[0] == 409
    assert api.post(f"/rollouts/{rollout}:promote", {"actor": "ann"})[1]["state"] == "Progressing"
    aborted = api.post(f"/rollouts/{rollout}:abort", {"actor": "bob", "reason": "too slow"})[1]
    assert (aborted["state"], aborted["message"]) == ("Aborted", "aborted by user:bob: too slow")
    assert api.post(f"/rollouts/{rollout}:abort")[0] == 409
    assert api.get(f"/rollouts/{rollout}")[1] == aborted
    assert api.get(f"/rollouts/{rollout}/windows") == (200, [])
    told = [(e["kind"], e["actor"], e["reason"]) for e in api.get("/events", subject=f"rollout/{rollout}")[1]]
    assert told[0] == ("rollout.started", "user:ann", "newer data")
    assert ("rollout.paused", "user:ann", "lunch") in told


def test_a_service_goes_back_to_the_revision_before(api, platform):
    _rollout(platform, "1", healthy=True)
    (service,) = api.get("/services")[1]
    assert (service["name"], service["stable"]["id"], service["previous"]) == ("delay", "delay-00001", None)
    status, told = api.post("/services/delay:rollback")
    assert (status, told["remedy"]) == (400, "`headrace deploy` starts another model.")
    _rollout(platform, "2", healthy=True)
    status, back = api.post("/services/delay:rollback", {"actor": "ann", "reason": "complaints"})
    assert (status, back["to"]["id"], back["from"]["id"]) == (200, "delay-00001", "delay-00002")
    assert (back["actor"], back["reason"], back["state"]) == ("user:ann", "complaints", "Progressing")


def test_labels_join_predictions_by_their_id(api, platform):
    _rollout(platform, "1", healthy=True)
    writer = payload_log.PayloadWriter(payload_log.path(platform.home, "delay"), "delay-00001")
    writer.add("p1", 1)
    writer.add("p2", 0)
    writer.close()
    labels = [{"id": "p1", "value": 1}, {"id": "p2", "value": 1}, {"id": "unknown", "value": 0}]
    assert api.post("/labels", {"service": "delay", "labels": labels}) == (200, {"received": 3, "known": 2})
    assert payload_log.label_counts(platform.home, "delay") == {"delay-00001": payload_log.LabelCounts(2, 1)}
    assert api.post("/labels", {"service": "dely", "labels": labels})[0] == 404


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({}, "service: is missing"),
        ({"service": 5}, "service: must be a string"),
        ({"service": "delay"}, f"labels: must be a list of at most {MAX_LABELS}"),
        ({"service": "delay", "labels": [{"id": "p", "value": 0}] * (MAX_LABELS + 1)}, "labels: must be a list"),
        ({"service": "delay", "labels": [{"id": "p", "value": 0}, {"id": 5, "value": 0}]}, "labels[1]: must have an"),
        ({"service": "delay", "labels": [{"id": "p"}]}, "labels[0]: must have an id and a value"),
    ],
    ids=["nothing", "number", "no-labels", "too-many", "id", "value"],
)
def test_wrong_labels_are_pointed_at(api, body, error):
    status, told = api.post("/labels", body)
    assert status == 400
    assert told["error"].startswith(error)
    assert told["remedy"].startswith("Send {")


def test_events_are_read_on_from_a_number(api, platform, document):
    run_id = _run(platform, document)
    _gate(platform)
    first, second = api.get("/events")[1]
    assert (first["kind"], first["subject"], second["kind"]) == ("run.created", f"run/{run_id}", "gate.opened")
    assert api.get("/events", after=first["seq"])[1] == [second]
    assert api.get("/events", limit=1)[1] == [first]
    assert api.get("/events", after=2**63 - 1) == (200, [])
    for after in ("x", "-1", str(2**63)):
        assert api.get("/events", after=after)[0] == 400


def _git(repository, *arguments):
    git = ["git", "-C", str(repository), "-c", "user.name=a", "-c", "user.email=a@b"]
    return subprocess.run([*git, *arguments], capture_output=True, text=True, check=True).stdout.strip()


def test_a_push_starts_the_pipeline_that_watches_the_changed_files(api, platform, tmp_path):
    repository = tmp_path / "repository"
    repository.mkdir()
    _git(repository, "init", "-q", "-b", "main")
    (repository / "sum.py").write_text(PIPELINE)
    (repository / "headrace.toml").write_text(
        '[project]\nname = "p"\n[pipelines.total]\nsource = "sum.py"\ntriggers = ["push:*.py"]\n'
    )
    _git(repository, "add", ".")
    _git(repository, "commit", "-q", "-m", "Start")
    commit = _git(repository, "rev-parse", "HEAD")
    body = {"repository": str(repository), "ref": "refs/heads/main", "before": "0" * 40, "after": commit}

    status, told = api.post("/triggers/push", {**body, "actor": "ann"})
    (event,) = api.get("/events")[1]
    assert (status, told) == (200, {"event": event["seq"]})
    assert (event["kind"], event["actor"], event["data"]["after"]) == ("push.received", "user:ann", commit)
    (run_id,) = platform.triggers().handle_new()
    run = api.get(f"/runs/{run_id}")[1]
    assert (run["pipeline"], run["commit"]) == ("total", commit)
    assert run["reason"] == f"push {event['seq']}, {commit[:8]}: Start"

    for wrong, error in (
        ({"repository": str(tmp_path / "nowhere")}, "git cat-file failed"),
        ({"after": "1" * 40}, "git cat-file failed"),
        ({"after": "main"}, "after: 'main' is not a commit"),
        ({"before": "--output=/tmp/x"}, "before: '--output=/tmp/x' is not a commit"),
        ({"repository": "a\0b"}, "repository: must be a string"),
        ({"ref": ""}, "ref: is missing"),
    ):
        status, told = api.post("/triggers/push", {**body, **wrong})
        assert (status, error in told["error"], bool(told["remedy"])) == (400, True, True), told
    assert len([e for e in api.get("/events")[1] if e["kind"] == "push.received"]) == 1


@pytest.mark.parametrize(
    "headers",
    [{"content-type": "text/plain"}, {"content-type": "application/x-www-form-urlencoded"}, {}],
)
def test_what_another_sites_page_could_make_a_browser_send_changes_nothing(api, headers):
    status, told = api.send("POST", f"{PREFIX}/services/delay:rollback", content=b"{}", headers=headers)
    assert status == 400
    assert "application/json" in told["remedy"]


@pytest.mark.parametrize("headers", [{"origin": "http://evil.example.com"}, {"sec-fetch-site": "cross-site"}])
def test_another_sites_page_changes_nothing_even_with_json(api, headers):
    status, told = api.send("POST", f"{PREFIX}/services/delay:rollback", json={}, headers=headers)
    assert (status, "may change nothing here" in told["error"]) == (400, True)


def test_another_sites_name_for_this_machine_is_not_answered(api):
    status, _ = api.send("GET", "/healthz", headers={"host": "evil.example.com"})
    assert status == 400
