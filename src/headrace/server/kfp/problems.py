"""How a problem looks in KFP's API: google.rpc.Status as its gateway writes it, with the HTTP status that fits.

Source: https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto
"""

from __future__ import annotations

from starlette.responses import JSONResponse

from headrace.errors import (
    AlreadyExistsError,
    ConflictError,
    ForbiddenError,
    HeadraceError,
    NotFoundError,
    StorageError,
    UnauthenticatedError,
    UnsupportedError,
    UsageError,
)
from headrace.server.errors import CHALLENGE

_INTERNAL = (13, 500)
# The kind of an error: google.rpc.Code and HTTP status. The first that fits counts.
_CODES: tuple[tuple[type[HeadraceError], tuple[int, int]], ...] = (
    (NotFoundError, (5, 404)),
    (AlreadyExistsError, (6, 409)),
    (ConflictError, (9, 400)),
    (UnsupportedError, (9, 400)),
    (ForbiddenError, (7, 403)),
    (UnauthenticatedError, (16, 401)),
    (UsageError, (3, 400)),
    (StorageError, (14, 503)),
)
_BY_STATUS = {400: 3, 404: 5, 405: 12}


def problem(error: HeadraceError) -> JSONResponse:
    """The answer to a request that ended in an error."""
    code, status = next((known for kind, known in _CODES if isinstance(error, kind)), _INTERNAL)
    where = f"{error.where}: " if error.where else ""
    remedy = f" {error.remedy}" if error.remedy else ""
    return _answer(code, f"{where}{error.problem}.{remedy}" if remedy else f"{where}{error.problem}", status)


def http_problem(status: int, message: str) -> JSONResponse:
    """The answer to a request that no operation answers (404, 405), or that failed (500)."""
    return _answer(_BY_STATUS.get(status, _INTERNAL[0]), message, status)


def _answer(code: int, message: str, status: int) -> JSONResponse:
    detail = {"@type": "type.googleapis.com/google.rpc.Status", "code": code, "message": message}
    body = {"error": message, "code": code, "message": message, "details": [detail]}
    return JSONResponse(body, status_code=status, headers=CHALLENGE if status == 401 else None)
