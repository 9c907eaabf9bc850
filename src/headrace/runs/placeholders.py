"""The command line of a container component, with its placeholders replaced.

Source: pipeline_spec.proto, PipelineContainerSpec; kfp.dsl.placeholders for IfPresent and Concat.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from headrace.contracts.pipeline_spec import values
from headrace.runs.inputs import EXECUTOR_INPUT

_KEY = r"\[(?P<{0}>['\"])(?P<{1}>[^'\"]+)(?P={0})\]"
_PLACEHOLDER = re.compile(
    r"\{\{\$(?:\.(?P<side>inputs|outputs)(?:\.(?P<kind>parameters|artifacts)"
    + _KEY.format("quote", "name")
    + r")?(?:\.(?P<field>\w+)(?:"
    + _KEY.format("quote2", "part")
    + r")?)?|\.\w+)?\}\}"
)
_REMOTE = {"gs://": "/gcs/", "s3://": "/s3/", "minio://": "/minio/", "oci://": "/oci/"}


def command_line(words: list[str], given: Mapping[str, Any], job: Mapping[str, str]) -> list[str]:
    """The words of a command for an ExecutorInput; IfPresent and Concat may give several, one or none.

    `job` holds what KFP's job placeholders stand for.
    """
    return [word for text in words for word in _expanded(_structure(text), given, job)]


def replaced(text: str, given: Mapping[str, Any], job: Mapping[str, str]) -> str:
    """One text with its placeholders replaced; what is not given becomes empty."""

    def value(found: re.Match[str]) -> str:
        return job[found[0]] if found[0] in job else _value(found, given)

    return _PLACEHOLDER.sub(value, text)


def _structure(text: str) -> Any:
    """IfPresent and Concat come as JSON in a word of the command; everything else is text."""
    if text.startswith(('{"IfPresent"', '{"Concat"', "{'IfPresent'", "{'Concat'")):
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text


def _expanded(node: Any, given: Mapping[str, Any], job: Mapping[str, str]) -> list[str]:
    if isinstance(node, list):
        return [word for item in node for word in _expanded(item, given, job)]
    if isinstance(node, Mapping) and "Concat" in node:
        return ["".join(word for item in node["Concat"] for word in _expanded(item, given, job))]
    if isinstance(node, Mapping) and "IfPresent" in node:
        choice = node["IfPresent"]
        branch = choice.get("Then") if _present(choice["InputName"], given) else choice.get("Else")
        return _expanded(branch, given, job) if branch is not None else []
    return [replaced(str(node), given, job)]


def _present(name: str, given: Mapping[str, Any]) -> bool:
    inputs = given["inputs"]
    return inputs["parameterValues"].get(name) is not None or bool(inputs["artifacts"].get(name, {}).get("artifacts"))


def _value(found: re.Match[str], given: Mapping[str, Any]) -> str:
    side, kind, name, field = found["side"], found["kind"], found["name"], found["field"]
    if side is None:
        return json.dumps(given) if field is None and found[0] == EXECUTOR_INPUT else found[0]
    if kind is None:
        return str(given["outputs"]["outputFile"]) if (side, field) == ("outputs", "output_file") else found[0]
    if kind == "parameters":
        return _parameter(side, name, given)
    return _artifact(given[side]["artifacts"].get(name, {}).get("artifacts", []), field, found["part"])


def _parameter(side: str, name: str, given: Mapping[str, Any]) -> str:
    if side == "outputs":
        return str(given["outputs"]["parameters"].get(name, {}).get("outputFile", ""))
    value = given["inputs"]["parameterValues"].get(name)
    return "" if value is None else values.to_text(value)


def _artifact(artifacts: list[Mapping[str, Any]], field: str | None, part: str | None) -> str:
    if field is None:
        # The SDK writes the whole artifact only where there may be several.
        return json.dumps(artifacts, separators=(",", ":"))
    if not artifacts:
        return ""
    first = artifacts[0]
    if field == "path":
        return _path(str(first["uri"]))
    if field == "metadata":
        metadata = first.get("metadata") or {}
        return values.to_text(metadata if part is None else metadata.get(part, ""))
    return values.to_text(first.get(field, ""))


def _path(uri: str) -> str:
    """Where the SDK expects the content of a URI to be mounted."""
    for scheme, mount in _REMOTE.items():
        if uri.startswith(scheme):
            return mount + uri.removeprefix(scheme)
    return uri
