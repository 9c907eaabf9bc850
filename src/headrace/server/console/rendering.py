"""HTML from templates: times, durations, states, links."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, is_dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from starlette.requests import Request
from starlette.responses import HTMLResponse

from headrace.clock import lasting
from headrace.governance.rbac import Role
from headrace.server import access
from headrace.server.console.actions import TOLD_COOKIE, Refused
from headrace.server.console.folding import Line, boxes
from headrace.server.console.frame import Frame
from headrace.server.json_text import json_text

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from jinja2 import Environment

NAVIGATION = (
    ("/", "Home"), ("/runs", "Runs"), ("/pipelines", "Pipelines"), ("/models", "Models"), ("/services", "Services"),
    ("/approvals", "Approvals"), ("/lineage", "Lineage"), ("/events", "Events"),
)  # fmt: skip


class Renderer:
    """Renders the console's templates; made once, loaded when the first page is asked for."""

    @cached_property
    def environment(self) -> Environment:
        from jinja2 import Environment, PackageLoader, StrictUndefined

        made = Environment(
            loader=PackageLoader("headrace.server.console"), autoescape=True, undefined=StrictUndefined,
            trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        made.filters.update(
            count=count, data=_data, figure=figure, graph=_graph, lasting=_lasting, moment=_moment, pretty=_pretty,
            seconds_between=seconds_between, short=lambda text: str(text)[:12],
            path=lambda text: quote(str(text), safe="@:"), query=lambda text: quote(str(text), safe=""),
        )  # fmt: skip
        made.globals.update(navigation=NAVIGATION, Role=Role)
        return made

    def page(
        self,
        request: Request,
        template: str,
        page: DataclassInstance,
        frame: Frame,
        stream: str = "",
        status: int = 200,
        refused: Refused | None = None,
        here: str = "",
    ) -> HTMLResponse:
        """A page's HTML. `stream` is where its changes are told; "" when it does not change. `refused`: a form of it
        that was not carried out; `here`: the page's own address, when another one was asked."""
        told = unquote(request.cookies.get(TOLD_COOKIE, ""))
        text = self.environment.get_template(template).render(
            page=page, frame=frame, stream=stream, here=here or request.url.path, request=request, told=told,
            who=access.principal(request), csrf=access.csrf_token(request), refused=refused,
        )  # fmt: skip
        response = HTMLResponse(text, status_code=status, headers={"cache-control": "no-store"})
        access.keep_session(request, response)
        if told:
            response.delete_cookie(TOLD_COOKIE, path="/")
        return response

    def bare(self, request: Request, template: str, page: DataclassInstance, status: int = 200) -> HTMLResponse:
        """The HTML of a page that stands alone: it tells nothing of what is here."""
        text = self.environment.get_template(template).render(page=page, csrf=access.csrf_token(request))
        response = HTMLResponse(text, status_code=status, headers={"cache-control": "no-store"})
        access.keep_session(request, response)
        return response


def _lasting(seconds: float | None) -> str:
    return "" if seconds is None else lasting(seconds)


def figure(value: Any, digits: int = 4) -> str:
    """A number with so many significant digits, large ones as whole numbers; anything else as text."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "" if value is None else str(value)
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 1000 else f"{value:.{digits}g}"


def count(number: int, one: str, many: str = "") -> str:
    """`1 run`, `3 runs`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _moment(text: str | None) -> Any:
    """A time as an element, in UTC; the page's script says it in the reader's words."""
    from markupsafe import Markup

    if not text:
        return ""
    at = datetime.fromisoformat(text)
    return Markup('<time datetime="{}">{}</time>').format(text, at.strftime("%Y-%m-%d %H:%M:%S UTC"))


def seconds_between(start: str | None, end: str | None) -> float | None:
    """Seconds from one RFC 3339 time to another; None when one is not known."""
    if not start or not end:
        return None
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def _data(value: Any) -> Any:
    """Data for a script, as JSON that no text in it can end: https://html.spec.whatwg.org/#restrictions-for-contents-of-script-elements"""
    from markupsafe import Markup

    return Markup(json_text(_plain(value)).replace("<", "\\u003c"))


def _graph(lines: Iterable[Line]) -> Any:
    return _data(boxes(lines))


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def _pretty(value: Any) -> str:
    return json_text(value, indent=2) if isinstance(value, dict | list | tuple) else str(value)
