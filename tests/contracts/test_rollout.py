import pytest

from headrace.contracts import rollout
from headrace.errors import DocumentError

TEXT = """\
apiVersion: headrace.dev/v1alpha1
kind: Rollout
metadata: {name: delay}
spec:
  strategy:
    canary:
      scaleDownDelaySeconds: 30
      steps:
      - setWeight: 5
      - analysis: {minRequests: 40}
      - setWeight: 50
      - pause: {duration: 10s}
      - pause: {}
  analysis:
    alpha: 0.01
    interval: 2s
    metrics:
    - {name: errors, weight: 2}
    - {name: latency, threshold: 100ms}
"""


def test_a_document_becomes_steps_and_an_analysis():
    found = rollout.parse(TEXT, "rollout.yaml")
    assert [step.kind for step in found.steps] == ["setWeight", "analysis", "setWeight", "pause", "pause"]
    assert found.steps[1].min_requests == 40
    assert (found.steps[3].seconds, found.steps[4].seconds) == (10.0, None)
    assert found.analysis.alpha == 0.01
    assert found.analysis.metrics[1].threshold_ms == 100
    assert found.scale_down_delay == 30
    assert (found.next_weight(0), found.next_weight(1), found.next_weight(2)) == (50, 50, 100)
    assert rollout.Rollout.from_dict(found.to_dict()) == found


@pytest.mark.parametrize(
    ("old", "new", "line", "field"),
    [
        ("setWeight: 5\n", "setWeight: 500\n", 9, "setWeight"),
        ("name: errors", "name: error", 18, "name"),
        ("alpha: 0.01", "alpha: 1.5", 15, "alpha"),
        ("{duration: 10s}", "{duration: soon}", 12, "duration"),
        ("minRequests", "minRequest", 10, "minRequest"),
        ("canary:", "rolling:", 6, "rolling"),
        (", threshold: 100ms", "", 19, "threshold"),
        ("weight: 2}", "weight: 0}", 18, "weight"),
        ("weight: 2}", "margin: -1}", 18, "margin"),
    ],
)
def test_a_wrong_field_is_named_with_its_line(old, new, line, field):
    with pytest.raises(DocumentError) as caught:
        rollout.parse(TEXT.replace(old, new), "rollout.yaml")
    assert caught.value.line == line
    assert field in caught.value.field
