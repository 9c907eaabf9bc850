"""A run's tasks as the tree that its pipeline draws. Groups and loops fold; what has not started stands there, too."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from headrace.contracts import pipeline_spec
from headrace.contracts.pipeline_spec import PipelineDocument
from headrace.runs import paths
from headrace.runs.model import FINAL, State
from headrace.store.database import Database

TASK, GROUP, LOOP, ITERATION = "task", "group", "loop", "iteration"
MOST_ITERATIONS = 100
_MOST_NODES = 500


@dataclass(frozen=True)
class Node:
    """One line of the tree, one box of the graph.

    `kind`: task, group, loop or iteration. `needs`: the paths of siblings that it waits for. `parent`: "" at the root.
    Of a group: `done` of `total` iterations or tasks, `failed` tasks in it; `opened`: its children follow.
    `condition`: when it runs at all, as the pipeline says it. `left_out`: iterations that are not listed.
    Times are unix seconds; `finished_at` of a group is known once all that began in it is finished.
    """

    path: str
    parent: str
    name: str
    kind: str
    state: str
    depth: int
    needs: tuple[str, ...]
    started_at: float | None = None
    finished_at: float | None = None
    attempts: int = 0
    cached: bool = False
    done: int = 0
    total: int = 0
    failed: int = 0
    opened: bool = False
    condition: str = ""
    message: str = ""
    left_out: int = 0


@dataclass
class _Inside:
    """What the tasks below a path add up to."""

    states: Counter[str] = field(default_factory=Counter)
    starts: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    children: set[str] = field(default_factory=set)

    def state(self, idle: str) -> str:
        """As the planner combines them, as far as rows can tell; `idle` when there are none."""
        for word in ("RUNNING", "PENDING", "PAUSED"):
            if self.states[word]:
                return "RUNNING" if word == "PENDING" else word
        for word in ("FAILED", "CANCELED"):
            if self.states[word]:
                return word
        return "SUCCEEDED" if self.states else idle


def tree(database: Database, run: Mapping[str, Any], opened: Collection[str] = ()) -> list[Node]:
    """The nodes of a run (its row), each before its children; only those groups in `opened` show theirs.

    A long loop shows 100 iterations: those that failed or run, then the first ones.
    """
    rows = database.query(
        "SELECT path, state, attempt, cached, started_at, finished_at, substr(message, 1, 300) AS message FROM task"
        " WHERE run_id = ?",
        (run["id"],),
    )
    known = {str(row["path"]): row for row in rows}
    live = State(run["state"]) not in FINAL
    walk = _Walk(document_of(run), known, frozenset(opened), json.loads(run["parameters"]), live=live)
    walk.idle = "PENDING" if live else "SKIPPED"
    return walk.nodes("", "", "", 0)


def tree_of_document(document: PipelineDocument, opened: Collection[str] = ()) -> list[Node]:
    """The nodes of a pipeline that does not run: as `tree` gives them, with no state, and once what a loop repeats."""
    return _Walk(document, {}, frozenset(opened), {}, live=False).nodes("", "", "", 0)


def document_of(run: Mapping[str, Any]) -> PipelineDocument:
    """The pipeline of a run's row; it is read once."""
    return parsed(run["document"], run["file"])


@lru_cache(maxsize=32)
def parsed(text: str, file: str) -> PipelineDocument:
    """A pipeline's document, as `pipeline_spec.parse` gives it; read once. Nobody changes it."""
    return pipeline_spec.parse(text, file)


def task_spec(document: PipelineDocument, path: str) -> Any | None:
    """The PipelineTaskSpec message of a task, group or loop by its path; None when the pipeline has none there."""
    component, found = document.spec.root, None
    for part in path.split("/"):
        if part.isdecimal():
            continue
        name = part.partition("~")[0]
        if not component.HasField("dag") or name not in component.dag.tasks:
            return None
        found = component.dag.tasks[name]
        component = document.spec.components[found.component_ref.name]
    return found


class _Walk:
    def __init__(
        self, document: PipelineDocument, rows: Mapping[str, Any], opened: frozenset[str],
        arguments: Mapping[str, Any], *, live: bool,
    ) -> None:  # fmt: skip
        self.document = document
        self.rows = rows
        self.opened = opened
        self.arguments = arguments
        self.live = live
        self.idle = ""
        self.inside: dict[str, _Inside] = {}
        self.count = 0
        for path, row in rows.items():
            below = path
            for group in paths.groups(path):
                inside = self.inside.setdefault(group, _Inside())
                inside.children.add(below.rpartition("/")[2])
                inside.states[row["state"]] += 1
                inside.starts += [row["started_at"]] if row["started_at"] is not None else []
                inside.ends += [row["finished_at"]] if row["finished_at"] is not None else []
                below = group

    def nodes(self, component: str, path: str, parent: str, depth: int) -> list[Node]:
        dag = (self.document.spec.components[component] if component else self.document.spec.root).dag
        found: list[Node] = []
        for name, needs in self.document.task_order[component]:
            task, place = dag.tasks[name], _join(path, name)
            about = {"needs": tuple(_join(path, other) for other in needs), "parent": parent, "depth": depth}
            about["condition"] = task.trigger_policy.condition
            is_dag = self.document.spec.components[task.component_ref.name].HasField("dag")
            title = task.task_info.name or name
            if task.WhichOneof("iterator"):
                found += self.loop(task, place, title, about)
            elif is_dag:
                for again in self.tries(place):
                    shown = title if again == place else f"{title}, try {int(again.rpartition('~')[2]) + 1}"
                    found += self.group(task.component_ref.name, again, shown, GROUP, about)
            else:
                found.append(self.leaf(place, title, TASK, about))
        return found

    def tries(self, path: str) -> Iterator[str]:
        """A group and its later tries, as far as they have begun."""
        yield path
        number = 1
        while f"{path}~{number}" in self.inside:
            yield f"{path}~{number}"
            number += 1

    def leaf(self, path: str, name: str, kind: str, about: Mapping[str, Any]) -> Node:
        row = self.rows.get(path)
        self.count += 1
        if row is None:
            return Node(path=path, name=name, kind=kind, state=self.idle, **about)
        return Node(
            path=path, name=name, kind=kind, state=row["state"], started_at=row["started_at"],
            finished_at=row["finished_at"], attempts=row["attempt"], cached=bool(row["cached"]),
            message=row["message"], **about,
        )  # fmt: skip

    def group(self, component: str, path: str, name: str, kind: str, about: Mapping[str, Any]) -> list[Node]:
        inside = self.inside.get(path, _Inside())
        total = len(self.document.task_order[component])
        done = sum(self.finished(f"{path}/{child}") for child in inside.children)
        opened = path in self.opened and self.count < _MOST_NODES
        node = self.folded(path, name, kind, about, inside, done=min(done, total), total=total, opened=opened)
        if not opened:
            return [node]
        return [node, *self.nodes(component, path, path, node.depth + 1)]

    def loop(self, task: Any, path: str, name: str, about: Mapping[str, Any]) -> list[Node]:
        inside = self.inside.get(path, _Inside())
        begun = {int(child) for child in inside.children if child.isdecimal()}
        total = max(self.items(task, path) or 0, max(begun, default=-1) + 1)
        done = sum(self.finished(f"{path}/{index}") for index in begun)
        opened = path in self.opened and self.count < _MOST_NODES
        node = self.folded(path, name, LOOP, about, inside, done=done, total=total, opened=opened)
        if not opened:
            return [node]
        if not self.idle:  # it does not run: what is in the loop, once
            return [node, *self.nodes(task.component_ref.name, path, path, node.depth + 1)]
        shown = self.shown_iterations(path, total)
        node = Node(**{**vars(node), "left_out": total - len(shown)})
        found = [node]
        below = {"needs": (), "parent": path, "depth": node.depth + 1}
        component = task.component_ref.name
        for index in shown:
            place = f"{path}/{index}"
            if self.document.spec.components[component].HasField("dag"):
                for again in self.tries(place):
                    found += self.group(component, again, again.rpartition("/")[2], ITERATION, below)
            else:
                found.append(self.leaf(place, str(index), ITERATION, below))
        return found

    def shown_iterations(self, path: str, total: int) -> list[int]:
        if total <= MOST_ITERATIONS:
            return list(range(total))
        urgent = [n for n in range(total) if self.state_of(f"{path}/{n}") in ("FAILED", "RUNNING", "PAUSED")]
        rest = [n for n in range(total) if n not in set(urgent)]
        return sorted([*urgent, *rest][:MOST_ITERATIONS])

    def state_of(self, path: str) -> str:
        row = self.rows.get(path)
        if row is not None:
            return str(row["state"])
        return self.inside[path].state(self.idle) if path in self.inside else ""

    def finished(self, path: str) -> bool:
        return self.state_of(path) in FINAL

    def folded(
        self, path: str, name: str, kind: str, about: Mapping[str, Any], inside: _Inside, *, done: int, total: int,
        opened: bool,
    ) -> Node:  # fmt: skip
        self.count += 1
        state = inside.state(self.idle)
        if self.live and inside.states and state == "SUCCEEDED" and kind == LOOP and done < total:
            state = "RUNNING"
        return Node(
            path=path, name=name, kind=kind, state=state, done=done, total=total, opened=opened,
            failed=inside.states["FAILED"], started_at=min(inside.starts, default=None),
            finished_at=max(inside.ends, default=None) if state in FINAL else None, **about,
        )  # fmt: skip

    def items(self, task: Any, path: str) -> int | None:
        """How many items a loop goes over; None when that is not known before it has begun."""
        if task.WhichOneof("iterator") != "parameter_iterator":
            return None
        wanted = task.parameter_iterator.items
        value: Any = wanted.raw
        if wanted.input_parameter:
            given = task.inputs.parameters[wanted.input_parameter]
            if "/" in path or not given.component_input_parameter:
                return None
            value = self.arguments.get(given.component_input_parameter)
        try:
            value = json.loads(value) if isinstance(value, str) else value
        except ValueError:
            return None
        return len(value) if isinstance(value, list) else None


def _join(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name
