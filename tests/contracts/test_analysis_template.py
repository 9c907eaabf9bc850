import json
from dataclasses import asdict

import pytest
import yaml

from headrace.contracts import analysis_template, rollout
from headrace.contracts.rollout_document import parse
from headrace.errors import DocumentError, UnsupportedError

ROLLOUT = """\
apiVersion: headrace.dev/v1alpha1
kind: Rollout
metadata: {name: delay}
spec:
  strategy:
    canary:
      steps:
      - setWeight: 20
      - analysis:
          templates:
          - templateName: success-rate
          args:
          - {name: service, value: delay}
          - name: revision
            valueFrom: {podTemplateHashValue: Latest}
"""
TEMPLATE = """\
---
apiVersion: argoproj.io/v1alpha1
kind: AnalysisTemplate
metadata: {name: success-rate}
spec:
  args:
  - name: service
  - name: revision
  - name: limit
    value: "0.95"
  dryRun:
  - metricName: "late.*"
  metrics:
  - name: success-rate
    interval: 10s
    count: 5
    initialDelay: 1m
    successCondition: len(result) > 0 && result[0] >= {{args.limit}}
    failureLimit: 2
    inconclusiveLimit: 1
    consecutiveErrorLimit: 3
    provider:
      prometheus:
        address: http://127.0.0.1:9090/
        timeout: 5
        headers: [{key: X-Scope, value: "{{ args.service }}"}]
        query: up{service="{{args.service}}", revision="{{args.revision}}"}
  - name: latency
    provider: {prometheus: {address: "http://127.0.0.1:9090", query: "1"}}
"""
TEXT = ROLLOUT + TEMPLATE


def test_a_template_is_read_with_the_arguments_of_the_analysis():
    found = parse(TEXT, "rollout.yaml")
    success, latency = found.steps[1].metrics
    assert success == analysis_template.TemplateMetric(
        template="success-rate", name="success-rate", address="http://127.0.0.1:9090",
        query='up{service="delay", revision="{{revisions.latest}}"}', timeout=5.0, headers=(("X-Scope", "delay"),),
        interval=10.0, count=5, initial_delay=60.0, success="len(result) > 0 && result[0] >= 0.95",
        failure_limit=2, inconclusive_limit=1, error_limit=3,
    )  # fmt: skip
    assert (latency.dry_run, latency.count, latency.failure_limit, latency.error_limit) == (True, 1, 0, 4)
    assert analysis_template.from_dict(json.loads(json.dumps(asdict(success)))) == success
    assert rollout.Rollout.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_the_template_is_one_that_argos_own_schema_takes(shared):
    crd = yaml.safe_load((shared / "crds" / "argo-rollouts" / "analysis-template-crd.yaml").read_text())
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    document = yaml.safe_load(TEMPLATE)["spec"]
    assert set(document) <= set(spec)
    metric = spec["metrics"]["items"]["properties"]
    assert set(document["metrics"][0]) <= set(metric)
    assert set(document["metrics"][0]["provider"]["prometheus"]) <= set(
        metric["provider"]["properties"]["prometheus"]["properties"]
    )
    # Every other provider of the schema is refused by its name.
    for provider in set(metric["provider"]["properties"]) - {"prometheus"}:
        text = ROLLOUT + TEMPLATE.replace("      prometheus:\n", f"      {provider}:\n", 1)
        with pytest.raises(UnsupportedError, match=f'the provider "{provider}" is not carried out'):
            parse(text, "rollout.yaml")


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("templateName: success-rate", "templateName: success", 11, 'there is no AnalysisTemplate "success"'),
        ("{name: service, value: delay}", "{name: servic, value: delay}", 22, '"service" has no value'),
        ("- {name: service, value: delay}", "- {name: service}", 13, "has no value"),
        ("podTemplateHashValue: Latest", "podTemplateHashValue: Newest", 15, "must be Latest or Stable"),
        ("args.limit", "args.limits", 33, "refers to {{args.limits}}, which is no argument"),
        ("result[0] >=", "resul[0] >=", 33, "'resul' is not known"),
        ("count: 5", "count: five", 31, "must be a whole number from 0"),
        ("interval: 10s", "interval: soon", 30, "is not a duration"),
        ("    interval: 10s\n", "", 29, "is needed for a count of 5"),
        ("    count: 5\n", "", 9, "runs without an end"),
        ("failureLimit: 2", "failureLimit: 5", 34, "must be less than the count of 5"),
        ("failureLimit", "failureLimits", 34, 'Did you mean "failureLimit"?'),
        ("http://127.0.0.1:9090/", "prometheus:9090", 39, "must be a URL"),
        ('"late.*"', '"late["', 27, "is no regular expression"),
        ("kind: AnalysisTemplate", "kind: AnalysisRun", 18, "must be AnalysisTemplate"),
        ("argoproj.io/v1alpha1", "argoproj.io/v1", 17, "must be argoproj.io/v1alpha1"),
        ("name: latency", "name: success-rate", 43, "is the name of another metric here, too"),
        ("    provider: {prometheus: {a", "    provider: {prometheu: {a", None, "is not carried out"),
    ],
)
def test_a_wrong_field_is_named_with_its_line(old, new, line, says):
    assert old in TEXT
    with pytest.raises((DocumentError, UnsupportedError)) as caught:
        parse(TEXT.replace(old, new, 1) if "latency" not in old else TEXT.replace(old, new), "rollout.yaml")
    assert says in str(caught.value)
    if line:
        assert f"rollout.yaml:{line}:" in str(caught.value)


def test_two_templates_of_one_name_are_refused():
    with pytest.raises(DocumentError, match='there are two templates called "success-rate"'):
        parse(TEXT + TEMPLATE, "rollout.yaml")


def test_the_order_of_the_documents_is_no_matter_and_there_is_one_rollout():
    turned = TEMPLATE.removeprefix("---\n") + "---\n" + ROLLOUT
    assert parse(turned, "rollout.yaml") == parse(TEXT, "rollout.yaml")
    assert parse("---\n" + TEXT + "---\n", "rollout.yaml") == parse(TEXT, "rollout.yaml")
    with pytest.raises(DocumentError, match="A file holds one rollout and its templates"):
        parse(ROLLOUT + "---\n" + ROLLOUT + TEMPLATE, "rollout.yaml")
    with pytest.raises(DocumentError, match=r"must be headrace\.dev"):
        parse(TEMPLATE, "rollout.yaml")
