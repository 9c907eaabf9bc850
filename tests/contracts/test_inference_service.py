import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from headrace.contracts import inference_service
from headrace.contracts.inference_service import Batcher, InferenceService
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
        memory_bytes=2.0**30,
    )
    assert inference_service.parse(TEXT, "delay.yaml").unused == ()


def test_the_short_form_has_defaults():
    service = inference_service.parse(SHORT, "iris.yaml")
    assert (service.namespace, service.model_name, service.model_format) == ("default", "iris", "sklearn")
    assert (service.threads, service.timeout_seconds, service.environment) == (1, 60.0, ())


def test_the_settings_of_a_revision_are_json():
    settings = inference_service.parse(TEXT, "delay.yaml").settings()
    assert json.loads(json.dumps(settings)) == {
        "model_name": "late", "model_format": "mlflow", "environment": {"COLOUR": "blue"}, "threads": 2,
        "timeout_seconds": 5.0, "memory_bytes": 2.0**30, "workers": 1, "concurrency": 0,
        "batch_size": 0, "batch_delay_ms": 0.0,
        "model_class": "", "transformer": "", "logged": "", "sample": 1.0, "faster_form": True,
    }  # fmt: skip


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
        ("timeout: 5", "timeout: soon", 10, "spec.predictor.timeout", "must be a number, not 'soon'", ""),
        ("timeout: 5", "timeout: -5", 10, "spec.predictor.timeout", "must be from 0.001 to 86400 seconds, not -5", ""),
        ("timeout: 5", "timeout: 0", 10, "spec.predictor.timeout", "seconds, not 0", ""),
        ("timeout: 5", "timeout: .inf", 10, "spec.predictor.timeout", "seconds, not inf", ""),
        ("    model:", "    sklearn: {storageUri: x}\n    model:", 8, "spec.predictor", "exactly one model", ""),
        ("mlflow,", "pmml,", 12, "spec.predictor.model.modelFormat.name", "'pmml' is not a format", "onnx, mlflow"),
        ("Version: v2", "Version: grpc-v1", 13, "spec.predictor.model.protocolVersion", "must be v1, v2 or", ""),
        ("  predictor:", "  explainer: {}\n  predictor:", 8, "spec.explainer", "is not served", ""),
        ("  predictor:", "  transformer: {}\n  predictor:", 8, "spec.transformer", "has no containers", "FILE.py"),
        ("  predictor:", "  transformer: {containers: [{image: x}]}\n  predictor:", 8,
         "spec.transformer.containers[0]", "names no Python class", "--model_class=FILE.py:CLASS"),
        ("    model:", "    workerSpec: {}\n    model:", 11, "spec.predictor.workerSpec", "is not carried out", ""),
        ("    model:", "    triton: {}\n    model:", 11, "spec.predictor.triton", "'triton' is not a format", "onnx"),
        ("timeout: 5", "canaryTrafficPercent: 101", 10, "spec.predictor.canaryTrafficPercent", "from 0 to 100", ""),
        ("minReplicas: 1", "minReplicas: -1", 9, "spec.predictor.minReplicas", "a number from 0 on", ""),
        ("timeout: 5", "maxReplicas: 2\n    minReplicas: 3", 10, "spec.predictor.maxReplicas", "less than minRep", ""),
        ("timeout: 5", "logger: {mode: some}", 10, "spec.predictor.logger.mode", "all, request, response", ""),
        ("timeout: 5", "logger: {mod: all}", 10, "spec.predictor.logger.mod", "is not a field", '"mode"?'),
        ("timeout: 5", "batcher: {maxBatchSize: many}", 10, "spec.predictor.batcher.maxBatchSize", "a whole", ""),
        ("labels: {team: flights}", 'annotations: {headrace.dev/payload-sample: "2"}', 6,
         "metadata.annotations.headrace.dev/payload-sample", "a share from 0 to 1, not '2'", "0.1"),
        ("labels: {team: flights}", 'annotations: {headrace.dev/faster-form: "no"}', 6,
         "metadata.annotations.headrace.dev/faster-form", """must be "true" or "false", not 'no'""", ""),
        ("      env:", "      envFrom: []\n      env:", 17, "spec.predictor.model.envFrom", "not carried out", "env"),
        ("storageUri", "storageUrl", 14, "spec.predictor.model.storageUrl", "is not a field", '"storageUri"?'),
        ("      storageUri: models:/flight-delay@champion\n", "", 11, "spec.predictor.model.storageUri",
         "is missing", "models:/NAME@champion"),
        ("--model_name=late", "--device=gpu", 16, "spec.predictor.model.args[0]", "'--device=gpu' is", "model_name"),
        ("=late", "=late?x", 16, "spec.predictor.model.args[0]", "'late?x' is not a name", "--model_name=delay"),
        ("value: blue", "valueFrom: {}", 18, "spec.predictor.model.env[0].valueFrom", "is not a field", '"value"?'),
        ("name: COLOUR,", "", 18, "spec.predictor.model.env[0].name", "'' is not a name", "COLOUR"),
        ("name: COLOUR,", "name: A=B,", 18, "spec.predictor.model.env[0].name", "'A=B' is not a name", "COLOUR"),
        ("cpu: 1500m", "cpu: lots", 20, "spec.predictor.model.resources.limits.cpu", "'lots' is not a quantity", ""),
        ("memory: 1Gi", "memory: big", 20, "spec.predictor.model.resources.limits.memory", "'big' is not a", ""),
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


FULL = (
    TEXT.replace(
        "    timeout: 5\n",
        """\
    timeout: 5
    maxReplicas: 4
    containerConcurrency: 8
    scaleTarget: 10
    nodeSelector: {disk: ssd}
    batcher: {maxBatchSize: 16, maxLatency: 20, timeout: 60}
    logger: {mode: response, url: http://sink}
""",
    )
    .replace("minReplicas: 1", "minReplicas: 2")
    .replace("      env:\n", "      image: team/image:1\n      env:\n")
    .replace(
        "labels: {team: flights}",
        'annotations: {headrace.dev/payload-sample: "0.25", headrace.dev/faster-form: "false"}',
    )
)


def test_what_is_carried_out_is_told_and_what_is_not_is_listed_with_its_line():
    service = inference_service.parse(FULL, "delay.yaml")
    assert (service.workers, service.concurrency, service.batcher) == (2, 8, Batcher(16, 20.0))
    assert (service.logged, service.sample, service.faster_form) == ("response", 0.25, False)
    assert [(one.field, one.line) for one in service.unused] == [
        ("spec.predictor.scaleTarget", 13),
        ("spec.predictor.nodeSelector", 14),
        ("spec.predictor.model.image", 23),
        ("spec.predictor.maxReplicas", 11),
        ("spec.predictor.batcher.timeout", 15),
        ("spec.predictor.logger.url", 16),
    ]
    assert all(one.why for one in service.unused)


def test_a_batcher_and_a_logger_have_the_defaults_of_kserve():
    service = inference_service.parse(TEXT.replace("timeout: 5", "batcher: {}\n    logger: {}"), "delay.yaml")
    assert (service.batcher, service.logged) == (Batcher(32, 5000.0), "all")


CUSTOM = """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: own}
spec:
  predictor:
    containers:
    - name: kserve-container
      image: team/own:1
      command: [python, -m, headrace.serving.runtime]
      args: [--model_class=serving/own.py:Own, --model_name=mine, --workers=2]
      env: [{name: STORAGE_URI, value: models/own}]
  transformer:
    containers:
    - {name: before, image: team/before:1, args: [--model_class=serving/before.py:Before]}
"""


def test_a_predictor_and_a_transformer_may_be_python_classes():
    service = inference_service.parse(CUSTOM, "own.yaml").within("/project")
    assert (service.model_format, service.model_name, service.workers) == ("python", "mine", 2)
    assert (service.storage_uri, service.model_class) == ("models/own", "/project/serving/own.py:Own")
    assert service.transformer == "/project/serving/before.py:Before"
    assert service.within("/elsewhere") == service


def test_what_a_container_runs_beside_the_class_is_refused():
    with pytest.raises(DocumentError, match=r"containers\[0\]\.command: is not run here"):
        inference_service.parse(
            CUSTOM.replace("[python, -m, headrace.serving.runtime]", "[python, own.py]"), "own.yaml"
        )
    with pytest.raises(DocumentError, match=r"args\[0\]: 'own:Own' is no class in a file"):
        inference_service.parse(CUSTOM.replace("serving/own.py:Own", "own:Own"), "own.yaml")


CANARY = (
    TEXT
    + """\
  canary:
  - trafficPercent: 10
    predictor:
      name: challenger
      model: {name: kserve-container, modelFormat: {name: mlflow}, storageUri: models:/flight-delay@challenger}
"""
)


def test_a_canary_is_what_it_says_over_what_the_stable_predictor_says():
    service = inference_service.parse(CANARY, "delay.yaml")
    assert (service.storage_uri, service.canary_percent) == ("models:/flight-delay@champion", None)
    canary = service.canary
    assert (canary.storage_uri, canary.canary_percent) == ("models:/flight-delay@challenger", 10)
    assert replace(canary, storage_uri=service.storage_uri, canary_percent=None) == replace(service, canary=None)


@pytest.mark.parametrize(
    ("old", "new", "line", "field", "words"),
    [
        ("name: challenger", "name: Challenger", 24, "spec.canary[0].predictor.name", "is not a name"),
        ("trafficPercent: 10", "trafficPercent: -1", 22, "spec.canary[0].trafficPercent", "from 0 to 100"),
        ("trafficPercent: 10", "percent: 10", 22, "spec.canary[0].percent", "is not a field"),
        (
            "storageUri: models:/flight-delay@challenger",
            "storageUrl: x",
            25,
            "spec.predictor.model.storageUrl",
            "is not a field",
        ),
        ("timeout: 5", "canaryTrafficPercent: 5", 10, "spec.predictor.canaryTrafficPercent", "beside spec.canary"),
        ("  - traffic", "  - {trafficPercent: 1}\n  - traffic", 23, "spec.canary[1]", "one canary too many"),
    ],
)
def test_a_wrong_canary_is_pointed_at(old, new, line, field, words):
    with pytest.raises(DocumentError) as caught:
        inference_service.parse(CANARY.replace(old, new), "delay.yaml")
    assert (caught.value.line, caught.value.field) == (line, field)
    assert words in caught.value.problem


@pytest.mark.parametrize("text", [FULL, CANARY, CUSTOM], ids=["full", "canary", "custom"])
def test_what_is_read_here_kserve_reads_too(kserve, text):
    assert list(kserve.iter_errors(yaml.safe_load(text))) == []
    assert inference_service.parse(text, "delay.yaml").name


def test_every_field_of_a_predictor_in_kserve_is_carried_out_listed_or_refused(shared):
    """None is dropped in silence, and none that is written right is called a slip."""
    crd = yaml.load(
        (shared / "crds" / "kserve" / "serving.kserve.io_inferenceservices.yaml").read_text(encoding="utf-8"),
        Loader=yaml.CSafeLoader,
    )
    (version,) = (v for v in crd["spec"]["versions"] if v["name"] == "v1beta1")
    predictor = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["predictor"]["properties"]
    slips = []
    for place, fields in (("predictor", predictor), ("model", predictor["model"]["properties"])):
        for field in fields:
            data = yaml.safe_load(TEXT)
            target = data["spec"]["predictor"] if place == "predictor" else data["spec"]["predictor"]["model"]
            target.setdefault(field, {})
            try:
                inference_service.parse(yaml.safe_dump(data), "delay.yaml")
            except DocumentError as error:
                slips += [field] if "is not a field" in error.problem else []
    assert slips == []


def test_a_field_that_kserve_does_not_know_is_invalid_there_too(kserve):
    assert not kserve.is_valid(yaml.safe_load(TEXT.replace("storageUri", "storageUrl")))
