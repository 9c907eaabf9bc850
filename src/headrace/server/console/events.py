"""Events: the audit log, newest first, and whether its chain is whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headrace.project.wiring import Platform
from headrace.server.console.pages import Page
from headrace.server.operations import NUMBER, TEXT
from headrace.server.requests import Call
from headrace.store import events

PER_PAGE = 100
CHECKED_AT_ONCE = 5000


@dataclass(frozen=True)
class EventsPage:
    """`older`: the number to ask for the next page with; None on the last.

    `checked`: how far the chain of digests was checked; `broken`: the first line whose digest is wrong, None when there
    is none up to there. `kinds` and `actors`: what there is to choose from.
    """

    events: list[Mapping[str, Any]]
    kind: str
    actor: str
    subject: str
    kinds: list[str]
    actors: list[str]
    older: int | None
    total: int
    checked: int
    broken: int | None


def pages(platform: Platform) -> list[Page]:
    """The page /events."""
    chain = events.Chain(platform.database)

    def data(call: Call) -> EventsPage:
        kind, actor, subject = call.query.text("kind"), call.query.text("actor"), call.query.text("subject")
        before = call.query.number("before") or None
        found = events.newest(
            platform.database, before=before, kind=kind, actor=actor, subject=subject, limit=PER_PAGE + 1
        )
        kinds, actors = events.known(platform.database)
        checked = chain.check(CHECKED_AT_ONCE)
        return EventsPage(
            events=[event.to_dict() for event in found[:PER_PAGE]],
            kind=kind, actor=actor, subject=subject, kinds=kinds, actors=actors,
            older=found[PER_PAGE - 1].seq if len(found) > PER_PAGE else None,
            total=events.total(platform.database),
            checked=checked.lines,
            broken=checked.broken,
        )  # fmt: skip

    query = {"kind": TEXT, "actor": TEXT, "subject": TEXT, "before": NUMBER}
    return [Page("/events", "events.html", data, query, live=True, moving=True)]
