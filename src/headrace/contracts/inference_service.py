"""KServe `InferenceService` v1beta1: what the embedded engine carries out of it, and what it says that it does not.

A field that would change the answers and is not carried out is refused. One that only steers where and how a cluster
runs the service is kept in `unused`, for `headrace check` to list.

Schema: https://kserve.github.io/website/docs/reference/crd-api
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from headrace.contracts import marked_yaml, quantities
from headrace.contracts.marked_yaml import MarkedDocument, Path, dotted

API_VERSION = "serving.kserve.io/v1beta1"
SHORT_FORMS = ("sklearn", "xgboost", "lightgbm", "onnx")
FORMATS = (*SHORT_FORMS, "mlflow")
DEFAULT_TIMEOUT_SECONDS = 60.0
TIMEOUT_SECONDS = (0.001, 86400.0)
# Of KServe's agent: pkg/batcher/handler.go.
DEFAULT_BATCH_SIZE, DEFAULT_BATCH_DELAY_MS = 32, 5000.0
LOGGER_MODES = ("all", "request", "response")
PAYLOAD_SAMPLE = "headrace.dev/payload-sample"
FASTER_FORM = "headrace.dev/faster-form"

_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_CLASS = re.compile(r"[^:]+\.py:[A-Za-z_]\w*")

_OTHER_FORMS = ("tensorflow", "pytorch", "triton", "huggingface", "pmml", "paddle")
_CARRIED_OUT = (
    "model", *SHORT_FORMS, *_OTHER_FORMS, "containers", "name", "minReplicas", "maxReplicas", "timeout", "batcher",
    "logger", "containerConcurrency", "canaryTrafficPercent", "labels", "annotations",
)  # fmt: skip
_SCALING = ("scaleTarget", "scaleMetric", "scaleMetricType", "autoScaling", "deploymentStrategy")
_POD = (
    "activeDeadlineSeconds", "affinity", "automountServiceAccountToken", "dnsConfig", "dnsPolicy",
    "enableServiceLinks", "hostAliases", "hostIPC", "hostNetwork", "hostPID", "hostUsers", "hostname",
    "hostnameOverride", "imagePullSecrets", "nodeName", "nodeSelector", "os", "overhead", "preemptionPolicy",
    "priority", "priorityClassName", "readinessGates", "resourceClaims", "resources", "restartPolicy",
    "runtimeClassName", "schedulerName", "schedulingGates", "securityContext", "serviceAccount",
    "serviceAccountName", "setHostnameAsFQDN", "shareProcessNamespace", "storageContainerName", "subdomain",
    "terminationGracePeriodSeconds", "tolerations", "topologySpreadConstraints", "volumes",
)  # fmt: skip
_MODEL = ("modelFormat", "storageUri", "protocolVersion", "args", "env", "resources")
_CONTAINER = (
    "image", "imagePullPolicy", "lifecycle", "livenessProbe", "ports", "readinessProbe", "resizePolicy",
    "restartPolicy", "restartPolicyRules", "runtime", "runtimeVersion", "securityContext", "startupProbe", "stdin",
    "stdinOnce", "terminationMessagePath", "terminationMessagePolicy", "tty", "volumeDevices", "volumeMounts",
)  # fmt: skip
_PLACED = "says where and as whom a cluster runs it"
_SCALED = "there is one machine and no autoscaling: minReplicas workers run at all times"
_CONTAINED = "the model server is a process of Headrace's own, in no container"


@dataclass(frozen=True)
class Unused:
    """A field that means something on a cluster and nothing here."""

    field: str
    line: int | None
    why: str


@dataclass(frozen=True)
class Batcher:
    """Requests that are put together: at most `size` rows, none held back longer than `delay_ms`."""

    size: int
    delay_ms: float


@dataclass(frozen=True)
class InferenceService:
    """One service: which model, how it is run.

    `timeout_seconds` bounds a request, `threads` a prediction, `memory_bytes` all processes of a revision together (0:
    no limit). `workers` processes answer, each at most `concurrency`
    requests at a time (0: the server's own limit). `model_class` and `transformer` are `FILE.py:CLASS`, relative to
    the project. `logged` says what the payload log keeps beside ids and predictions: all, request, response or "",
    of the share `sample` of all requests. `faster_form`: whether a faster form of the model that agrees with it may
    predict. `canary_percent`: the share that the newest model gets until the manifest says another one; None: what the
    rollout document says. `canary` is the second model of `spec.canary`.
    """

    name: str
    namespace: str
    storage_uri: str
    model_format: str
    model_name: str
    environment: tuple[tuple[str, str], ...]
    threads: int
    timeout_seconds: float
    memory_bytes: float = 0.0
    workers: int = 1
    concurrency: int = 0
    batcher: Batcher | None = None
    logged: str = ""
    sample: float = 1.0
    faster_form: bool = True
    model_class: str = ""
    transformer: str = ""
    canary_percent: int | None = None
    canary: InferenceService | None = None
    unused: tuple[Unused, ...] = ()

    @property
    def newest(self) -> InferenceService:
        """What a deployment is about: the canary of `spec.canary`, else the predictor itself."""
        return self.canary or self

    def within(self, root: str) -> InferenceService:
        """The same with the files of its classes found from the folder `root`, wherever it is read."""
        return replace(
            self,
            model_class=_from(root, self.model_class),
            transformer=_from(root, self.transformer),
            canary=self.canary.within(root) if self.canary else None,
        )

    def settings(self) -> dict[str, Any]:
        """What a revision's model server needs, as JSON."""
        return {
            "model_name": self.model_name,
            "model_format": self.model_format,
            "environment": dict(self.environment),
            "threads": self.threads,
            "timeout_seconds": self.timeout_seconds,
            "memory_bytes": self.memory_bytes,
            "workers": self.workers,
            "concurrency": self.concurrency,
            "batch_size": self.batcher.size if self.batcher else 0,
            "batch_delay_ms": self.batcher.delay_ms if self.batcher else 0.0,
            "model_class": self.model_class,
            "transformer": self.transformer,
            "logged": self.logged,
            "sample": self.sample,
            "faster_form": self.faster_form,
        }


def parse(text: str, file: str) -> InferenceService:
    """The service in `text`; `file` is only named in errors.

    Raises:
        DocumentError: a wrong document, or a field that would change the answers and is not carried out.
    """
    document = marked_yaml.parse(text, file)
    _check_head(document)
    document.only(("spec",), ("predictor", "transformer", "canary", "explainer"))
    if document.get(("spec", "explainer")) is not None:
        raise document.error(("spec", "explainer"), "is not served: no model here explains its predictions")
    service = _Reader(document).service()
    return replace(service, canary=_canary(document, service))


def _from(root: str, place: str) -> str:
    return f"{root}/{place}" if place and not place.startswith("/") else place


def _canary(document: MarkedDocument, stable: InferenceService) -> InferenceService | None:
    """The model of `spec.canary`: what it says, over what the stable predictor says."""
    listed: Path = ("spec", "canary")
    canaries = document.typed(listed, list, [])
    if not canaries:
        return None
    if len(canaries) > 1:
        raise document.error((*listed, 1), "is one canary too many: one at a time is carried out", "Leave it out.")
    if stable.canary_percent is not None:
        raise document.error(
            ("spec", "predictor", "canaryTrafficPercent"), "stands beside spec.canary", "Write one of them."
        )
    place: Path = (*listed, 0)
    document.only(place, ("predictor", "trafficPercent"))
    predictor: Path = (*place, "predictor")
    name = document.typed((*predictor, "name"), str, "")
    if not _NAME.fullmatch(name):
        raise document.error((*predictor, "name"), f"{name!r} is not a name: lower-case letters, digits and -",
                             "A canary has a name of its own.")  # fmt: skip
    percent = _percent(document, (*place, "trafficPercent"))
    return replace(_Reader(_merged(document, predictor)).service(), canary_percent=percent or 0)


def _merged(document: MarkedDocument, predictor: Path) -> MarkedDocument:
    """The document with the canary's predictor over the stable one. Each field keeps the line that it stands on."""
    stable: Path = ("spec", "predictor")
    merged = _over(document.table(stable), document.table(predictor))
    depth = len(predictor)
    moved = {(*stable, *path[depth:]): line for path, line in document.lines.items() if path[:depth] == predictor}
    data = {**document.data, "spec": {**document.table(("spec",)), "predictor": merged}}
    return MarkedDocument(data, {**document.lines, **moved}, document.file)


def _over(below: Any, above: Any) -> Any:
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return {**below, **{key: _over(below.get(key), value) for key, value in above.items()}}


def _check_head(document: MarkedDocument) -> None:
    if document.get(("apiVersion",)) != API_VERSION:
        raise document.error(("apiVersion",), f"must be {API_VERSION}")
    if document.get(("kind",)) != "InferenceService":
        raise document.error(("kind",), "must be InferenceService")
    document.only((), ("apiVersion", "kind", "metadata", "spec", "status"))
    document.only(("metadata",), ("name", "namespace", "labels", "annotations"))
    name = document.typed(("metadata", "name"), str, "")
    if not _NAME.fullmatch(name):
        raise document.error(
            ("metadata", "name"), f"{name!r} is not a name: lower-case letters, digits and -", "As in: delay."
        )
    namespace = document.typed(("metadata", "namespace"), str, "default")
    if not _NAMESPACE.fullmatch(namespace):
        raise document.error(
            ("metadata", "namespace"), f"{namespace!r} is not a name: lower-case letters, digits and -",
            "As in: default.",
        )  # fmt: skip
    document.table(("spec", "predictor"), required=True)


class _Reader:
    """Reads the predictor and the transformer of a document, and notes what it leaves unused."""

    def __init__(self, document: MarkedDocument) -> None:
        self.document = document
        self.unused: list[Unused] = []

    def service(self) -> InferenceService:
        document, predictor = self.document, ("spec", "predictor")
        self.component(predictor)
        model, model_format = self.model(predictor)
        options = self.arguments(model)
        environment = self.environment(model)
        uri = document.typed((*model, "storageUri"), str, "") or dict(environment).get("STORAGE_URI", "")
        if not uri and not options.get("--model_class"):
            raise document.error(
                (*model, "storageUri"), "is missing", "Name the model: models:/NAME@champion or a path."
            )
        name = document.typed(("metadata", "name"), str, "")
        return InferenceService(
            name=name,
            namespace=document.typed(("metadata", "namespace"), str, "default"),
            storage_uri=uri,
            model_format=model_format,
            model_name=options.get("--model_name", name),
            environment=environment,
            threads=_threads(document, model),
            timeout_seconds=_timeout(document, (*predictor, "timeout")),
            memory_bytes=_memory(document, model),
            workers=self.workers(predictor, options),
            concurrency=_whole(document, (*predictor, "containerConcurrency"), 0),
            batcher=self.batcher(predictor),
            logged=self.logged(predictor),
            sample=self.sample(),
            faster_form=self.faster_form(),
            model_class=options.get("--model_class", ""),
            transformer=self.transformer(),
            canary_percent=_percent(document, (*predictor, "canaryTrafficPercent")),
            unused=tuple(self.unused),
        )

    def component(self, path: Path) -> None:
        """Fields of a predictor or transformer that are known and not carried out."""
        refused = ("initContainers", "workerSpec", "storageUris")
        self.document.only(path, (*_CARRIED_OUT, *_SCALING, *_POD, *refused))
        for field in refused:
            if self.document.get((*path, field)) is not None:
                raise self.document.error((*path, field), "is not carried out here", "Leave it out.")
        self.leave(path, _SCALING, _SCALED)
        self.leave(path, _POD, _PLACED)

    def leave(self, path: Path, fields: Iterable[str], why: str) -> None:
        for field in fields:
            if self.document.get((*path, field)) is not None:
                place = (*path, field)
                self.unused.append(Unused(dotted(place), self.document.lines.get(place), why))

    def model(self, predictor: Path) -> tuple[Path, str]:
        """Where the model stands, and its format: `model.modelFormat.name`, a short form such as `sklearn`, or a
        container of which the arguments name a Python class."""
        document = self.document
        table = document.table(predictor)
        for other in _OTHER_FORMS:
            if other in table:
                raise self.no_format((*predictor, other), other)
        given = [key for key in ("model", *SHORT_FORMS, "containers") if key in table]
        if len(given) != 1:
            raise document.error(predictor, "must have exactly one model", "Write predictor.model with modelFormat.")
        model: Path = (*predictor, given[0])
        if given[0] == "containers":
            return self.container(model), "python"
        known = _MODEL if given[0] == "model" else tuple(field for field in _MODEL if field != "modelFormat")
        self.known(model, known)
        if document.typed((*model, "protocolVersion"), str, "v1") not in ("v1", "v2", "grpc-v2"):
            raise document.error(
                (*model, "protocolVersion"), "must be v1, v2 or grpc-v2: all three are always answered"
            )
        if given[0] != "model":
            return model, given[0]
        document.only((*model, "modelFormat"), ("name", "version"))
        name = document.typed((*model, "modelFormat", "name"), str, "")
        if name not in FORMATS:
            raise self.no_format((*model, "modelFormat", "name"), name)
        return model, name

    def known(self, model: Path, carried_out: Iterable[str]) -> None:
        """Refuse fields of a container that would change the answers, and note those that would not."""
        document = self.document
        for field, remedy in (
            ("envFrom", "Write env with name and value."), ("storage", "Write storageUri."),
            ("command", "Leave it out."), ("workingDir", "Leave it out."), ("confidential", "Leave it out."),
        ):  # fmt: skip
            if document.get((*model, field)) is not None and field not in carried_out:
                raise document.error((*model, field), "is not carried out here", remedy)
        document.only(model, (*carried_out, "name", *_CONTAINER))
        self.leave(model, _CONTAINER, _CONTAINED)

    def no_format(self, path: Path, name: str) -> Exception:
        return self.document.error(
            path, f"{name!r} is not a format that Headrace serves",
            f"Formats: {', '.join(FORMATS)}; or a Python class: containers with --model_class=FILE.py:CLASS in args.",
        )  # fmt: skip

    def container(self, containers: Path) -> Path:
        """The one container of a custom predictor or transformer."""
        document = self.document
        if len(document.typed(containers, list, [])) != 1:
            raise document.error(containers, "must be one container", "Leave the others out.")
        path: Path = (*containers, 0)
        self.known(path, ("args", "env", "resources", "command"))
        if document.get((*path, "command")) not in (None, ["python", "-m", "headrace.serving.runtime"]):
            raise document.error(
                (*path, "command"), "is not run here: no container is",
                "Leave it out, or write [python, -m, headrace.serving.runtime], which an image with headrace can run.",
            )  # fmt: skip
        if "--model_class" not in self.arguments(path):
            raise document.error(
                path, "names no Python class", "Add it to args: --model_class=FILE.py:CLASS, relative to the project."
            )
        return path

    def transformer(self) -> str:
        path: Path = ("spec", "transformer")
        if self.document.get(path) is None:
            return ""
        self.component(path)
        if "containers" not in self.document.table(path):
            raise self.document.error(
                path, "has no containers", "Add one with the argument --model_class=FILE.py:CLASS."
            )
        container = self.container((*path, "containers"))
        self.leave(container, ("env", "resources"), "the transformer works in the process of the predictor")
        return self.arguments(container)["--model_class"]

    def arguments(self, model: Path) -> dict[str, str]:
        """The arguments as names and values; `--name=value` and `--name value` are the same."""
        document, given = self.document, {}
        for index, argument in enumerate(document.typed((*model, "args"), list, [])):
            place = (*model, "args", index)
            found = re.fullmatch(
                r"(--model_name|--model_class|--workers|--http_port|--grpc_port)[= ](.+)", str(argument)
            )
            if found is None:
                raise document.error(place, f"{argument!r} is not an argument that Headrace knows",
                                     "Known: --model_name=NAME, --workers=N, --model_class=FILE.py:CLASS.")  # fmt: skip
            name, value = found[1], found[2]
            if name == "--model_name" and not _MODEL_NAME.fullmatch(value):
                raise document.error(place, f"{value!r} is not a name for a path: letters, digits, . _ -",
                                     "As in: --model_name=delay.")  # fmt: skip
            if name == "--model_class" and not _CLASS.fullmatch(value):
                raise document.error(
                    place, f"{value!r} is no class in a file", "As in: --model_class=serving/own.py:Own."
                )
            if name == "--workers" and not re.fullmatch(r"[1-9]\d{0,2}", value):
                raise document.error(place, f"{value!r} is no number of workers", "As in: --workers=2.")
            given[name] = value
        return given

    def environment(self, model: Path) -> tuple[tuple[str, str], ...]:
        document, pairs = self.document, []
        for index, _ in enumerate(document.typed((*model, "env"), list, [])):
            path: Path = (*model, "env", index)
            document.only(path, ("name", "value"))
            name = document.typed((*path, "name"), str, "")
            if not _VARIABLE.fullmatch(name):
                raise document.error((*path, "name"), f"{name!r} is not a name of a variable", "As in: COLOUR.")
            pairs.append((name, document.typed((*path, "value"), str, "")))
        return tuple(pairs)

    def workers(self, predictor: Path, options: dict[str, str]) -> int:
        """How many processes answer: `--workers` of each of `minReplicas`."""
        least = _whole(self.document, (*predictor, "minReplicas"), 1)
        most = _whole(self.document, (*predictor, "maxReplicas"), 0)
        if most and most < least:
            raise self.document.error((*predictor, "maxReplicas"), f"is less than minReplicas ({least})")
        if least == 0:
            self.leave(predictor, ("minReplicas",), "nothing is scaled to zero: one worker stays")
        if most > max(least, 1):
            self.leave(predictor, ("maxReplicas",), _SCALED)
        return max(least, 1) * int(options.get("--workers", "1"))

    def batcher(self, predictor: Path) -> Batcher | None:
        path: Path = (*predictor, "batcher")
        if self.document.get(path) is None:
            return None
        self.document.only(path, ("maxBatchSize", "maxLatency", "timeout"))
        self.leave(path, ("timeout",), "a batch has the time of its requests")
        size = _whole(self.document, (*path, "maxBatchSize"), DEFAULT_BATCH_SIZE)
        delay = float(_whole(self.document, (*path, "maxLatency"), int(DEFAULT_BATCH_DELAY_MS)))
        return Batcher(size or DEFAULT_BATCH_SIZE, delay or DEFAULT_BATCH_DELAY_MS)

    def logged(self, predictor: Path) -> str:
        path: Path = (*predictor, "logger")
        if self.document.get(path) is None:
            return ""
        away = (
            "url",
            "metadataHeaders",
            "metadataAnnotations",
            "storage",
            "marshallerUrl",
            "batchSize",
            "batchInterval",
        )
        self.document.only(path, ("mode", *away))
        self.leave(path, away, "payloads are kept in the payload log of this machine, and sent nowhere")
        mode = str(self.document.typed((*path, "mode"), str, "all"))
        if mode not in LOGGER_MODES:
            raise self.document.error((*path, "mode"), f"must be one of {', '.join(LOGGER_MODES)}, not {mode!r}")
        return mode

    def sample(self) -> float:
        path: Path = ("metadata", "annotations", PAYLOAD_SAMPLE)
        told = self.document.get(path)
        try:
            share = 1.0 if told is None else float(told)
        except (TypeError, ValueError):
            share = math.nan
        if not 0 <= share <= 1:
            raise self.document.error(path, f"must be a share from 0 to 1, not {told!r}", 'As in: "0.1".')
        return share

    def faster_form(self) -> bool:
        path: Path = ("metadata", "annotations", FASTER_FORM)
        told = self.document.get(path)
        if told not in (None, "true", "false", True, False):
            raise self.document.error(path, f'must be "true" or "false", not {told!r}')
        return told in (None, "true", True)


def _whole(document: MarkedDocument, path: Path, default: int) -> int:
    number: int = document.typed(path, int, default)
    if not 0 <= number <= 1_000_000:
        raise document.error(path, f"must be a number from 0 on, not {number}")
    return number


def _percent(document: MarkedDocument, path: Path) -> int | None:
    percent: int | None = document.typed(path, int)
    if percent is not None and not 0 <= percent <= 100:
        raise document.error(path, f"must be a percentage from 0 to 100, not {percent}")
    return percent


def _timeout(document: MarkedDocument, path: Path) -> float:
    seconds: float = document.typed(path, float, DEFAULT_TIMEOUT_SECONDS)
    shortest, longest = TIMEOUT_SECONDS
    if not shortest <= seconds <= longest:
        raise document.error(path, f"must be from {shortest:g} to {longest:g} seconds, not {seconds:g}")
    return seconds


def _threads(document: MarkedDocument, model: Path) -> int:
    """CPU limit, else request, rounded up to whole threads; 1 when none is given."""
    resources: Path = (*model, "resources")
    document.only(resources, ("limits", "requests"))
    for kind in ("limits", "requests"):
        document.only((*resources, kind), ("cpu", "memory"))
    for kind in ("limits", "requests"):
        cpu = _quantity(document, (*resources, kind, "cpu"))
        if cpu is not None:
            return max(1, math.ceil(cpu))
    return 1


def _memory(document: MarkedDocument, model: Path) -> float:
    return _quantity(document, (*model, "resources", "limits", "memory")) or 0.0


def _quantity(document: MarkedDocument, path: Path) -> float | None:
    value = document.get(path)
    if value is None:
        return None
    try:
        return quantities.quantity(value)
    except ValueError as error:
        raise document.error(path, str(error)) from error
