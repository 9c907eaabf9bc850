"""`dsl.TaskConfig`: a task's own settings, handed on to a component that starts a workload elsewhere.

Source: pipeline_spec.proto, TaskConfigPassthrough; the fields are fragments of a Kubernetes pod.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

TASK_CONFIG = 8  # ParameterType.ParameterTypeEnum
RESOURCES, ENV, AFFINITY, TOLERATIONS, NODE_SELECTOR = 1, 2, 3, 4, 5  # TaskConfigPassthroughTypeEnum


def inputs(component: Any) -> list[str]:
    """The input parameters of a component that want the TaskConfig."""
    parameters = component.input_definitions.parameters
    return [name for name, spec in parameters.items() if spec.parameter_type == TASK_CONFIG]


def applies(component: Any, field: int) -> bool:
    """Whether a setting holds for the task itself: a component that hands settings on has to ask for that."""
    wanted = component.task_config_passthroughs
    return not wanted or any(one.field == field and one.apply_to_task for one in wanted)


def task_config(
    component: Any, container: Any, config: Mapping[str, Any], filled: Callable[[str], str]
) -> dict[str, Any]:
    """What the component wants to hand on; `config` is its KubernetesExecutorConfig, `filled` fills placeholders."""
    found: dict[int, tuple[str, Callable[[], Any]]] = {
        RESOURCES: ("resources", lambda: _resources(container.resources, filled)),
        ENV: ("env", lambda: [{"name": one.name, "value": one.value} for one in container.env]),
        AFFINITY: ("affinity", lambda: _affinity(config.get("nodeAffinity", []))),
        TOLERATIONS: ("tolerations", lambda: [_toleration(one) for one in config.get("tolerations", [])]),
        NODE_SELECTOR: ("nodeSelector", lambda: dict(config.get("nodeSelector", {}).get("labels", {}))),
    }
    wanted = {one.field for one in component.task_config_passthroughs}
    return {name: read() for field, (name, read) in found.items() if field in wanted}


def _resources(resources: Any, filled: Callable[[str], str]) -> dict[str, dict[str, str]]:
    kind = resources.accelerator.resource_type
    given = {
        "limits": {
            "cpu": resources.resource_cpu_limit,
            "memory": resources.resource_memory_limit,
            **({kind: resources.accelerator.resource_count} if kind else {}),
        },
        "requests": {"cpu": resources.resource_cpu_request, "memory": resources.resource_memory_request},
    }
    return {
        side: {name: filled(value) for name, value in amounts.items() if value}
        for side, amounts in given.items()
        if any(amounts.values())
    }


def _affinity(terms: list[Mapping[str, Any]]) -> dict[str, Any]:
    """The terms of kfp-kubernetes as a pod has them: those with a weight are preferred, the others required."""
    required, preferred = [], []
    for term in terms:
        wanted = {key: term[key] for key in ("matchExpressions", "matchFields") if term.get(key)}
        if term.get("weight"):
            preferred.append({"weight": term["weight"], "preference": wanted})
        else:
            required.append(wanted)
    affinity: dict[str, Any] = {}
    if required:
        affinity["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": required}
    if preferred:
        affinity["preferredDuringSchedulingIgnoredDuringExecution"] = preferred
    return {"nodeAffinity": affinity} if affinity else {}


def _toleration(given: Mapping[str, Any]) -> dict[str, Any]:
    known = {key: given[key] for key in ("key", "operator", "value", "effect") if given.get(key)}
    seconds = given.get("tolerationSeconds")
    return {**known, "tolerationSeconds": int(seconds)} if seconds is not None else known
