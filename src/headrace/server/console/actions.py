"""What a person does on a page: a form, sent by POST, after which the page is shown again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from headrace.governance.rbac import Principal, Role
from headrace.server import access

TOLD_COOKIE = "headrace-told"
_TOLD_SECONDS = 20


@dataclass(frozen=True)
class Submission:
    """What was sent: the path's parameters, the form's fields, by whom."""

    path: Mapping[str, str]
    fields: Mapping[str, str]
    who: Principal

    @property
    def reason(self) -> str:
        """Why, in the person's words."""
        return self.fields.get("reason", "").strip()


@dataclass(frozen=True)
class Done:
    """Where the person is led, and what is said there."""

    path: str
    told: str


@dataclass(frozen=True)
class Action:
    """`do` acts and says where to go on; whoever has one of `roles` may. It raises HeadraceError as everything does."""

    path: str
    do: Callable[[Submission], Done]
    roles: Sequence[Role] = (Role.OPERATOR,)

    def route(self) -> Route:
        """The route of its form."""
        return Route(self.path, self._endpoint, methods=["POST"])

    async def _endpoint(self, request: Request) -> Response:
        fields = await access.read_form(request, *self.roles)
        who = access.principal(request)
        done = await run_in_threadpool(self.do, Submission(request.path_params, fields, who))
        return lead_to(done)


def lead_to(done: Done) -> Response:
    """The answer that leads to a page, which then says what was done."""
    response = RedirectResponse(done.path, status_code=303)
    response.set_cookie(TOLD_COOKIE, quote(done.told), max_age=_TOLD_SECONDS, httponly=True, samesite="lax", path="/")
    return response
