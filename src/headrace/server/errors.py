"""How a problem looks over HTTP: `{"error": …, "remedy": …}` with the status that fits."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse

from headrace.errors import (
    ConflictError,
    ForbiddenError,
    HeadraceError,
    NotFoundError,
    StorageError,
    UnauthenticatedError,
    UsageError,
)

CHALLENGE = {"www-authenticate": 'Bearer realm="headrace"'}
"""What an answer 401 has to say (RFC 9110, section 15.5.2): how one is let in."""


def respond(request: Request, error: Exception) -> JSONResponse:
    """The answer to a request that ended in a HeadraceError."""
    assert isinstance(error, HeadraceError)
    body = {"error": f"{error.where}: {error.problem}" if error.where else error.problem}
    if error.remedy:
        body["remedy"] = error.remedy
    status = status_of(error)
    return JSONResponse(body, status_code=status, headers=CHALLENGE if status == 401 else None)


def status_of(error: HeadraceError) -> int:
    """401 not signed in, 403 forbidden, 404 not found, 409 conflict, 400 wrong, 503 the disk is full, 500 else."""
    kinds: tuple[tuple[type[HeadraceError], int], ...] = (
        (NotFoundError, 404), (ForbiddenError, 403), (UnauthenticatedError, 401), (ConflictError, 409),
        (UsageError, 400), (StorageError, 503),
    )  # fmt: skip
    return next((status for kind, status in kinds if isinstance(error, kind)), 500)
