"""The second YAML document, what kfp-kubernetes adds: what of it is honoured here and what is not.

Format: https://github.com/kubeflow/pipelines/blob/master/kubernetes_platform/proto/kubernetes_executor_config.proto
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_CLUSTER = "Use an engine on a Kubernetes cluster"

# What a component would see: without it, it does something else. Name: (what it asks for, what to do instead)
_SEEN: Mapping[str, tuple[str, str]] = {
    "secretAsEnv": ("reads a secret from its environment", "or read it from the environment of this machine."),
    "secretAsVolume": ("mounts a secret", "or give the component a path."),
    "configMapAsEnv": ("reads a config map from its environment", "or give it as parameters."),
    "configMapAsVolume": ("mounts a config map", "or give the component a path."),
    "pvcMount": ("mounts a volume claim", "or use the workspace (dsl.WORKSPACE_PATH_PLACEHOLDER)."),
    "genericEphemeralVolume": ("mounts an ephemeral volume", "or write to the task's working directory."),
    "emptyDirMounts": ("mounts an empty directory", "or write to the task's working directory."),
    "fieldPathAsEnv": ("reads a field of its pod from its environment", "or use KFP's placeholders."),
    "initContainers": ("starts init containers", "or do their work in a task before it."),
}
# kfp-kubernetes writes its own tasks as images that do not exist.
_IMAGES: Mapping[str, str] = {
    "argostub/createpvc": "creates a volume claim", "argostub/deletepvc": "deletes a volume claim",
}  # fmt: skip
# What only says where and as whom a cluster runs a component.
_STEERING: Mapping[str, str] = {
    "nodeSelector": "selects nodes",
    "nodeAffinity": "prefers nodes",
    "podAffinity": "prefers to be near other pods",
    "tolerations": "tolerates taints",
    "podMetadata": "labels or annotates its pod",
    "imagePullSecret": "pulls its image with a secret",
    "imagePullPolicy": "says when to pull its image",
    "securityContext": "runs as a certain user",
    "enabledSharedMemory": "asks for shared memory of a certain size",
}
_HONOURED = {"activeDeadlineSeconds"}
_CONFIGURED = {*_HONOURED, "workspace"}
_STAYS_HERE = "It has no effect here: tasks run on this machine, as the user who started Headrace."


@dataclass(frozen=True)
class Feature:
    """A feature of the platform document that is not honoured; `fatal` when the component would notice."""

    problem: str
    remedy: str
    fatal: bool


def executor_config(platform: Mapping[str, Any], label: str) -> Mapping[str, Any]:
    """The KubernetesExecutorConfig of an executor, in camelCase; empty when there is none."""
    deployment = _kubernetes(platform).get("deploymentSpec") or {}
    config: Mapping[str, Any] = (deployment.get("executors") or {}).get(label) or {}
    return config


def pipeline_config(platform: Mapping[str, Any]) -> Mapping[str, Any]:
    """The PipelineConfig; empty when there is none."""
    config: Mapping[str, Any] = _kubernetes(platform).get("pipelineConfig") or {}
    return config


def timeout_seconds(config: Mapping[str, Any]) -> float | None:
    """How long a task (or, from a PipelineConfig, a run) may take; None: as long as it likes."""
    seconds = config.get("activeDeadlineSeconds")
    return float(seconds) if seconds else None


def image_gap(image: str) -> tuple[str, str] | None:
    """The problem and its remedy when an image is none, but a task of the cluster's own."""
    if image not in _IMAGES:
        return None
    return f"{_IMAGES[image]} ({image})", f"{_CLUSTER}, or use the workspace (dsl.WORKSPACE_PATH_PLACEHOLDER)."


def executor_gaps(platform: Mapping[str, Any], label: str) -> Iterator[Feature]:
    """The features of an executor that are not honoured."""
    for name, value in executor_config(platform, label).items():
        if not value or name in _HONOURED:
            continue
        if name in _STEERING:
            yield Feature(f"{_STEERING[name]} ({name})", _STAYS_HERE, fatal=False)
        else:
            asks, instead = _SEEN.get(name, ("asks for something that only a cluster has", "or leave it out."))
            optional = _all_optional(value)
            yield Feature(f"{asks} ({name})", f"{_CLUSTER}, {instead}", fatal=not optional)


def pipeline_gaps(platform: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What the pipeline's own configuration asks for and does not get: (problem, remedy)."""
    config = pipeline_config(platform)
    for name in sorted(config):
        if name.startswith("resourceTtl") and config[name]:
            yield f"deletes its resources after a time ({name})", "Its rows and artifacts stay until you delete them."
    workspace = config.get("workspace") or {}
    if workspace.get("size"):
        yield (
            f"limits its workspace to {workspace['size']} (workspace.size)",
            "The workspace is a folder below the state; only its disk limits it.",
        )
    if (workspace.get("kubernetes") or {}).get("pvcSpecPatch"):
        yield "says what kind of volume its workspace is (workspace.kubernetes.pvcSpecPatch)", _STAYS_HERE
    for name in sorted(set(config) - _CONFIGURED):
        if config[name] and not name.startswith("resourceTtl"):
            yield f"asks for something that only a cluster has ({name})", _STAYS_HERE
    for other in sorted(set(platform.get("platforms", {})) - {"kubernetes"}):
        yield f"has settings for the platform {other}", "They have no effect here."


def _all_optional(value: Any) -> bool:
    """Whether every secret or config map may be absent: Kubernetes then starts the pod without it."""
    items = value if isinstance(value, list) else [value]
    return all(isinstance(item, Mapping) and item.get("optional") is True for item in items)


def _kubernetes(platform: Mapping[str, Any]) -> Mapping[str, Any]:
    spec: Mapping[str, Any] = platform.get("platforms", {}).get("kubernetes") or {}
    return spec
