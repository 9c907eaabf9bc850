"""AnalysisTemplates: how measurements are judged, and what a rollout does about it."""

import http.server
import json
import shutil
import subprocess
import threading
import time

import httpx
import pytest

from headrace.contracts.analysis_template import TemplateMetric
from headrace.contracts.verdict import Outcome
from headrace.control.rollouts import actions, measurements, prometheus, queries
from headrace.control.rollouts.measurements import Measurement, assess, evaluate, is_due, verdict
from headrace.control.rollouts.prometheus import MeasurementError
from headrace.control.rollouts.verification import verify
from headrace.ports import free_port

HIGH = TemplateMetric("success-rate", "high", "http://127.0.0.1:1", "q", success="result[0] >= 0.95")


def _metric(**more):
    values = {"template": "t", "name": "m", "address": "http://127.0.0.1:1", "query": "q"}
    return TemplateMetric(**{**values, **more})


def _seen(phases):
    words = {"S": "Successful", "F": "Failed", "I": "Inconclusive", "E": "Error"}
    return [Measurement(float(i), words[letter], ["1"]) for i, letter in enumerate(phases)]


@pytest.mark.parametrize(
    ("success", "failure", "answer", "phase"),
    [
        ("result[0] > 1", "", ["2"], "Successful"),
        ("result[0] > 1", "", ["1"], "Failed"),
        ("", "result[0] > 1", ["2"], "Failed"),
        ("", "result[0] > 1", ["1"], "Successful"),
        ("result[0] > 2", "result[0] < 1", ["1.5"], "Inconclusive"),
        ("result[0] > 2", "result[0] < 1", ["0.5"], "Failed"),
        ("result[0] > 2", "result[0] < 1", ["2.5"], "Successful"),
        ("result[0] > 1", "result[0] > 1", ["2"], "Failed"),
        ("", "", [], "Successful"),
        ("result[0] > 1", "", [], "Error"),
        ("result[0] > 1", "", ["NaN"], "Failed"),
        ("isNaN(result[0]) || result[0] > 1", "", ["NaN"], "Successful"),
        ("len(result) == 0 || result[0] > 1", "", [], "Successful"),
        ("default(result[0], 0) < 0.05", "", [], "Successful"),
        ("result > 1", "", "+Inf", "Successful"),
    ],
)
def test_an_answer_has_the_phase_that_argo_gives_it(success, failure, answer, phase):
    assert evaluate(_metric(success=success, failure=failure), answer)[0] == phase


@pytest.mark.parametrize(
    ("phases", "phase", "more"),
    [
        ("", "Running", {}),
        ("S", "Successful", {}),
        ("SS", "Running", {"count": 3}),
        ("SSS", "Successful", {"count": 3}),
        ("F", "Failed", {"count": 3}),
        ("F", "Running", {"count": 3, "failure_limit": 1}),
        ("FSF", "Failed", {"count": 5, "failure_limit": 1}),
        ("FSS", "Successful", {"count": 3, "failure_limit": 1}),
        ("I", "Inconclusive", {"count": 3}),
        ("IS", "Running", {"count": 3, "inconclusive_limit": 1}),
        ("EEEE", "Running", {}),
        ("EEEEE", "Error", {}),
        ("EEEESEEEE", "Running", {"count": 3}),
        ("EES", "Successful", {}),
        ("EE", "Error", {"error_limit": 1}),
        ("SSSS", "Running", {"count": None}),
    ],
)
def test_measurements_come_to_what_argo_makes_of_them(phases, phase, more):
    assert assess(_metric(**more), _seen(phases)) == phase


def test_the_worst_of_the_metrics_counts_and_a_dry_run_has_no_say():
    good, bad = _metric(name="good"), _metric(name="bad")
    seen = {"t/good": _seen("S"), "t/bad": _seen("F")}
    assert verdict([good], seen).outcome is Outcome.PASSED
    assert verdict([good, bad], seen).outcome is Outcome.FAILED
    assert verdict([_metric(name="late", count=3), bad], seen).outcome is Outcome.FAILED, "others need not end"
    assert verdict([_metric(name="late", count=3), good], seen) is None
    assert verdict([good, _metric(name="bad", dry_run=True)], seen).outcome is Outcome.PASSED
    assert verdict([_metric(name="good")], {"t/good": _seen("I")}).outcome is Outcome.INCONCLUSIVE
    assert verdict([_metric(name="good")], {"t/good": _seen("EEEEE")}).outcome is Outcome.ERROR


def test_a_measurement_is_due_after_its_delay_and_then_after_each_interval():
    metric = _metric(initial_delay=10.0, interval=5.0, count=3)
    assert not is_due(metric, [], since=100.0, now=109.0)
    assert is_due(metric, [], since=100.0, now=110.0)
    seen = [Measurement(110.0, "Successful", ["1"])]
    assert not is_due(metric, seen, since=100.0, now=114.0)
    assert is_due(metric, seen, since=100.0, now=115.0)
    assert not is_due(metric, [*seen] * 3, since=100.0, now=999.0)
    failed = [Measurement(110.0, "Error", None)]
    assert not is_due(_metric(), failed, since=100.0, now=119.0)
    assert is_due(_metric(), failed, since=100.0, now=120.0), "an error is tried again after 10 s"


# The rollout

DOCUMENT = """\
apiVersion: headrace.dev/v1alpha1
kind: Rollout
metadata: {name: delay}
spec:
  strategy: %s
  analysis: {warmup: 0s, interval: 1s}
---
apiVersion: argoproj.io/v1alpha1
kind: AnalysisTemplate
metadata: {name: rate}
spec:
  args: [{name: revision}]
  metrics:
  - name: rate
    count: 2
    interval: 5s
    successCondition: result[0] >= 0.95
    failureCondition: result[0] < 0.9
    consecutiveErrorLimit: 1
    provider: {prometheus: {address: "http://127.0.0.1:1", query: 'rate{revision="{{args.revision}}"}'}}
"""
LATEST = "templates: [{templateName: rate}], args: [{name: revision, valueFrom: {podTemplateHashValue: Latest}}]"
CANARY = "{canary: {steps: [{setWeight: 10}, {analysis: {LATEST}}]}}".replace("LATEST", LATEST)
GREEN = "{blueGreen: {prePromotionAnalysis: {LATEST}, postPromotionAnalysis: {LATEST}}}".replace("LATEST", LATEST)
QUERY = 'rate{revision="delay-00002"}'


@pytest.fixture
def start(stage):
    def start(strategy=CANARY, answer=("0.99",)):
        stage.answers[QUERY] = answer if isinstance(answer, Exception) else list(answer)
        stage.stable()
        rollout = stage.ask(DOCUMENT % strategy, model="models:/m/2")
        stage.step()
        return rollout

    return start


def _measured(stage, rollout, times):
    """Passes until so many measurements are stored: providers are asked in threads."""
    deadline = time.monotonic() + 30
    while len(queries.rollout_json(stage.database, rollout)["measurements"]) < times:
        assert time.monotonic() < deadline
        stage.step()
        time.sleep(0.005)


def test_a_canary_goes_on_when_its_measurements_succeed(stage, start):
    rollout = start()
    _measured(stage, rollout, 1)
    assert stage.row(rollout).step == 1
    stage.step(5)
    _measured(stage, rollout, 2)
    stage.step()
    assert stage.row(rollout).state == "Healthy"
    found = queries.rollout_json(stage.database, rollout)
    (judged,) = found["verdicts"]
    assert (judged["kind"], judged["outcome"]) == ("templates", "passed")
    assert judged["summary"] == "rate: 2 of 2 measurements successful, the last with [0.99] for result[0] >= 0.95"
    assert [one["same"] for one in verify(stage.database, rollout)] == [True]
    assert [(one["phase"], one["value"]) for one in found["measurements"]] == [("Successful", ["0.99"])] * 2


@pytest.mark.parametrize(
    ("answer", "state", "says"),
    [
        (("0.5",), "Degraded", "rate: 1 of 1 measurements failed, the last with [0.5] for result[0] < 0.9"),
        (("0.92",), "Paused", "rate: 1 of 1 measurements inconclusive"),
    ],
)
def test_a_failed_measurement_rolls_back_and_an_inconclusive_one_waits_for_a_person(
    stage, start, answer, state, says
):  # fmt: skip
    rollout = start(answer=answer)
    _measured(stage, rollout, 1)
    assert stage.row(rollout).state == state
    assert stage.row(rollout).message.startswith(says)
    assert stage.traffic.weights().get("delay-00002") == (10 if state == "Paused" else None)


def test_a_provider_that_does_not_answer_rolls_back_after_its_error_limit(stage, start):
    rollout = start(answer=MeasurementError("nobody there"))
    _measured(stage, rollout, 1)
    assert stage.row(rollout).state == "Progressing"
    stage.step(10)
    _measured(stage, rollout, 2)
    assert stage.row(rollout).state == "Degraded"
    assert stage.row(rollout).message == "rate: 2 of 2 measurements error: nobody there"


def test_a_preview_is_measured_before_it_serves_and_after(stage, start):
    rollout = start(GREEN)
    _measured(stage, rollout, 1)
    assert stage.traffic.weights() == {"delay-00001": 100, "delay-00002": 0}
    stage.step(5)
    _measured(stage, rollout, 2)
    stage.step()
    assert stage.traffic.weights() == {"delay-00001": 0, "delay-00002": 100}
    assert stage.row(rollout).state == "Progressing"
    stage.answers[QUERY] = ["0.1"]
    _measured(stage, rollout, 3)
    assert stage.row(rollout).state == "Degraded"
    assert stage.traffic.weights() == {"delay-00001": 100}
    assert stage.service().stable == "delay-00001"


def test_a_preview_that_fails_before_it_serves_never_does(stage, start):
    rollout = start(GREEN, answer=("0.1",))
    _measured(stage, rollout, 1)
    assert stage.row(rollout).state == "Degraded"
    assert all(weights.get("delay-00002", 0) == 0 for weights in stage.traffic.applied)


def test_a_person_skips_an_analysis_and_its_answer_comes_too_late(stage, start):
    rollout = start()
    actions.promote(stage.database, rollout, actor="user:ann", reason="", at=stage.clock.now())
    stage.step()
    assert stage.row(rollout).state == "Healthy"
    assert queries.rollout_json(stage.database, rollout)["measurements"] == []


def test_what_a_killed_controller_has_asked_is_asked_again(stage, start):
    rollout = start()
    stage.step()
    stage.revive()
    _measured(stage, rollout, 1)
    assert len(measurements.read(stage.database, rollout, 1)["rate/rate"]) == 1


# Prometheus


class Api:
    """A small HTTP server that answers the query API of Prometheus with what a test says."""

    def __init__(self):
        self.answer, self.status, self.asked = {}, 200, []
        api = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                api.asked.append((self.path, body, dict(self.headers)))
                self.send_response(api.status)
                self.end_headers()
                self.wfile.write(api.answer if isinstance(api.answer, bytes) else json.dumps(api.answer).encode())

            def log_message(self, *words):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()


@pytest.fixture
def api():
    api = Api()
    yield api
    api.server.shutdown()
    api.server.server_close()


def _result(kind, result):
    return {"status": "success", "data": {"resultType": kind, "result": result}}


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        (_result("vector", [{"metric": {}, "value": [1.0, "0.95"]}, {"metric": {}, "value": [1.0, "NaN"]}]),
         ["0.95", "NaN"]),
        (_result("vector", []), []),
        (_result("scalar", [1.0, "2"]), "2"),
    ],
)  # fmt: skip
def test_a_vector_and_a_scalar_are_read(api, answer, value):
    api.answer = answer
    metric = _metric(address=api.address, headers=(("X-Scope", "delay"),))
    assert prometheus.query(metric, 'up{job="a"}') == value
    ((path, body, headers),) = api.asked
    assert (path, body, headers["X-Scope"]) == ("/api/v1/query", "query=up%7Bjob%3D%22a%22%7D", "delay")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({"status": "error", "error": "parse error"}, "parse error"),
        (_result("matrix", []), "a matrix cannot be judged"),
        (b"<html>", "gives no answer"),
        ({"hello": 1}, "does not answer as a Prometheus"),
        ([], "does not answer as a Prometheus"),
    ],
)
def test_another_answer_is_an_error_of_the_measurement(api, answer, says):
    api.answer = answer
    with pytest.raises(MeasurementError) as caught:
        prometheus.query(_metric(address=api.address), "up")
    assert says in caught.value.problem


def test_nobody_there_is_an_error_of_the_measurement():
    with pytest.raises(MeasurementError, match="gives no answer"):
        prometheus.query(_metric(address=f"http://127.0.0.1:{free_port()}"), "up")


@pytest.fixture
def real_prometheus(tmp_path):
    """The address of a real Prometheus that scrapes itself."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed")
    port = free_port()
    (tmp_path / "prometheus.yml").write_text(
        "scrape_configs:\n- job_name: self\n  scrape_interval: 1s\n  static_configs:\n"
        f"  - targets: ['127.0.0.1:{port}']\n"
    )
    process = subprocess.Popen(
        [program, f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data",
         f"--web.listen-address=127.0.0.1:{port}"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while not _scraped(address):
            assert time.monotonic() < deadline, "Prometheus does not start"
            time.sleep(0.1)
        yield address
    finally:
        process.kill()
        process.wait()


def _scraped(address):
    try:
        return httpx.get(f"{address}/api/v1/query", params={"query": 'up{job="self"} == 1'}).json()["data"]["result"]
    except (httpx.HTTPError, ValueError, KeyError):
        return []


def test_a_real_prometheus_is_asked(real_prometheus):
    metric = _metric(address=real_prometheus, success="len(result) == 1 && result[0] == 1")
    assert evaluate(metric, prometheus.query(metric, 'up{job="self"}')) == ("Successful", "")
    assert prometheus.query(metric, 'up{job="nobody"}') == []
    assert prometheus.query(metric, "scalar(vector(2.5))") == "2.5"
    assert prometheus.query(metric, "vector(0) / 0") == ["NaN"]
    with pytest.raises(MeasurementError, match="parse error"):
        prometheus.query(metric, "up{")
    with pytest.raises(MeasurementError, match="a matrix cannot be judged"):
        prometheus.query(metric, "up[5m]")


@pytest.mark.parametrize(("query", "state"), [("up", "Healthy"), ("up - 0.5", "Degraded")])
def test_a_rollout_goes_by_what_a_real_prometheus_answers(stage, real_prometheus, query, state):
    text = (DOCUMENT % CANARY).replace("http://127.0.0.1:1", real_prometheus).replace("count: 2", "count: 1")
    text = text.replace("""'rate{revision="{{args.revision}}"}'""", query)
    assert real_prometheus in text
    assert f"query: {query}}}" in text
    stage.controller.measurer.query = prometheus.query
    stage.stable()
    rollout = stage.ask(text, model="models:/m/2")
    stage.step()
    _measured(stage, rollout, 1)
    stage.step()
    assert stage.row(rollout).state == state
    (one,) = queries.rollout_json(stage.database, rollout)["measurements"]
    assert one["value"] == (["1"] if state == "Healthy" else ["0.5"])
