"""What a person with a browser is told when something is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from headrace.errors import HeadraceError
from headrace.server.console.frame import Frames
from headrace.server.console.rendering import Renderer
from headrace.server.errors import status_of

_TITLES = {
    403: "You may not do that", 404: "There is no such thing", 409: "Somebody was first", 503: "The disk is full",
}  # fmt: skip
Handler = Callable[[Request, Exception], Response]


@dataclass(frozen=True)
class Problem:
    """`remedy`: what to do about it; "" when nobody knows."""

    title: str
    problem: str
    remedy: str


class Problems:
    """Answers browsers with a page, and leaves everybody else to the API's handler."""

    def __init__(self, renderer: Renderer, frames: Frames) -> None:
        self.renderer = renderer
        self.frames = frames

    def before(self, handler: Handler) -> Handler:
        """The handler, but for requests of browsers."""

        def handle(request: Request, error: Exception) -> Response:
            if not wants_page(request):
                return handler(request, error)
            problem, status = _told(error)
            return self.renderer.page(request, "problem.html", problem, self.frames.now(), status=status)

        return handle


def wants_page(request: Request) -> bool:
    """Whether a person's browser asks for a page of the console."""
    path = request.url.path
    return "text/html" in request.headers.get("accept", "") and not path.startswith(("/apis/", "/static/"))


def _told(error: Exception) -> tuple[Problem, int]:
    if isinstance(error, HeadraceError):
        status = status_of(error)
        title = {
            403: "You may not do that",
            404: "There is no such thing",
            409: "Somebody was first",
            503: "The disk is full",
        }.get(status)
        where = f"{error.where}: " if error.where else ""
        return Problem(title or "That does not work", where + error.problem, error.remedy or ""), status
    if isinstance(error, HTTPException):
        if error.status_code == 404:
            return Problem("There is no such page", "This address leads nowhere.", "The menu above leads on."), 404
        return Problem("That does not work", str(error.detail), ""), error.status_code
    told = f"{type(error).__name__}. Its traceback is at the server's terminal."
    return Problem("Headrace has a defect", told, "Please report it."), 500
