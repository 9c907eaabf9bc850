"""Read IR YAML or JSON into the official `PipelineSpec` message, and check what a person can get wrong.

Format: https://github.com/kubeflow/pipelines/blob/master/api/v2alpha1/pipeline_spec.proto
"""

from __future__ import annotations

import contextlib
import graphlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import ModuleType
from typing import Any

from headrace.contracts.pipeline_spec import values
from headrace.errors import DocumentError, UsageError

SUPPORTED_SCHEMA = "2."


@dataclass(frozen=True)
class PipelineDocument:
    """A compiled pipeline. `text` is kept as it came, platform document included."""

    text: str
    file: str
    spec: Any  # kfp.pipeline_spec.pipeline_spec_pb2.PipelineSpec; its generated module has no types
    platform: Mapping[str, Any] = field(default_factory=dict)  # the PlatformSpec, in camelCase

    @property
    def name(self) -> str:
        """The pipeline's own name."""
        return str(self.spec.pipeline_info.name)

    @cached_property
    def executors(self) -> Mapping[str, Any]:
        """PipelineDeploymentConfig.ExecutorSpec messages by executor label."""
        from google.protobuf import json_format

        config = messages().PipelineDeploymentConfig()
        json_format.ParseDict(json_format.MessageToDict(self.spec.deployment_spec), config, ignore_unknown_fields=True)
        return dict(config.executors)

    @cached_property
    def task_order(self) -> Mapping[str, Sequence[tuple[str, Sequence[str]]]]:
        """For each component that is a DAG ("" is the root): its tasks, producers first, and what each waits for."""
        dags = {"": self.spec.root, **{n: c for n, c in self.spec.components.items() if c.HasField("dag")}}
        return {name: _in_order(component.dag.tasks) for name, component in dags.items()}

    def executor_of(self, component: str) -> Any:
        """The ExecutorSpec message of a component that is no DAG."""
        return self.executors[self.spec.components[component].executor_label]

    def arguments(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The pipeline's parameters: what was given, checked and converted, else the defaults.

        Raises:
            UsageError: a parameter is missing, unknown or of the wrong type.
        """
        wanted = self.spec.root.input_definitions.parameters
        unknown = sorted(set(given) - set(wanted))
        if unknown:
            raise UsageError(
                f"the pipeline {self.name} has no parameter {', '.join(unknown)}",
                where=self.file,
                remedy=f"Its parameters: {', '.join(sorted(wanted)) or 'none'}.",
            )
        arguments = {}
        for name, definition in sorted(wanted.items()):
            if name in given:
                arguments[name] = values.checked(given[name], definition.parameter_type, name)
            elif definition.HasField("default_value"):
                arguments[name] = values.from_message(definition.default_value, definition.parameter_type)
            elif not definition.is_optional:
                kind = values.type_name(definition.parameter_type)
                raise UsageError(
                    f"the pipeline {self.name} needs the parameter {name} ({kind})",
                    where=self.file,
                    remedy=f"Give it with -p {name}=VALUE or in headrace.toml.",
                )
        return arguments


def parse(text: str, file: str) -> PipelineDocument:
    """The pipeline in `text` (one or two YAML documents, or JSON); `file` is only named in errors.

    Raises:
        DocumentError: not YAML, not a PipelineSpec, or one that refers to what it does not hold.
    """
    from google.protobuf import json_format

    raw, platform = _documents(text, file)
    spec = messages().PipelineSpec()
    try:
        json_format.ParseDict(raw, spec)
    except json_format.ParseError as error:
        raise DocumentError(
            f"not a PipelineSpec: {error}", file=file, remedy="Compile it again with kfp.compiler of KFP 2."
        ) from error
    document = PipelineDocument(text, file, spec, platform)
    _check(document)
    return document


def messages() -> ModuleType:
    """The generated protobuf module, without the two seconds that importing all of kfp takes."""
    before = os.environ.get("_KFP_RUNTIME")
    os.environ["_KFP_RUNTIME"] = "true"
    try:
        from kfp.pipeline_spec import pipeline_spec_pb2
    finally:
        if before is None:
            del os.environ["_KFP_RUNTIME"]
        else:
            os.environ["_KFP_RUNTIME"] = before
    module: ModuleType = pipeline_spec_pb2
    return module


def _documents(text: str, file: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The PipelineSpec and the PlatformSpec: two YAML documents, or two fields of one as the REST API has them."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        documents = [raw for raw in _json(text) or yaml.load_all(text, Loader=loader) if raw is not None]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise DocumentError(
            f"not valid YAML: {getattr(error, 'problem', error)}",
            file=file,
            line=mark.line + 1 if mark else None,
            remedy="Mend this line, or compile the pipeline again.",
        ) from error
    if not documents or not all(isinstance(raw, dict) for raw in documents):
        raise DocumentError(
            "not a compiled pipeline", file=file, remedy="Give a file that kfp.compiler wrote, or a .py file."
        )
    first, platform = documents[0], documents[1] if len(documents) > 1 else {}
    if "pipelineSpec" in first or "pipeline_spec" in first:
        platform = first.get("platformSpec") or first.get("platform_spec") or platform
        first = first.get("pipelineSpec") or first["pipeline_spec"]
    if not isinstance(first, dict) or not isinstance(platform, dict):
        raise DocumentError(
            "not a compiled pipeline",
            file=file,
            remedy="pipeline_spec and platform_spec are objects; compile it again.",
        )
    _refuse_second(len(documents), platform, file)
    _check_platform(platform, file)
    return first, platform


def _refuse_second(count: int, platform: Mapping[str, Any], file: str) -> None:
    platforms = platform.get("platforms", {})
    if count > 2 or (count == 2 and not isinstance(platforms, dict)) or (count == 2 and "platforms" not in platform):
        raise DocumentError(
            "after the pipeline stands something that is no platform document",
            file=file,
            remedy="A second document holds `platforms:`, as kfp.compiler writes it; there is no third.",
        )


def _json(text: str) -> list[Any]:
    # YAML reads 1e-05 as text, JSON as the number that it is.
    if text.startswith("{"):
        with contextlib.suppress(ValueError):
            return [json.loads(text)]
    return []


def _check_platform(platform: Mapping[str, Any], file: str) -> None:
    """What is read of a PlatformSpec has the shape that it has to have."""
    for name, spec in _mapping(platform, "platforms", file).items():
        place = f"platforms.{name}"
        config = _mapping({place: spec}, place, file)
        pipeline = _mapping(config, "pipelineConfig", file)
        _mapping(_mapping(pipeline, "workspace", file), "kubernetes", file)
        executors = _mapping(_mapping(config, "deploymentSpec", file), "executors", file)
        for label in executors:
            _check_seconds(_mapping(executors, label, file), f"{place}.deploymentSpec.executors.{label}", file)
        _check_seconds(pipeline, f"{place}.pipelineConfig", file)


def _mapping(holder: Mapping[str, Any], name: str, file: str) -> Mapping[str, Any]:
    value = holder.get(name)
    if value is None or isinstance(value, dict):
        return value or {}
    raise DocumentError("is no mapping", file=file, field=name, remedy="Compile the pipeline again.")


def _check_seconds(config: Mapping[str, Any], place: str, file: str) -> None:
    seconds = config.get("activeDeadlineSeconds", 0)
    try:
        right = float(seconds) >= 0
    except (TypeError, ValueError):
        right = False
    if not right:
        raise DocumentError(
            f"must be a number of seconds, not {seconds!r}", file=file, field=f"{place}.activeDeadlineSeconds",
            remedy="Compile the pipeline again.",
        )  # fmt: skip


def _check(document: PipelineDocument) -> None:
    spec = document.spec
    if not spec.pipeline_info.name or not spec.HasField("root"):
        raise DocumentError(
            "not a compiled pipeline: pipelineInfo.name or root is missing",
            file=document.file,
            remedy="Give a file that kfp.compiler wrote.",
        )
    if not spec.schema_version.startswith(SUPPORTED_SCHEMA):
        raise DocumentError(
            f'version "{spec.schema_version}" is not supported',
            file=document.file,
            field="schemaVersion",
            remedy="Compile the pipeline with KFP 2.",
        )
    _check_names(document, "pipelineInfo", [spec.pipeline_info.name])
    _check_names(document, "components", spec.components)
    _check_component(document, "root", spec.root)
    for name, component in spec.components.items():
        _check_component(document, f"components.{name}", component)
    contained = {
        name: [task.component_ref.name for task in c.dag.tasks.values()] for name, c in spec.components.items()
    }
    _refuse_cycle(document, "components", contained, "contains itself")


def _check_names(document: PipelineDocument, field: str, names: Iterable[str]) -> None:
    """Files and folders are called by these, and lie where they belong."""
    for name in names:
        if "/" in name or name in (".", ".."):
            raise DocumentError(
                f'"{name}" is a path, where a name is wanted', file=document.file, field=field,
                remedy="Compile the pipeline again.",
            )  # fmt: skip


def _check_component(document: PipelineDocument, path: str, component: Any) -> None:
    outputs = component.output_definitions
    _check_names(document, f"{path}.outputDefinitions", [*outputs.parameters, *outputs.artifacts])
    _check_names(document, f"{path}.dag.tasks", component.dag.tasks)
    if component.WhichOneof("implementation") == "executor_label":
        if component.executor_label not in document.executors:
            raise _dangling(document, f"{path}.executorLabel", component.executor_label)
        return
    for name, task in component.dag.tasks.items():
        field = f"{path}.dag.tasks.{name}"
        if task.component_ref.name not in document.spec.components:
            raise _dangling(document, f"{field}.componentRef", task.component_ref.name)
        for producer in dependencies(task):
            if producer not in component.dag.tasks:
                raise _dangling(document, field, producer)
        items = task.artifact_iterator.items.input_artifact
        if items and items not in task.inputs.artifacts:
            raise _dangling(document, f"{field}.artifactIterator", items)
    for name, producer in _output_producers(component.dag.outputs):
        if producer not in component.dag.tasks:
            raise _dangling(document, f"{path}.dag.outputs.{name}", producer)
    waits = {name: dependencies(task) for name, task in component.dag.tasks.items()}
    _refuse_cycle(document, f"{path}.dag.tasks", waits, "waits for itself")


def _refuse_cycle(document: PipelineDocument, field: str, edges: Mapping[str, Iterable[str]], problem: str) -> None:
    try:
        graphlib.TopologicalSorter(edges).prepare()
    except graphlib.CycleError as error:
        raise DocumentError(
            f"{problem}: {' > '.join(reversed(error.args[1]))}",
            file=document.file,
            field=field,
            remedy="Compile the pipeline again.",
        ) from error


def _in_order(tasks: Mapping[str, Any]) -> list[tuple[str, Sequence[str]]]:
    waits = {name: sorted(dependencies(task)) for name, task in tasks.items()}
    return [(name, waits[name]) for name in graphlib.TopologicalSorter(waits).static_order()]


def _output_producers(outputs: Any) -> Iterator[tuple[str, str]]:
    """Where each output of a DAG is in the document, and the task that it is taken from."""
    for name, spec in outputs.parameters.items():
        selectors = [spec.value_from_parameter]
        if spec.WhichOneof("kind") == "value_from_oneof":
            selectors = list(spec.value_from_oneof.parameter_selectors)
        yield from ((f"parameters.{name}", selector.producer_subtask) for selector in selectors)
    for name, artifact in outputs.artifacts.items():
        yield from ((f"artifacts.{name}", selector.producer_subtask) for selector in artifact.artifact_selectors)


def dependencies(task: Any) -> set[str]:
    """The tasks that a PipelineTaskSpec waits for: the ones it names and the ones whose outputs it takes."""
    found = set(task.dependent_tasks)
    for source in task.inputs.parameters.values():
        kind = source.WhichOneof("kind")
        if kind == "task_output_parameter":
            found.add(source.task_output_parameter.producer_task)
        elif kind == "task_final_status":
            found.add(source.task_final_status.producer_task)
    for source in task.inputs.artifacts.values():
        if source.WhichOneof("kind") == "task_output_artifact":
            found.add(source.task_output_artifact.producer_task)
    return found


def _dangling(document: PipelineDocument, field: str, name: str) -> DocumentError:
    return DocumentError(
        f'refers to "{name}", which the document does not hold',
        file=document.file,
        field=field,
        remedy="Compile the pipeline again.",
    )
