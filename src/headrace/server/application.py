"""The ASGI application: every operation of the server, and how problems are told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp

from headrace.errors import HeadraceError
from headrace.project.wiring import Platform
from headrace.server import errors, kfp
from headrace.server.access import Entrance
from headrace.server.api import PREFIX, Api
from headrace.server.console import console
from headrace.server.console.frame import Frames
from headrace.server.console.problems import Problems
from headrace.server.console.rendering import Renderer
from headrace.server.kfp.problems import http_problem
from headrace.server.operations import Operation, document
from headrace.server.security_headers import SecurityHeaders
from headrace.server.sign_in import Authentication, SignIn
from headrace.serving.traffic import Traffic


def application(
    platform: Platform,
    about: dict[str, Any],
    stopping: Callable[[], bool] = lambda: False,
    entrance: Entrance | None = None,
    traffic: Traffic | None = None,
) -> Starlette:
    """The application; `about` is what /healthz tells of this server (addresses), `traffic` what the gateway counts. No
    `entrance`: nobody signs in."""
    operations = [*Api(platform, about, stopping).operations(), *kfp.operations(platform)]
    described = document(operations)
    unasked = {operation.path for operation in operations if operation.open}
    operations.append(Operation("GET", "/openapi.json", "This interface as OpenAPI", lambda _: described))
    renderer = Renderer()
    problems = Problems(renderer, Frames(platform, about))
    entrance = entrance or Entrance()
    sign_in = SignIn(platform, renderer).routes() if entrance.sign_in else []
    pages = console(platform, about, stopping, renderer, traffic)
    made = _Application(
        routes=[operation.route() for operation in operations] + sign_in + pages.routes,
        exception_handlers={
            HeadraceError: problems.before(_problem), HTTPException: problems.before(_no_route),
            Exception: problems.before(_defect),
        },
        middleware=[Middleware(Authentication, platform, unasked, _problem)] if entrance.sign_in else [],
    )  # fmt: skip
    made.state.names = entrance.own_names
    made.state.warm_up = pages.warm_up
    return made


class _Application(Starlette):
    """Starlette's middleware stands within its handler of defects; the headers are for what that answers, too."""

    def build_middleware_stack(self) -> ASGIApp:
        return SecurityHeaders(super().build_middleware_stack())


def _is_kfp(request: Request) -> bool:
    return request.url.path.startswith(f"{kfp.PREFIX}/")


def _problem(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HeadraceError)
    return kfp.problem(error) if _is_kfp(request) else errors.respond(request, error)


def _no_route(request: Request, error: Exception) -> JSONResponse:
    """What Starlette says of an unknown path (404) or of a method that a path does not have (405), as JSON."""
    assert isinstance(error, HTTPException)
    told = f"{request.method} {request.url.path}: {error.detail}"
    if _is_kfp(request):
        return http_problem(error.status_code, told)
    body = {"error": told, "remedy": f"Headrace's own interface is below {PREFIX}, KFP's below {kfp.PREFIX}."}
    return JSONResponse(body, status_code=error.status_code, headers=error.headers)


def _defect(request: Request, error: Exception) -> JSONResponse:
    """A defect: its traceback goes to the server's terminal, and not to whoever asked."""
    told = f"{type(error).__name__} in {request.method} {request.url.path}"
    if _is_kfp(request):
        return http_problem(500, told)
    return JSONResponse({"error": told, "remedy": "This is a defect of Headrace; report it."}, status_code=500)
