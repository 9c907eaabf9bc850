import json

import pytest

from headrace.contracts import rollout, rollout_document
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
    found = rollout_document.parse(TEXT, "rollout.yaml")
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
        rollout_document.parse(TEXT.replace(old, new), "rollout.yaml")
    assert caught.value.line == line
    assert field in caught.value.field


HEAD = "apiVersion: headrace.dev/v1alpha1\nkind: Rollout\nmetadata: {name: delay}\nspec:\n  strategy:\n"
GREEN = HEAD + "    blueGreen:\n      autoPromotionEnabled: false\n      scaleDownDelaySeconds: 30\n"
AB = (
    HEAD
    + """\
    abTest:
      match:
      - {headerName: x-group, headerValue: {exact: b}}
      - {cookieName: group, cookieValue: {prefix: b}}
      duration: 14d
      minSamples: 5000
      metric: {name: purchase, kind: conversion, minEffect: 0.01}
      onInconclusive: rollback
"""
)
SHADOW = (
    HEAD
    + """\
    shadow:
      percent: 20
      minRequests: 200
      maxDisagreement: 0.02
      tolerance: 0.5
      promote: true
"""
)
STICKY = HEAD + "    canary:\n      sticky: {cookie: hr-user}\n      steps: [{setWeight: 5}]\n  watch: {duration: 1h}\n"


def test_every_strategy_becomes_steps():
    green, test, shadow, sticky = (rollout_document.parse(text, "r.yaml") for text in (GREEN, AB, SHADOW, STICKY))
    assert [(s.kind, s.weight, s.seconds) for s in green.steps] == [("pause", 0, None), ("setWeight", 100, None)]
    assert [s.kind for s in test.steps] == ["match", "test"]
    assert test.matches == (rollout.Match("b", header="x-group"), rollout.Match("b", "prefix", cookie="group"))
    assert test.test == rollout.Test(
        "purchase", "conversion", min_effect=0.01, duration=14 * 86400.0, min_samples=5000
    )  # fmt: skip
    assert test.analysis.on_inconclusive == "rollback"
    assert [(s.kind, s.weight) for s in shadow.steps] == [("mirror", 20), ("analysis", 0)]
    assert shadow.shadow == rollout.Shadow(0.02, 0.5, promote=True)
    assert (shadow.mirrored(0), shadow.mirrored(1)) == (0, 20)
    assert (sticky.sticky, sticky.watch.duration) == (rollout.Sticky(cookie="hr-user"), 3600.0)
    assert [metric.name for metric in sticky.counted_metrics] == ["errors", "labels"]
    assert ([m.name for m in sticky.watched_on_both], sticky.watched_alone) == (["labels"], ())
    assert (green.watch.duration, green.watched_alone) == (30.0, green.analysis.metrics)
    for found in (green, test, shadow, sticky):
        assert rollout.Rollout.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_a_rollout_that_was_stored_before_there_were_strategies_is_read():
    old = {
        "name": "delay",
        "steps": [{"kind": "setWeight", "weight": 5, "seconds": None, "min_requests": 30}],
        "analysis": {
            "alpha": 0.05, "interval": 1.0, "warmup": 2.0, "max_duration": 60.0, "on_inconclusive": "hold",
            "metrics": [],
        },
        "scale_down_delay": 60.0,
    }  # fmt: skip
    found = rollout.Rollout.from_dict(old)
    assert (found.strategy, found.sticky, found.watch) == ("canary", None, None)


@pytest.mark.parametrize(
    ("text", "old", "new", "says"),
    [
        (GREEN, "scaleDownDelaySeconds", "stableMetadata", "is not a field that Headrace carries out"),
        (GREEN, "scaleDownDelaySeconds", "autoPromotionSeconds", "no effect while autoPromotionEnabled is false"),
        (GREEN, "scaleDownDelaySeconds: 30", "prePromotionAnalysis: {templates: [{templateName: x}]}", "no Analysis"),
        (GREEN, "scaleDownDelaySeconds: 30", "prePromotionAnalysis: {}", "must name a template at least"),
        (AB, "      duration: 14d\n      minSamples: 5000\n", "", "needs duration or minSamples"),
        (AB, "duration: 14d", "sticky: {header: x-user}", "needs match or sticky, and not both"),
        (AB, "duration: 14d", "weight: 50", "goes with sticky"),
        (AB, "{exact: b}", "{exact: b, prefix: b}", "must be one of exact, prefix, regex"),
        (AB, "{exact: b}", '{regex: "b["}', "is no regular expression"),
        (AB, "headerName: x-group", 'headerName: "x group"', "is not a name that a header or cookie can have"),
        (AB, "kind: conversion", "kind: median", "must be one of conversion, mean"),
        (AB, "name: purchase, ", "", "is missing"),
        (AB, "name: purchase", "name: errors", "is the name of something else that is counted"),
        (SHADOW, "percent: 20", "percent: 0", "must be a percentage from 1 to 100"),
        (SHADOW, "maxDisagreement: 0.02", "maxDisagreement: 2.0", "must lie between 0 and 1"),
        (STICKY, "{cookie: hr-user}", "{cookie: a, header: b}", "must name a header or a cookie"),
        (STICKY, "sticky", "canaryMetadata", "is not a field that Headrace carries out"),
        (STICKY, "{duration: 1h}", "{duration: 1h, metrics: [{name: errors}, {name: errors}]}", "is listed already"),
        (STICKY, "watch: {duration: 1h}", "analysis: {metrics: [{name: errors}, {name: errors}]}", "is listed already"),
        (STICKY, "{duration: 1h}", "{}", "is missing"),
        (STICKY, "canary:", "canary: {}\n    shadow:", "must be one of canary, blueGreen, abTest, shadow"),
    ],
)
def test_a_wrong_strategy_is_refused(text, old, new, says):
    assert old in text
    with pytest.raises(DocumentError) as caught:
        rollout_document.parse(text.replace(old, new), "r.yaml")
    assert says in str(caught.value)
    assert str(caught.value).startswith("r.yaml:")
