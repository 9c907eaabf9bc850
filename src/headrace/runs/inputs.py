"""Resolve a task's inputs from its group's inputs and its siblings' outputs, by the IR's input map alone."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.contracts.pipeline_spec import values
from headrace.errors import HeadraceError
from headrace.runs.conditions import select
from headrace.runs.model import Artifact, NodeResult, RunContext, State

_INPUT = re.compile(r"\{\{\$\.inputs\.parameters\[(?P<quote>['\"])(?P<name>[^'\"]+)(?P=quote)\]\}\}")
MISSING = object()
EXECUTOR_INPUT = "{{$}}"


@dataclass(frozen=True)
class Resolved:
    """A task's inputs; `missing` names what a producer did not give."""

    parameters: dict[str, Any]
    artifacts: dict[str, Sequence[Artifact]]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class Scope:
    """The group that a task stands in: its inputs, and a way to its siblings' results."""

    parameters: Mapping[str, Any]
    artifacts: Mapping[str, Sequence[Artifact]]
    sibling: Callable[[str], NodeResult]
    context: RunContext


def resolve(task: Any, component: Any, scope: Scope, path: str) -> Resolved:
    """The inputs of a PipelineTaskSpec for a ComponentSpec; defaults fill what is not given."""
    definitions = component.input_definitions
    parameters: dict[str, Any] = {}
    missing: list[str] = []
    constants: list[str] = []
    for name, source in task.inputs.parameters.items():
        declared = definitions.parameters[name].parameter_type if name in definitions.parameters else 0
        value = _parameter(source, declared, scope)
        if value is MISSING:
            missing.append(name)
        else:
            parameters[name] = value
            if source.WhichOneof("kind") == "runtime_value":
                constants.append(name)
    _fill_defaults(definitions, parameters)
    for name in constants:
        declared = definitions.parameters[name].parameter_type if name in definitions.parameters else 0
        parameters[name] = _fill(parameters[name], declared, parameters, scope.context, path)
    artifacts: dict[str, Sequence[Artifact]] = {}
    for name, source in task.inputs.artifacts.items():
        found = _artifact(source, scope)
        if found is None:
            missing.append(name)
        else:
            artifacts[name] = found
    needed = [name for name in missing if not _optional(definitions, name) and name not in parameters]
    return Resolved(parameters, artifacts, tuple(needed))


def _parameter(source: Any, declared: int, scope: Scope) -> Any:
    kind = source.WhichOneof("kind")
    if kind == "component_input_parameter":
        value = scope.parameters.get(source.component_input_parameter, MISSING)
    elif kind == "task_output_parameter":
        producer = scope.sibling(source.task_output_parameter.producer_task)
        value = producer.parameters.get(source.task_output_parameter.output_parameter_key, MISSING)
    elif kind == "task_final_status":
        value = final_status(scope.sibling(source.task_final_status.producer_task), source.task_final_status, scope)
    else:
        value = values.from_message(source.runtime_value.constant, declared)
    if value is not MISSING and source.parameter_expression_selector:
        value = select(source.parameter_expression_selector, value)
    return value if value is MISSING else values.normal(value, declared)


def final_status(producer: NodeResult, source: Any, scope: Scope) -> dict[str, Any]:
    """`PipelineTaskFinalStatus` of a finished task, as JSON.

    Source: pipeline_spec.proto, PipelineTaskFinalStatus; the state words are SUCCEEDED and FAILED;
    the open source backend says COMPLETE for the first.
    """
    failed = producer.blocked or producer.state not in (State.SUCCEEDED, State.SKIPPED)
    succeeded = "COMPLETE" if scope.context.options.oss_parity else "SUCCEEDED"
    error = {"code": 1, "message": producer.message} if failed else {"code": 0, "message": ""}
    return {
        "state": "FAILED" if failed else succeeded,
        "error": error,
        "pipelineJobResourceName": scope.context.resource_name,
        "pipelineTaskName": source.producer_task,
    }


def _artifact(source: Any, scope: Scope) -> Sequence[Artifact] | None:
    if source.WhichOneof("kind") == "component_input_artifact":
        return scope.artifacts.get(source.component_input_artifact)
    producer = scope.sibling(source.task_output_artifact.producer_task)
    return producer.artifacts.get(source.task_output_artifact.output_artifact_key)


def _fill_defaults(definitions: Any, parameters: dict[str, Any]) -> None:
    for name, definition in definitions.parameters.items():
        if parameters.get(name) is None and definition.HasField("default_value"):
            parameters[name] = values.from_message(definition.default_value, definition.parameter_type)
        elif name in parameters and parameters[name] is None and definition.is_optional:
            del parameters[name]


def _fill(constant: Any, declared: int, parameters: Mapping[str, Any], context: RunContext, path: str) -> Any:
    """A constant with its placeholders replaced; one that is a placeholder and nothing else keeps its type."""
    replaced = filled(about_job(constant, context, path), parameters)
    if not isinstance(replaced, str) or declared in (0, values.STRING):
        return replaced
    return values.checked(replaced, declared, path)


def about_job(value: Any, context: RunContext, path: str) -> Any:
    """`value` with what KFP calls job placeholders replaced, also inside lists and dicts."""
    if isinstance(value, list):
        return [about_job(item, context, path) for item in value]
    if isinstance(value, dict):
        return {about_job(key, context, path): about_job(item, context, path) for key, item in value.items()}
    if isinstance(value, str) and "{{$." in value:
        for placeholder, told in job_placeholders(context, path).items():
            value = value.replace(placeholder, told)
    return value


def job_placeholders(context: RunContext, path: str) -> dict[str, str]:
    """What `dsl.PIPELINE_…_PLACEHOLDER` and `dsl.PIPELINE_TASK_…` stand for in a task."""
    return {
        "{{$.pipeline_job_name}}": context.display_name,
        "{{$.pipeline_job_resource_name}}": context.resource_name,
        "{{$.pipeline_job_uuid}}": context.run_id,
        "{{$.pipeline_task_name}}": path.rpartition("/")[2],
        "{{$.pipeline_task_uuid}}": f"{context.run_id}/{path}",
        "{{$.pipeline_job_create_time_utc}}": context.created_at,
        "{{$.pipeline_job_schedule_time_utc}}": context.scheduled_at or context.created_at,
        "{{$.pipeline_root}}": context.pipeline_root,
        "{{$.workspace_path}}": context.workspace,
    }


def loop_items(iterator: Any, parameters: Mapping[str, Any], context: RunContext, path: str) -> list[Any]:
    """The items of a ParameterIteratorSpec: a constant list, or an input that holds a list.

    Raises:
        HeadraceError: it holds something else.
    """
    if iterator.items.WhichOneof("kind") == "raw":
        items: Any = about_job(iterator.items.raw, context, path)
        items = _INPUT.sub(lambda f: values.to_text(parameters.get(f["name"], f[0])), items)
    else:
        items = parameters.get(iterator.items.input_parameter)
    if isinstance(items, str):
        with contextlib.suppress(ValueError):
            items = json.loads(items)
    if not isinstance(items, list):
        raise HeadraceError(f"the loop {path} needs a list, and got {values.to_text(items)}")
    return [values.normal(item) for item in items]


def _optional(definitions: Any, name: str) -> bool:
    if name in definitions.parameters:
        definition = definitions.parameters[name]
        return bool(definition.is_optional or definition.HasField("default_value"))
    return name in definitions.artifacts and bool(definitions.artifacts[name].is_optional)


def filled(value: Any, parameters: Mapping[str, Any]) -> Any:
    """`value` with placeholders of input parameters replaced, also inside lists and dicts."""
    if isinstance(value, list):
        return [filled(item, parameters) for item in value]
    if isinstance(value, dict):
        return {filled(key, parameters): filled(item, parameters) for key, item in value.items()}
    if not isinstance(value, str):
        return value
    whole = _INPUT.fullmatch(value)
    if whole:
        return parameters.get(whole["name"], value)
    return _INPUT.sub(lambda found: values.to_text(parameters.get(found["name"], found[0])), value)
