"""Who asks, and whether a form is really theirs.

A form carries a token that follows from the session's cookie, which no page of another site and no script can read
(https://cheatsheetseries.owasp.org/cheatsheets/Cross-Site_Request_Forgery_Prevention_Cheat_Sheet.html).
"""

from __future__ import annotations

import getpass
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response

from headrace.errors import ForbiddenError, UsageError
from headrace.governance.rbac import Principal, Role
from headrace.server.requests import read_raw, refuse_other_sites

SESSION_COOKIE = "headrace-session"
CSRF_FIELD = "csrf"
_MOST_FORM_BYTES = 1024 * 1024


def principal(request: Request) -> Principal:
    """Whoever asks. Without sign-in: the person whose machine this is, who may everything."""
    known: Principal | None = getattr(request.state, "principal", None)
    return known or Principal(f"user:{getpass.getuser()}", frozenset(Role))


def csrf_token(request: Request) -> str:
    """The token for the forms of a page. A session without a cookie gets one with the answer: `keep_session`."""
    session = request.cookies.get(SESSION_COOKIE) or getattr(request.state, "new_session", "")
    if not session:
        session = request.state.new_session = secrets.token_urlsafe(24)
    return _token(session)


def keep_session(request: Request, response: Response) -> None:
    """Send the cookie of a session that has just begun. Lax, so that a link in a mail leads to a page that can act."""
    session = getattr(request.state, "new_session", "")
    if session:
        secure = request.url.scheme == "https"
        response.set_cookie(SESSION_COOKIE, session, httponly=True, samesite="lax", secure=secure, path="/")


async def read_form(request: Request, *roles: Role) -> Mapping[str, str]:
    """The fields of a form that a page of this server sent, by one who has one of `roles`.

    Raises:
        ForbiddenError: another site's page sent it, its token is not the session's, or the role is missing.
        UsageError: it is not a form, or too large.
    """
    refuse_other_sites(request)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise UsageError("the body must be a form", remedy="Send application/x-www-form-urlencoded.")
    raw = await read_raw(request, _MOST_FORM_BYTES)
    fields = dict(parse_qsl(raw.decode("utf-8", "replace"), keep_blank_values=True))
    require_token(request, fields.pop(CSRF_FIELD, ""))
    require(request, *roles)
    return fields


def require_token(request: Request, token: str) -> None:
    """Refuse a form whose token is not that of the session. Raises ForbiddenError."""
    session = request.cookies.get(SESSION_COOKIE, "")
    if not session or not hmac.compare_digest(token.encode(), _token(session).encode()):
        raise ForbiddenError("this form is not from your session", remedy="Load the page again, then send it.")


def require(request: Request, *roles: Role) -> Principal:
    """Whoever asks, when one of `roles` is theirs. Raises ForbiddenError."""
    who = principal(request)
    if not who.may(*roles):
        needed = " or ".join(role.value for role in roles)
        raise ForbiddenError(f"{who.name} may not do that", remedy=f"It takes the role {needed}.")
    return who


def _token(session: str) -> str:
    return hmac.new(session.encode(), b"csrf", hashlib.sha256).hexdigest()
