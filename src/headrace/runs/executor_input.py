"""What a component is given and gives back: ExecutorInput and ExecutorOutput of the KFP v2 contract."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.contracts.pipeline_spec import values
from headrace.errors import HeadraceError
from headrace.runs.model import Artifact, ReadyTask
from headrace.store.artifacts import content

# In a folder of their own no name of an author's meets those that Headrace has in the attempt's folder. What the
# component tells is there, too: so `dsl.get_uri()` is where the artifact is that the component returns.
ARTIFACTS = "artifacts"
OUTPUT_FILE = "executor_output.json"


class OutputError(HeadraceError):
    """A component ended well, but an output that it declares is not there or cannot be read."""


@dataclass(frozen=True)
class Outputs:
    """What a finished task gave: parameters, and artifacts with digest and size."""

    parameters: dict[str, Any]
    artifacts: dict[str, list[dict[str, Any]]]


def executor_input(task: ReadyTask, component: Any, directory: Path) -> dict[str, Any]:
    """The ExecutorInput JSON of an attempt whose outputs go into `directory`."""
    definitions = component.output_definitions
    return {
        "inputs": {
            "parameterValues": dict(task.parameters),
            "artifacts": {name: {"artifacts": list(items)} for name, items in task.artifacts.items()},
        },
        "outputs": {
            "parameters": {
                name: {"outputFile": str(directory / "parameters" / name)} for name in definitions.parameters
            },
            "artifacts": {
                name: {"artifacts": [_provisioned(name, spec, directory)]}
                for name, spec in definitions.artifacts.items()
            },
            "outputFile": str(directory / ARTIFACTS / OUTPUT_FILE),
        },
    }


def read_outputs(component: Any, given: Mapping[str, Any], directory: Path) -> Outputs:
    """Read what the component left behind, and digest its artifacts.

    Raises:
        OutputError: a declared output parameter was not written or cannot be read; a custom path does not exist.
    """
    told = _told(directory)
    parameters = {}
    for name, spec in component.output_definitions.parameters.items():
        parameters[name] = _parameter(name, spec, told, given)
    artifacts = {}
    for name, provisioned in given["outputs"]["artifacts"].items():
        written = told.get("artifacts", {}).get(name, {}).get("artifacts") or provisioned["artifacts"]
        artifacts[name] = [_described(_kept({**provisioned["artifacts"][0], **_said(item)})) for item in written]
    return Outputs(parameters, artifacts)


def _said(artifact: Artifact) -> dict[str, Any]:
    """What a component says of an artifact; an artifact that it made itself has an empty name."""
    return {key: value for key, value in artifact.items() if key != "name" or value}


def _told(directory: Path) -> dict[str, Any]:
    file = directory / ARTIFACTS / OUTPUT_FILE
    if not file.exists():
        # A task that an earlier Headrace has started writes it there.
        file = directory / OUTPUT_FILE
    try:
        told: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise OutputError(f"the component wrote an {OUTPUT_FILE} that cannot be read: {error}") from error
    return told


def _parameter(name: str, spec: Any, told: Mapping[str, Any], given: Mapping[str, Any]) -> Any:
    if name in told.get("parameterValues", {}):
        return values.normal(told["parameterValues"][name], spec.parameter_type)
    file = Path(given["outputs"]["parameters"][name]["outputFile"])
    if not file.is_file():
        raise OutputError(f"the component ended without its output parameter {name}")
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise OutputError(f"the component's output parameter {name} is not UTF-8 text: {error}") from error
    return values.from_text(text, spec.parameter_type)


def registered(name: str, kind: Any, uri: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The artifact at `uri`; its content's digest makes it the same wherever it lies.

    `kind` is an ArtifactTypeSchema. A path where nothing lies is registered, too, as KFP does it: who reads it fails.
    """
    path = Path(uri.removeprefix("file://"))
    local = is_local(uri)
    there = local and path.exists()
    return {
        "name": name,
        "type": _type(kind),
        "uri": str(path.resolve()) if local else uri,
        "metadata": dict(metadata),
        "digest": content.digest(path) if there else "",
        "bytes": content.size(path) if there else 0,
    }


def is_local(uri: str) -> bool:
    """Whether a URI is a path of this machine."""
    return "://" not in uri or uri.startswith("file://")


def _provisioned(name: str, spec: Any, directory: Path) -> dict[str, Any]:
    uri = str(directory / ARTIFACTS / name)
    return {"name": name, "type": _type(spec.artifact_type), "uri": uri, "metadata": {}}


def _type(kind: Any) -> dict[str, str]:
    if kind.instance_schema:
        return {"instanceSchema": kind.instance_schema}
    return {"schemaTitle": kind.schema_title, "schemaVersion": kind.schema_version}


def _described(artifact: Artifact) -> dict[str, Any]:
    """A finished artifact, with the digest and size (bytes) of its content where that lies on this machine."""
    path = Path(artifact["uri"])
    described = {key: artifact[key] for key in ("name", "type", "uri", "metadata") if key in artifact}
    described["metadata"] = values.normal(dict(artifact.get("metadata") or {}))
    described["digest"] = content.digest(path) if path.exists() else ""
    described["bytes"] = content.size(path) if path.exists() else 0
    return described


def _kept(artifact: Artifact) -> Artifact:
    """An artifact that the component wrote to a path of its own choice (`set_path`) is copied to where it belongs."""
    custom = artifact.get("custom_path") or artifact.get("customPath")
    if not custom:
        return artifact
    source, place = Path(custom), Path(artifact["uri"])
    if not source.exists():
        raise OutputError(f"the component gave {custom} as the path of {artifact['name']}, and nothing is there")
    if source.resolve() == place.resolve():
        return artifact
    making = place.with_name(f"{place.name}.tmp")
    if source.is_dir():
        shutil.copytree(source, making, dirs_exist_ok=True)
    else:
        shutil.copy2(source, making)
    if place.is_dir():
        shutil.rmtree(place)
    making.replace(place)
    return artifact
