"""What a person does on a page: a form, sent by POST, after which the page is shown again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from headrace.errors import (
    ConflictError,
    ForbiddenError,
    HeadraceError,
    NotFoundError,
    UnauthenticatedError,
    UsageError,
)
from headrace.governance.rbac import Principal, Role
from headrace.server import access
from headrace.server.errors import status_of
from headrace.server.requests import Call, Fields

if TYPE_CHECKING:
    from headrace.server.console.frame import Frames
    from headrace.server.console.pages import Page
    from headrace.server.console.rendering import Renderer

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


class FormError(UsageError):
    """Fields that do not hold what they should; `fields` says of each what it must be."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        told = "; ".join(f"{name}: {problem}" for name, problem in fields.items())
        super().__init__(told, remedy="Correct it, and send it again.")
        self.fields = fields


@dataclass(frozen=True)
class Refused:
    """A form that was not carried out, for the page to show again with what was typed.

    `action`: where it was sent; `wrong`: what is wrong with a field, by its name.
    """

    action: str
    problem: str
    remedy: str
    fields: Mapping[str, str]
    wrong: Mapping[str, str]


@dataclass(frozen=True)
class Action:
    """`do` acts and says where to go on; whoever has one of `roles` may. It raises HeadraceError as everything does.

    `page`: the page with its form, which is shown again with what was typed when `do` refuses that. Without it, an
    error is told on a page of its own.
    """

    path: str
    do: Callable[[Submission], Done]
    roles: Sequence[Role] = (Role.OPERATOR,)
    page: Page | None = None

    def route(self, renderer: Renderer, frames: Frames) -> Route:
        """The route of its form."""

        async def endpoint(request: Request) -> Response:
            fields = await access.read_form(request, *self.roles)
            sent = Submission(request.path_params, fields, access.principal(request))
            try:
                return lead_to(await run_in_threadpool(self.do, sent))
            except (UsageError, ConflictError) as error:
                a_browser = "text/html" in request.headers.get("accept", "")
                if self.page is None or not a_browser or isinstance(error, _NOT_OF_THE_FORM):
                    raise
                return await run_in_threadpool(_again, self.page, request, sent, error, renderer, frames)

        return Route(self.path, endpoint, methods=["POST"])


# Typing something else would not help against these.
_NOT_OF_THE_FORM = (NotFoundError, ForbiddenError, UnauthenticatedError)


def _again(
    page: Page, request: Request, sent: Submission, error: HeadraceError, renderer: Renderer, frames: Frames
) -> Response:  # fmt: skip
    """The page, with the form as it was sent and what is wrong with it."""
    query = {name: sent.fields[name] for name in page.query if sent.fields.get(name)}
    wrong = error.fields if isinstance(error, FormError) else {error.where: error.problem}
    told = f"{error.where}: {error.problem}" if error.where else error.problem
    refused = Refused(request.url.path, told, error.remedy, sent.fields, wrong)
    shown = page.data(Call(sent.path, Fields(query), Fields(), who=sent.who))
    return renderer.page(
        request, page.template, shown, frames.now(), status=status_of(error), refused=refused,
        here=page.path.format(**sent.path),
    )  # fmt: skip


def lead_to(done: Done) -> Response:
    """The answer that leads to a page, which then says what was done."""
    response = RedirectResponse(done.path, status_code=303)
    response.set_cookie(TOLD_COOKIE, quote(done.told), max_age=_TOLD_SECONDS, httponly=True, samesite="lax", path="/")
    return response
