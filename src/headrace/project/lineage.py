"""Where something came from, and what came of it: from a prediction back to the data and the commit, and forward again.

Every link is a fact that was written down when it happened: rows of runs and artifacts, the payload log, tags in the
registry, requests of rollouts, the event log. Content is known by its SHA-256 digest; a link that holds only because
two contents are the same says so (`by` is "content"). Nothing is guessed from names or times.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from headrace.errors import UsageError
from headrace.project.lineage_facts import VERSION, Facts, Link, Node, newest_prediction, signature
from headrace.project.wiring import Platform

MOST_NODES = 200
# Of the neighbours of one node, so many of a kind are shown; the rest are one node that says how many.
MOST_NEIGHBOURS = 12
_MOST_OF_A_KIND = {"column": 4}
DIRECTIONS = ("up", "down", "both")
STARTS = (
    "prediction:ID", "revision:ID", "model:NAME@VERSION", "run:ID", "artifact:DIGEST", "dataset:NAME", "column:NAME",
)  # fmt: skip


@dataclass(frozen=True)
class Edge:
    """`target` came of `source`. `by`: "record", or "content" when only their digests say so."""

    source: str
    target: str
    label: str
    by: str


@dataclass(frozen=True)
class Lineage:
    """What is known of `start` in a direction. `notes`: what is not shown, and why."""

    start: str
    direction: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class _Graph:
    nodes: dict[str, Node] = field(default_factory=dict)
    edges: dict[tuple[str, str], Edge] = field(default_factory=dict)
    full: bool = False

    def add(self, node: Node) -> bool:
        """Whether it is there now."""
        if node.id not in self.nodes:
            if len(self.nodes) >= MOST_NODES:
                self.full = True
                return False
            self.nodes[node.id] = node
        return True


def lineage(platform: Platform, start: str, direction: str = "up") -> Lineage:
    """What `start` came from ("up"), what came of it ("down"), or both; at most 200 nodes.

    `start` is one of `STARTS`; an id or a digest may be the beginning of one.

    Raises:
        NotFoundError: there is no such thing.
        UsageError: a start or a direction of another form.
    """
    if direction not in DIRECTIONS:
        raise UsageError(f"{direction!r} is no direction", where="direction", remedy=f"One of {', '.join(DIRECTIONS)}.")
    facts = Facts(platform)
    first = facts.find(start, STARTS)
    graph = _Graph({first.id: first})
    if direction != "down":
        _walk(graph, first, facts.up, lambda link, at: Edge(link.node.id, at.id, link.label, link.by))
    if direction != "up":
        _walk(graph, first, facts.down, lambda link, at: Edge(at.id, link.node.id, link.label, link.by))
    notes = list(facts.notes)
    if graph.full:
        notes.append(f"More than {MOST_NODES} things are linked: those farthest from the start are left out.")
    return Lineage(first.id, direction, tuple(graph.nodes.values()), tuple(graph.edges.values()), tuple(notes))


def _walk(
    graph: _Graph, first: Node, neighbours: Callable[[Node], list[Link]], edge: Callable[[Link, Node], Edge]
) -> None:
    """Breadth first, so that what is left out of too large a graph is what is farthest."""
    waiting, seen = deque([first]), {first.id}
    while waiting:
        node = waiting.popleft()
        for link in _folded(node, neighbours(node)):
            if not graph.add(link.node):
                continue
            made = edge(link, node)
            graph.edges.setdefault((made.source, made.target), made)
            if link.node.id not in seen:
                seen.add(link.node.id)
                if link.node.kind != "more":
                    waiting.append(link.node)


def _folded(node: Node, links: list[Link]) -> list[Link]:
    """The links of a node, of each kind at most `MOST_NEIGHBOURS` and one that stands for the rest."""
    by_kind: dict[str, list[Link]] = {}
    for link in links:
        by_kind.setdefault(link.node.kind, []).append(link)
    shown = []
    for kind, found in by_kind.items():
        most = _MOST_OF_A_KIND.get(kind, MOST_NEIGHBOURS)
        if len(found) <= most:
            shown += found
            continue
        rest = len(found) - most + 1
        words = f"{rest} more {kind.replace('_', ' ')}s"
        shown += found[: most - 1]
        shown.append(Link(Node(f"more:{node.id}/{kind}", "more", words, detail=f"beside {node.label}"), "", "record"))
    return shown


@dataclass(frozen=True)
class Branch:
    """A line of a lineage as a tree: how deep it is, the node, the link to the line that it is below.

    `again`: it stands above already, with all that is below it.
    """

    depth: int
    node: Node
    label: str
    by: str
    again: bool


def tree(found: Lineage, direction: str) -> list[Branch]:
    """A lineage ("up" or "down") as lines of a tree, the start first."""
    nodes = {node.id: node for node in found.nodes}
    below: dict[str, list[tuple[str, Edge]]] = {}
    for edge in found.edges:
        end, other = (edge.target, edge.source) if direction == "up" else (edge.source, edge.target)
        below.setdefault(end, []).append((other, edge))
    lines: list[Branch] = []
    seen: set[str] = set()
    waiting = [(0, found.start, "", "record")]
    while waiting:
        depth, key, label, by = waiting.pop()
        again = key in seen
        lines.append(Branch(depth, nodes[key], label, by, again))
        seen.add(key)
        if not again:
            waiting += [(depth + 1, other, edge.label, edge.by) for other, edge in reversed(below.get(key, []))]
    return lines


def examples(platform: Platform) -> list[str]:
    """Starts that exist here, the newest of each kind."""
    database = platform.database
    found = []
    revision = database.one("SELECT * FROM revision ORDER BY created_at DESC LIMIT 1")
    if revision:
        prediction = newest_prediction(platform.home, revision["service"])
        found += [f"prediction:{prediction}"] if prediction else []
        found.append(f"revision:{revision['id']}")
        version = VERSION.fullmatch(revision["model_uri"])
        found += [f"model:{version[1]}@{version[2]}"] if version else []
    run = database.one("SELECT id FROM run WHERE deleted_at IS NULL ORDER BY created_at DESC LIMIT 1")
    found += [f"run:{run['id']}"] if run else []
    rows = database.query("SELECT digest FROM artifact WHERE type = 'system.Model' ORDER BY rowid DESC LIMIT 1")
    found += [f"artifact:{row['digest'][7:19]}" for row in rows if row["digest"]]
    found += Facts(platform).newest_file()
    if revision:
        found += [f"column:{name}" for name in signature(Path(revision["model_path"]))[:1]]
    return found
