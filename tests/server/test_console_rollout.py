"""The page of one rollout: both arms side by side, also when it is over."""

import html
import re

import pytest

from headrace.contracts import rollout_document
from headrace.contracts.inference_service import InferenceService
from headrace.contracts.verdict import Outcome
from headrace.control.rollouts import judging, queries, rows
from headrace.control.rollouts.judging import Counted
from headrace.control.rollouts.request import Model, request
from headrace.quality.analysis.window import Window
from headrace.serving import payload_log
from headrace.serving.payload_log import PayloadWriter

HTML = {"accept": "text/html"}
AT = 1_790_000_000.0
DOCUMENT = """\
apiVersion: headrace.dev/v1alpha1
kind: Rollout
metadata: {name: any}
spec:
  strategy: {canary: {steps: [{setWeight: 10}, {analysis: {}}]}}
  analysis:
    metrics:
    - {name: errors, weight: 2}
    - {name: latency, threshold: 100ms, margin: 1.25}
    - {name: labels}
"""


class Walked:
    """A second revision at 10 % of the traffic of a service of its own, whose windows a test stores."""

    def __init__(self, served, name, document=DOCUMENT):
        self.database = served.database
        self.document = rollout_document.parse(document, "rollout.yaml")
        self.windows = {}
        service = re.sub(r"[^a-z0-9]+", "-", name)[:50].strip("-")
        manifest = InferenceService(service, "default", "models:/iris@champion", "mlflow", service, (), 1, 60.0)
        for number in (1, 2):
            self.id = request(
                self.database, service=manifest, rollout=self.document, model=Model(f"models:/iris/{number}", "/m"),
                key=f"{name}-{number}", actor="user:mary", reason="why not", at=AT,
            )  # fmt: skip
            if number == 1:
                self.end("Healthy")
        rows.advance(self.database, self.row, weight=10, at=AT)

    @property
    def row(self):
        return rows.rollout(self.database, self.id)

    def count(self, took=None, judge=None, **fresh):
        """One more window of some metrics; judged, as the loop does it (default: the built-in analysis)."""
        for name, window in fresh.items():
            self.windows.setdefault(name, []).append(window)
        judge = judge or (lambda document, counted: judging.analysis_verdict(document, counted, next_weight=100))
        self.verdict = judge(self.document, Counted(self.windows))
        assert rows.record_windows(
            self.database, self.row, counted={}, windows=fresh, verdict=self.verdict, took=took,
            at=max(AT, self.row.counted_at) + 1,
        )  # fmt: skip

    def end(self, state):
        assert rows.finish(self.database, self.row, state, at=AT + 100)

    def text(self, served):
        """The page as a reader has it, tags left out."""
        page = served.raw("GET", f"/rollouts/{self.id}", headers=HTML)
        assert page.status_code == 200
        shown = re.sub(r"<[^>]+>", " ", re.sub(r"<script.*?</script>", " ", page.text, flags=re.S))
        return re.sub(r"\s+", " ", html.unescape(shown))


@pytest.fixture
def walked(served, name):
    return Walked(served, name)


def test_the_latencies_of_both_arms_stay_when_the_rollout_is_over(served, walked):
    assert "latency, p50" not in walked.text(served)
    walked.count(
        errors=Window(100, 0, 900, 0), took={"canary": {10.0: 0, 20.0: 100}, "stable": {10.0: 900, 20.0: 900}}
    )  # fmt: skip
    told = "latency, p50 of 900 5 ms of 100 15 ms latency, p90 9 ms 19 ms latency, p99 9.9 ms 19.9 ms"
    assert told in walked.text(served)
    walked.end("Healthy")
    assert told in walked.text(served)
    _, found = served.send("GET", f"/rollouts/{walked.id}.json")
    assert found["rollout"]["latency"]["canary"] == {"p50": 15.0, "p90": 19.0, "p99": 19.9, "requests": 100}
    assert found["rollout"]["latency"] == queries.rollout_json(served.database, walked.id)["latency"]


def test_of_one_arm_alone_the_latency_is_told_too(served, walked):
    walked.count(errors=Window(0, 0, 900, 0), took={"stable": {10.0: 900}})
    assert "latency, p50 of 900 5 ms latency, p90 9 ms" in walked.text(served)
    assert walked.verdict.outcome is Outcome.INCONCLUSIVE


def test_the_ratio_of_the_rates_is_told_in_words_and_figures(served, walked):
    for _ in range(20):
        walked.count(errors=Window(100, 3, 900, 20), latency=Window(100, 0, 900, 0))
    _, found = served.send("GET", f"/rollouts/{walked.id}.json")
    errors, latency = found["curves"]
    (judged, *_) = walked.verdict.evidence["metrics"]
    assert [errors["low"][-1], errors["high"][-1]] == judged["ratio_interval"]
    assert (errors["e_values"][-1], errors["limit"], errors["margin"]) == (judged["e_value"], judged["limit"], 1.5)
    assert errors["ratios"][-1] == pytest.approx(3 / 100 / (20 / 900))
    assert len(errors["at"]) == len(errors["e_values"]) == len(errors["ratios"]) == 20
    text, low, high = walked.text(served), *(f"{end:.3g}" for end in judged["ratio_interval"])
    assert f"errors 1.35 {low} {high} 1.5 {errors['words']} latency – – – 1.25 {latency['words']}" in text
    assert errors["words"].startswith("the new revision's error rate is 0.")
    assert latency["words"].startswith("the counts do not tell how the new revision's share of requests over 100 ms")


def test_curves_of_a_long_rollout_have_few_points(served, walked):
    for _ in range(405):
        walked.count(errors=Window(10, 0, 90, 1))
    _, found = served.send("GET", f"/rollouts/{walked.id}.json")
    (errors,) = found["curves"]
    assert len(errors["at"]) == len(errors["low"]) == 135
    assert errors["high"][-1] == walked.verdict.evidence["metrics"][0]["ratio_interval"][1]


def test_late_labels_say_how_many_predictions_were_right(served, walked):
    walked.count(labels=Window(200, 10, 1200, 71))
    assert "predictions right of 1,200 94.1 % of 200 95 %" in walked.text(served)
    walked.end("Degraded")
    assert "predictions right of 1,200 94.1 % of 200 95 %" in walked.text(served)


def test_of_a_first_revision_is_told_how_many_predictions_were_right(served, walked, monkeypatch):
    monkeypatch.setattr("headrace.serving.payload_log.time.time", lambda: AT + 1)
    first = rows.find(served.database, "service = ?", (walked.row.service,))[0]
    page = served.raw("GET", f"/rollouts/{first.id}", headers=HTML).text
    assert "there was none to compare it with" in page
    assert "predictions right" not in page
    home = served.platform.home
    writer = PayloadWriter(payload_log.path(home, first.service), first.to_revision)
    for i in range(50):
        writer.add(f"{first.id}-{i}", 1)
    writer.close()
    payload_log.record_labels(home, first.service, [(f"{first.id}-{i}", int(i > 3)) for i in range(40)], at=AT + 2)
    _, found = served.send("GET", f"/rollouts/{first.id}.json")
    assert found["right"] == {"canary": {"labelled": 40, "wrong": 4}}
    page = served.raw("GET", f"/rollouts/{first.id}", headers=HTML).text
    assert re.search(
        r'predictions right</th><td class="n"></td><td class="n"></td><td class="n">of 40</td>.*90 %', page
    )


def test_what_is_counted_is_said_beside_the_counts(served, walked):
    walked.count(errors=Window(100, 3, 900, 20), latency=Window(100, 9, 900, 0), labels=Window(50, 1, 100, 2))
    text = walked.text(served)
    assert "errors requests that failed 20 of 900 2.22 %" in text
    assert "latency requests that took over 100 ms 0 of 900 0 %" in text
    assert "labels predictions that were wrong 2 of 100 2 %" in text


def test_where_a_rollout_ended_is_marked(served, walked):
    assert "where it ended" not in walked.text(served)
    walked.end("Degraded")
    assert "judge , where it ended" in walked.text(served)


HEAD = "apiVersion: headrace.dev/v1alpha1\nkind: Rollout\nmetadata: {name: any}\n"


def test_an_a_b_test_is_shown_with_its_conversions_and_what_is_known_of_them(served, name):
    strategy = "{abTest: {sticky: {header: x-user-id}, duration: 1h, metric: {name: bought}}}"
    walked = Walked(served, name, f"{HEAD}spec: {{strategy: {strategy}}}\n")
    walked.count(
        judge=lambda document, counted: judging.test_verdict(document.test, counted),
        errors=Window(100, 0, 100, 0), bought=Window(100, 30, 100, 20),
    )  # fmt: skip
    text = walked.text(served)
    assert "bought conversions 20 of 100 20 % 30 of 100 30 %" in text
    assert "inconclusive bought: 30 of 100 with the new revision (30.00%), 20 of 100 with the stable one" in text
    _, found = served.send("GET", f"/rollouts/{walked.id}.json")
    assert [curve["metric"] for curve in found["curves"]] == ["errors"]


def test_the_disagreement_of_a_shadow_is_told_with_its_own_test(served, name):
    walked = Walked(served, name, f"{HEAD}spec: {{strategy: {{shadow: {{minRequests: 10}}}}}}\n")
    walked.count(errors=Window(100, 0, 100, 0), disagreement=Window(100, 3, 0, 0))
    (*_, judged) = walked.verdict.evidence["metrics"]
    assert (
        f"disagreement answers that differ 3 of 100 3 % {judged['e_value']:.4g} {judged['limit']:.4g} errors"
        in walked.text(served)
    )


def test_what_one_revision_answers_alone_is_not_taken_for_what_both_did(served, name):
    watch = "watch: {duration: 1h, metrics: [{name: errors, budget: 0.02}, {name: labels}]}"
    walked = Walked(served, name, f"{HEAD}spec: {{strategy: {{canary: {{steps: [{{setWeight: 10}}]}}}}, {watch}}}\n")
    walked.count(errors=Window(100, 3, 900, 20), labels=Window(50, 5, 450, 40))
    walked.end("Healthy")
    walked.count(
        judge=judging.watch_verdict,
        **{"labels": Window(50, 5, 450, 40), "watch/errors": Window(1000, 11, 9000, 90)},
    )  # fmt: skip
    labels, alone = walked.verdict.evidence["metrics"]
    low, high = (f"{100 * end:.3g}" for end in alone["canary"]["rate_interval"])
    text = walked.text(served)
    assert "errors requests that failed 20 of 900 2.22 % 3 of 100 3 %" in text, "without an interval of something else"
    assert "watch/errors requests that failed (new: since the promotion) 90 of 9,000 1 %" in text
    assert f"11 of 1,000 1.1 % {low} to {high} {alone['e_value']:.4g} {alone['limit']:.4g}" in text
    _, found = served.send("GET", f"/rollouts/{walked.id}.json")
    assert found["curves"][-1]["high"][-1] == labels["ratio_interval"][1]
