"""How a problem looks over HTTP: `{"error": …, "remedy": …}` with the status that fits."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse

from headrace.errors import ConflictError, ForbiddenError, HeadraceError, NotFoundError, StorageError, UsageError


def respond(request: Request, error: Exception) -> JSONResponse:
    """The answer to a request that ended in a HeadraceError."""
    assert isinstance(error, HeadraceError)
    body = {"error": f"{error.where}: {error.problem}" if error.where else error.problem}
    if error.remedy:
        body["remedy"] = error.remedy
    return JSONResponse(body, status_code=status_of(error))


def status_of(error: HeadraceError) -> int:
    """404 not found, 403 forbidden, 409 conflict, 400 wrong request, 503 the disk is full, 500 else."""
    kinds: tuple[tuple[type[HeadraceError], int], ...] = (
        (NotFoundError, 404), (ForbiddenError, 403), (ConflictError, 409), (UsageError, 400), (StorageError, 503),
    )  # fmt: skip
    return next((status for kind, status in kinds if isinstance(error, kind)), 500)
