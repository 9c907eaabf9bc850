"""The page of one rollout: both arms side by side, also when it is over."""

import re

import pytest

from headrace.contracts import rollout_document
from headrace.contracts.inference_service import InferenceService
from headrace.contracts.verdict import Outcome
from headrace.control.rollouts import judging, queries, rows
from headrace.control.rollouts.judging import Counted
from headrace.control.rollouts.request import Model, request
from headrace.quality.analysis.window import Window

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
"""


class Walked:
    """A second revision at 10 % of the traffic of a service of its own, whose windows a test stores."""

    def __init__(self, served, name):
        self.database = served.database
        self.document = rollout_document.parse(DOCUMENT, "rollout.yaml")
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

    def count(self, took=None, **fresh):
        """One more window of some metrics; judged, as the loop does it."""
        for name, window in fresh.items():
            self.windows.setdefault(name, []).append(window)
        self.verdict = judging.analysis_verdict(self.document, Counted(self.windows), next_weight=100)
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
        return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", re.sub(r"<script.*?</script>", " ", page.text, flags=re.S)))


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
