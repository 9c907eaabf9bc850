"""The graph of a pipeline as its document says it, with what a run has come to: groups inside groups, loops folded."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import Any

# Of several states the one that a person should see; what is not named comes last.
_LOUDEST = ("FAILED", "PAUSED", "RUNNING", "PENDING", "CANCELED", "SUCCEEDED")


@dataclass(frozen=True)
class Node:
    """A task or a group of the document. `id` is its path without the numbers of loops' iterations.

    `kind`: task, importer, gate, pipeline, loop, condition. `states`: how many executions are in each state; none when
    it has not started; `state`: the loudest of them, or "". `needs`: ids of siblings that come before it.
    """

    id: str
    label: str
    kind: str
    needs: tuple[str, ...]
    states: Mapping[str, int]
    state: str
    cached: int = 0
    nodes: tuple[Node, ...] = ()

    def walk(self, depth: int = 0) -> Iterable[tuple[int, Node]]:
        """Everything inside, each with how deep it lies, in the order of the document."""
        for node in self.nodes:
            yield depth, node
            yield from node.walk(depth + 1)


@dataclass
class _Seen:
    states: Counter[str] = field(default_factory=Counter)
    cached: int = 0


def graph(spec: Mapping[str, Any], tasks: Iterable[Mapping[str, Any]] = ()) -> Node:
    """The root of the graph of a PipelineSpec (as JSON), with `tasks` (rows: path, state, cached) of a run."""
    spec = spec.get("pipeline_spec", spec)
    seen: dict[str, _Seen] = defaultdict(_Seen)
    for task in tasks:
        one = seen[folded(str(task["path"]))]
        one.states[str(task["state"])] += 1
        one.cached += bool(task["cached"])
    components, executors = spec.get("components", {}), spec.get("deploymentSpec", {}).get("executors", {})
    name = str(spec.get("pipelineInfo", {}).get("name", ""))
    return _group("", name, "pipeline", (), spec.get("root", {}), components, executors, seen)


def folded(path: str) -> str:
    """A task's path without the numbers of iterations: `for-loop-1/3/train` is an execution of `for-loop-1/train`."""
    return "/".join(part for part in path.split("/") if not part.isdigit())


def _group(
    path: str, label: str, kind: str, needs: tuple[str, ...], group: Mapping[str, Any],
    components: Mapping[str, Any], executors: Mapping[str, Any], seen: Mapping[str, _Seen],
) -> Node:  # fmt: skip
    nodes = []
    for name, task in group.get("dag", {}).get("tasks", {}).items():
        here = f"{path}/{name}" if path else name
        before = tuple(f"{path}/{one}" if path else one for one in task.get("dependentTasks", ()))
        component = components.get(task.get("componentRef", {}).get("name", ""), {})
        text = str(task.get("taskInfo", {}).get("name", name))
        inner = _kind(task, component, executors)
        if "dag" in component:
            nodes.append(_group(here, text, inner, before, component, components, executors, seen))
        else:
            found = seen.get(here, _Seen())
            nodes.append(Node(here, text, inner, before, dict(found.states), _loudest(found.states), found.cached))
    nodes = _in_order(nodes)
    states: Counter[str] = Counter()
    for node in nodes:
        states.update(node.states)
    cached = sum(node.cached for node in nodes)
    return Node(path, label, kind, needs, dict(states), _loudest(states), cached, tuple(nodes))


def _in_order(nodes: list[Node]) -> list[Node]:
    """Each behind all that it needs, else as they were."""
    sorter = TopologicalSorter({node.id: [need for need in node.needs if need != node.id] for node in nodes})
    places = {name: place for place, name in enumerate(sorter.static_order())}
    return sorted(nodes, key=lambda node: places[node.id])


def _loudest(states: Mapping[str, int]) -> str:
    return next((state for state in _LOUDEST if states.get(state)), "")


def _kind(task: Mapping[str, Any], component: Mapping[str, Any], executors: Mapping[str, Any]) -> str:
    if "dag" in component:
        if "parameterIterator" in task or "artifactIterator" in task:
            return "loop"
        named = task.get("componentRef", {}).get("name", "").startswith("comp-condition")
        return "condition" if named or task.get("triggerPolicy", {}).get("condition") else "pipeline"
    return "importer" if "importer" in executors.get(component.get("executorLabel", ""), {}) else "task"
