"""A pipeline's graph on a page: what folds, where each thing leads, and what the script that lays it out is given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlencode

from headrace.runs import tree

# Of a loop, so many iterations are drawn beside those that are unfolded or failed; the table has them all.
_MOST_DRAWN = 8
_SIGNS = {
    "SUCCEEDED": ("good", "✓"), "FAILED": ("bad", "✕"), "RUNNING": ("busy", "●"), "PAUSED": ("wait", "‖"),
}  # fmt: skip


def asked(text: str) -> set[str]:
    """The groups that an address unfolds: `?open=for-loop-1,condition-2`."""
    return {part for part in text.split(",") if part}


@dataclass(frozen=True)
class Links:
    """Addresses on the page at `address`: what is unfolded stays so, and what is in `kept`. `selected`: a task."""

    address: str
    opened: frozenset[str]
    selected: str = ""
    kept: Mapping[str, str] = field(default_factory=dict)

    def task(self, path: str) -> str:
        """Where a task is shown."""
        return f"{self._to(self.opened, path)}#selected"

    def toggle(self, path: str) -> str:
        """Where a group is unfolded, or folded with all that is in it."""
        inside = {one for one in self.opened if one == path or one.startswith(f"{path}/")}
        opened = self.opened - inside if path in self.opened else self.opened | {path}
        # A task that is shown keeps its groups unfolded, so it goes with them.
        selected = "" if path in self.opened and self.selected.startswith(f"{path}/") else self.selected
        return self._to(opened, selected)

    def _to(self, opened: Collection[str], task: str) -> str:
        query = {**self.kept, "task": task, "open": ",".join(sorted(opened))}
        text = urlencode({name: value for name, value in query.items() if value}, safe="/,")
        return f"{self.address}?{text}" if text else self.address


def folds(node: tree.Node) -> bool:
    """Whether something is in it."""
    return node.kind in (tree.GROUP, tree.LOOP) or node.total > 0


class Line(Protocol):
    """A node with its links. `toggle`: "" for what does not fold; `href`: "" for what leads nowhere."""

    @property
    def node(self) -> tree.Node: ...
    @property
    def href(self) -> str: ...
    @property
    def toggle(self) -> str: ...
    @property
    def selected(self) -> bool: ...


@dataclass(frozen=True)
class Box:
    """What is drawn of a line. `kind`: good, bad, busy, wait, idle, or plain where nothing runs."""

    path: str
    parent: str
    name: str
    state: str
    kind: str
    sign: str
    note: str
    needs: tuple[str, ...]
    href: str
    selected: bool


def boxes(lines: Iterable[Line]) -> list[Box]:
    """The lines of a page as its graph shows them."""
    told: list[Box] = []
    left_out: Counter[str] = Counter()
    listed: Counter[str] = Counter()
    for line in lines:
        node = line.node
        if node.kind == tree.ITERATION and not node.opened and not line.selected and node.state != "FAILED":
            listed[node.parent] += 1
            if listed[node.parent] > _MOST_DRAWN:
                left_out[node.parent] += 1
                continue
        kind, sign = _SIGNS.get(node.state, ("idle", "○") if node.state else ("plain", ""))
        told.append(
            Box(
                node.path, node.parent, node.name, node.state.lower(), kind, sign, _note(node), node.needs, line.href,
                line.selected,
            )
        )  # fmt: skip
    return [_with_left_out(box, left_out[box.path]) for box in told]


def _note(node: tree.Node) -> str:
    if not node.state:  # of a pipeline that does not run
        return (f"{node.total} ×" if node.total else "loop") if node.kind == tree.LOOP else ""
    if node.kind == tree.LOOP:
        return f"{node.total} ×, {node.done} done"
    if folds(node):
        return f"{node.done} of {node.total} done"
    return "reused" if node.cached else ""


def _with_left_out(box: Box, count: int) -> Box:
    return Box(**{**vars(box), "name": f"{box.name}, {count} not drawn"}) if count else box
