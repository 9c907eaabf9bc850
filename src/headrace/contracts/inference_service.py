"""KServe `InferenceService` v1beta1, as far as the embedded engine carries it out; every other field is refused.

Schema: https://kserve.github.io/website/docs/reference/crd-api
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from headrace.contracts import marked_yaml, quantities
from headrace.contracts.marked_yaml import MarkedDocument, Path

API_VERSION = "serving.kserve.io/v1beta1"
FORMATS = ("mlflow", "sklearn")
DEFAULT_TIMEOUT_SECONDS = 60.0
TIMEOUT_SECONDS = (0.001, 86400.0)
_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class InferenceService:
    """One service: which model, how it is run. `timeout_seconds` bounds a request; `threads` a prediction."""

    name: str
    namespace: str
    storage_uri: str
    model_format: str
    model_name: str
    environment: tuple[tuple[str, str], ...]
    threads: int
    timeout_seconds: float

    def settings(self) -> dict[str, Any]:
        """What a revision's model server needs, as JSON."""
        return {
            "model_name": self.model_name,
            "environment": dict(self.environment),
            "threads": self.threads,
            "timeout_seconds": self.timeout_seconds,
        }


def parse(text: str, file: str) -> InferenceService:
    """The service in `text`; `file` is only named in errors.

    Raises:
        DocumentError: a wrong document, or a field that the embedded engine does not carry out.
    """
    document = marked_yaml.parse(text, file)
    _check_head(document)
    predictor: Path = ("spec", "predictor")
    document.only(("spec",), ("predictor",))
    document.only(predictor, ("model", *FORMATS, "timeout", "minReplicas", "maxReplicas"))
    for replicas in ("minReplicas", "maxReplicas"):
        if document.typed((*predictor, replicas), int, 1) != 1:
            raise document.error((*predictor, replicas), "must be 1: one model server a revision", "Leave it out.")
    model, model_format = _model(document, predictor)
    uri = document.typed((*model, "storageUri"), str)
    if not uri:
        raise document.error((*model, "storageUri"), "is missing", "Name the model: models:/NAME@champion or a path.")
    name = document.typed(("metadata", "name"), str, "")
    return InferenceService(
        name=name,
        namespace=document.typed(("metadata", "namespace"), str, "default"),
        storage_uri=uri,
        model_format=model_format,
        model_name=_model_name(document, model) or name,
        environment=_environment(document, model),
        threads=_threads(document, model),
        timeout_seconds=_timeout(document, (*predictor, "timeout")),
    )


def _check_head(document: MarkedDocument) -> None:
    if document.get(("apiVersion",)) != API_VERSION:
        raise document.error(("apiVersion",), f"must be {API_VERSION}")
    if document.get(("kind",)) != "InferenceService":
        raise document.error(("kind",), "must be InferenceService")
    document.only((), ("apiVersion", "kind", "metadata", "spec"))
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


def _model(document: MarkedDocument, predictor: Path) -> tuple[Path, str]:
    """Where the model stands, and its format: `model.modelFormat.name`, or a short form such as `sklearn`."""
    given = [key for key in ("model", *FORMATS) if key in document.table(predictor)]
    if len(given) != 1:
        raise document.error(predictor, "must have exactly one model", "Write predictor.model with modelFormat.")
    model: Path = (*predictor, given[0])
    document.only(
        model,
        ("modelFormat", "storageUri", "protocolVersion", "args", "env", "resources") if given[0] == "model"
        else ("storageUri", "protocolVersion", "args", "env", "resources"),
    )  # fmt: skip
    if document.typed((*model, "protocolVersion"), str, "v1") not in ("v1", "v2"):
        raise document.error((*model, "protocolVersion"), "must be v1 or v2: both are always answered")
    if given[0] != "model":
        return model, given[0]
    document.only((*model, "modelFormat"), ("name", "version"))
    name = document.typed((*model, "modelFormat", "name"), str, "")
    if name not in FORMATS:
        raise document.error(
            (*model, "modelFormat", "name"), f"{name!r} is not a format that Headrace serves",
            f"Formats: {', '.join(FORMATS)}.",
        )  # fmt: skip
    return model, name


def _model_name(document: MarkedDocument, model: Path) -> str:
    name = ""
    for index, argument in enumerate(document.typed((*model, "args"), list, [])):
        found = re.fullmatch(r"--model_name[= ](.+)", str(argument))
        if found is None:
            raise document.error((*model, "args", index), f"{argument!r} is not an argument that Headrace knows",
                                 "Known: --model_name=NAME.")  # fmt: skip
        name = found[1]
        if not _MODEL_NAME.fullmatch(name):
            raise document.error((*model, "args", index), f"{name!r} is not a name for a path: letters, digits, . _ -",
                                 "As in: --model_name=delay.")  # fmt: skip
    return name


def _timeout(document: MarkedDocument, path: Path) -> float:
    seconds: float = document.typed(path, float, DEFAULT_TIMEOUT_SECONDS)
    shortest, longest = TIMEOUT_SECONDS
    if not shortest <= seconds <= longest:
        raise document.error(path, f"must be from {shortest:g} to {longest:g} seconds, not {seconds:g}")
    return seconds


def _environment(document: MarkedDocument, model: Path) -> tuple[tuple[str, str], ...]:
    pairs = []
    for index, _ in enumerate(document.typed((*model, "env"), list, [])):
        path: Path = (*model, "env", index)
        document.only(path, ("name", "value"))
        name = document.typed((*path, "name"), str, "")
        if not _VARIABLE.fullmatch(name):
            raise document.error((*path, "name"), f"{name!r} is not a name of a variable", "As in: COLOUR.")
        pairs.append((name, document.typed((*path, "value"), str, "")))
    return tuple(pairs)


def _threads(document: MarkedDocument, model: Path) -> int:
    """CPU limit, else request, rounded up to whole threads; 1 when none is given."""
    resources: Path = (*model, "resources")
    document.only(resources, ("limits", "requests"))
    for kind in ("limits", "requests"):
        document.only((*resources, kind), ("cpu", "memory"))
    for kind in ("limits", "requests"):
        cpu = document.get((*resources, kind, "cpu"))
        if cpu is not None:
            try:
                return max(1, math.ceil(quantities.quantity(cpu)))
            except ValueError as error:
                raise document.error((*resources, kind, "cpu"), str(error)) from error
    return 1
