import copy
import json
from pathlib import Path

import pytest
import yaml

from headrace.contracts import inference_service
from headrace.contracts.inference_service import InferenceService
from headrace.errors import DocumentError

FLIGHTS = Path(__file__).parents[2] / "examples" / "flights" / "serving" / "delay.yaml"
TEXT = """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: delay
  namespace: prod
  labels: {team: flights}
spec:
  predictor:
    minReplicas: 1
    timeout: 5
    model:
      modelFormat: {name: mlflow, version: "2"}
      protocolVersion: v2
      storageUri: models:/flight-delay@champion
      args:
      - --model_name=late
      env:
      - {name: COLOUR, value: blue}
      resources:
        limits: {cpu: 1500m, memory: 1Gi}
"""
SHORT = """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: iris}
spec: {predictor: {sklearn: {storageUri: models/iris}}}
"""


def test_a_document_becomes_a_service():
    assert inference_service.parse(TEXT, "delay.yaml") == InferenceService(
        name="delay",
        namespace="prod",
        storage_uri="models:/flight-delay@champion",
        model_format="mlflow",
        model_name="late",
        environment=(("COLOUR", "blue"),),
        threads=2,
        timeout_seconds=5.0,
    )


def test_the_short_form_has_defaults():
    service = inference_service.parse(SHORT, "iris.yaml")
    assert (service.namespace, service.model_name, service.model_format) == ("default", "iris", "sklearn")
    assert (service.threads, service.timeout_seconds, service.environment) == (1, 60.0, ())


def test_the_settings_of_a_revision_are_json():
    settings = inference_service.parse(TEXT, "delay.yaml").settings()
    assert json.loads(json.dumps(settings)) == {
        "model_name": "late",
        "environment": {"COLOUR": "blue"},
        "threads": 2,
        "timeout_seconds": 5.0,
    }


@pytest.mark.parametrize(("cpu", "threads"), [("100m", 1), ("1", 1), (2, 2), ("2500m", 3)])
def test_the_processor_limit_becomes_whole_threads(cpu, threads):
    text = TEXT.replace("limits: {cpu: 1500m, memory: 1Gi}", f"requests: {{cpu: {cpu}}}")
    assert inference_service.parse(text, "delay.yaml").threads == threads


@pytest.mark.parametrize(
    ("old", "new", "line", "field", "words", "remedy"),
    [
        ("v1beta1", "v1alpha1", 1, "apiVersion", "must be serving.kserve.io/v1beta1", ""),
        ("kind: Inf", "kind: Pre", 2, "kind", "must be InferenceService", ""),
        ("name: delay", "name: Delay", 4, "metadata.name", "'Delay' is not a name", "As in: delay."),
        ("  name: delay", "  nam: delay", 4, "metadata.nam", "is not a field", 'Did you mean "name"?'),
        ("namespace: prod", "namespace: my.prod", 5, "metadata.namespace", "'my.prod' is not a name", "default"),
        ("namespace: prod", "namespace: my/prod", 5, "metadata.namespace", "'my/prod' is not a name", "default"),
        ("  predictor:", "  transformer: {}\n  predictor:", 8, "spec.transformer", "is not a field", "predictor"),
        ("timeout: 5", "canaryTrafficPercent: 5", 10, "spec.predictor.canaryTrafficPercent", "is not a field", ""),
        ("minReplicas: 1", "minReplicas: 0", 9, "spec.predictor.minReplicas", "must be 1", "Leave it out."),
        ("timeout: 5", "timeout: soon", 10, "spec.predictor.timeout", "must be a number, not 'soon'", ""),
        ("timeout: 5", "timeout: -5", 10, "spec.predictor.timeout", "must be from 0.001 to 86400 seconds, not -5", ""),
        ("timeout: 5", "timeout: 0", 10, "spec.predictor.timeout", "seconds, not 0", ""),
        ("timeout: 5", "timeout: .inf", 10, "spec.predictor.timeout", "seconds, not inf", ""),
        ("    model:", "    sklearn: {storageUri: x}\n    model:", 8, "spec.predictor", "exactly one model", ""),
        ("mlflow,", "onnx,", 12, "spec.predictor.model.modelFormat.name", "'onnx' is not a format", "mlflow, sklearn"),
        ("Version: v2", "Version: grpc-v2", 13, "spec.predictor.model.protocolVersion", "must be v1 or v2", ""),
        ("storageUri", "storageUrl", 14, "spec.predictor.model.storageUrl", "is not a field", '"storageUri"?'),
        ("      storageUri: models:/flight-delay@champion\n", "", 11, "spec.predictor.model.storageUri",
         "is missing", "models:/NAME@champion"),
        ("--model_name=late", "--workers=2", 16, "spec.predictor.model.args[0]", "'--workers=2' is not", "model_name"),
        ("=late", "=late?x", 16, "spec.predictor.model.args[0]", "'late?x' is not a name", "--model_name=delay"),
        ("value: blue", "valueFrom: {}", 18, "spec.predictor.model.env[0].valueFrom", "is not a field", '"value"?'),
        ("name: COLOUR,", "", 18, "spec.predictor.model.env[0].name", "'' is not a name", "COLOUR"),
        ("name: COLOUR,", "name: A=B,", 18, "spec.predictor.model.env[0].name", "'A=B' is not a name", "COLOUR"),
        ("cpu: 1500m", "cpu: lots", 20, "spec.predictor.model.resources.limits.cpu", "'lots' is not a quantity", ""),
        ("cpu: 1500m", "gpu: 1", 20, "spec.predictor.model.resources.limits.gpu", "is not a field", '"cpu"?'),
    ],
)  # fmt: skip
def test_what_is_not_carried_out_is_named_with_its_line_field_and_remedy(old, new, line, field, words, remedy):
    text = TEXT.replace(old, new, 1)
    assert text != TEXT
    with pytest.raises(DocumentError) as caught:
        inference_service.parse(text, "delay.yaml")
    assert (caught.value.file, caught.value.line, caught.value.field) == ("delay.yaml", line, field)
    assert words in caught.value.problem
    assert remedy in caught.value.remedy
    assert str(caught.value).startswith(f"delay.yaml:{line}: {field}: ")


@pytest.mark.parametrize("text", ["", "- 1", "spec: [", "a: !colour blue", "a: &x {b: *x}", "[1]: 2"])
def test_what_is_no_document_is_refused_with_its_file(text):
    with pytest.raises(DocumentError) as caught:
        inference_service.parse(text, "delay.yaml")
    assert caught.value.file == "delay.yaml"


@pytest.fixture(scope="module")
def kserve(shared):
    """A validator with KServe's own schema of an InferenceService, which knows every field."""
    from jsonschema import Draft4Validator

    text = (shared / "crds" / "kserve" / "serving.kserve.io_inferenceservices.yaml").read_text(encoding="utf-8")
    crd = yaml.load(text, Loader=yaml.CSafeLoader)
    (version,) = (v for v in crd["spec"]["versions"] if v["name"] == "v1beta1")
    return Draft4Validator(_strict(version["schema"]["openAPIV3Schema"]))


def _strict(schema):
    """The schema with every unknown field refused, as an API server does on request."""
    schema = copy.copy(schema)
    if schema.pop("x-kubernetes-int-or-string", False):
        schema.pop("type", None)
    if "items" in schema:
        schema["items"] = _strict(schema["items"])
    if "properties" in schema:
        schema["properties"] = {name: _strict(one) for name, one in schema["properties"].items()}
        schema.setdefault("additionalProperties", bool(schema.get("x-kubernetes-preserve-unknown-fields")))
    return schema


@pytest.mark.parametrize("text", [TEXT, SHORT, FLIGHTS.read_text(encoding="utf-8")])
def test_what_is_accepted_is_valid_for_kserve(kserve, text):
    inference_service.parse(text, "delay.yaml")
    assert [error.message for error in kserve.iter_errors(yaml.safe_load(text))] == []


def test_what_kserve_knows_and_headrace_does_not_carry_out_is_refused(kserve):
    text = TEXT.replace("timeout: 5", "logger: {mode: all, url: http://sink}")
    assert kserve.is_valid(yaml.safe_load(text))
    with pytest.raises(DocumentError, match=r"spec\.predictor\.logger: is not a field that Headrace carries out"):
        inference_service.parse(text, "delay.yaml")


def test_a_field_that_kserve_does_not_know_is_invalid_there_too(kserve):
    assert not kserve.is_valid(yaml.safe_load(TEXT.replace("storageUri", "storageUrl")))
