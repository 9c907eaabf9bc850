"""Lineage: where something came from and what came of it, as a graph and as a list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from headrace.errors import HeadraceError
from headrace.project import lineage
from headrace.project.wiring import Platform
from headrace.server.console.pages import Page
from headrace.server.operations import TEXT
from headrace.server.requests import Call


@dataclass(frozen=True)
class LineagePage:
    """`found`: the lineage; None without a start, or when there is no such thing: `problem` and `remedy` say so.

    `trees`: its lines for reading, by direction. `examples`: starts that exist here.
    """

    start: str
    direction: str
    found: Mapping[str, Any] | None
    trees: Mapping[str, list[dict[str, Any]]]
    examples: list[str]
    problem: str = ""
    remedy: str = ""


def pages(platform: Platform) -> list[Page]:
    """The page /lineage."""

    def data(call: Call) -> LineagePage:
        start = call.query.text("start").strip()
        direction = call.query.text("direction", "up")
        if not start:
            return LineagePage("", direction, None, {}, lineage.examples(platform))
        try:
            found = lineage.lineage(platform, start, direction)
        except HeadraceError as error:
            return LineagePage(start, direction, None, {}, lineage.examples(platform), error.problem, error.remedy)
        ways = [way for way in ("up", "down") if direction in (way, "both")]
        trees = {way: [asdict(line) for line in lineage.tree(found, way)] for way in ways}
        return LineagePage(found.start, direction, found.to_dict(), trees, [])

    return [Page("/lineage", "lineage.html", data, {"start": TEXT, "direction": TEXT})]
