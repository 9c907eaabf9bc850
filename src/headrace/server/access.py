"""Who asks, and whether a form is really theirs.

A form carries a token that follows from the session's cookie, which no page of another site and no script can read
(https://cheatsheetseries.owasp.org/cheatsheets/Cross-Site_Request_Forgery_Prevention_Cheat_Sheet.html).
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response

from headrace.errors import ForbiddenError, UnauthenticatedError, UsageError
from headrace.governance import tokens
from headrace.governance.rbac import Principal, Role, owner
from headrace.server.requests import read_raw, refuse_other_sites
from headrace.store.database import Database

SESSION_COOKIE = "headrace-session"
CSRF_FIELD = "csrf"
# A browser that asks for one of these has been led here by somebody else.
_EVERY_ADDRESS = ("0.0.0.0", "::")
_MOST_FORM_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Entrance:
    """Where the server listens, whether whoever asks must sign in, and the names that it answers to."""

    host: str = "127.0.0.1"
    sign_in: bool = False
    names: frozenset[str] = frozenset()

    @property
    def own_names(self) -> frozenset[str]:
        """What a Host header may say besides this machine's own names, in small letters; IPv6 in brackets."""
        host = set() if self.host in _EVERY_ADDRESS else {f"[{self.host}]" if ":" in self.host else self.host}
        return frozenset(name.lower() for name in self.names | host)

    def check(self, database: Database, at: float) -> None:
        """Refuse to listen for others without a sign-in, or with one that nobody could pass. Raises UsageError."""
        make = "headrace tokens create NAME --role admin"
        opened = ["--host"] * (not _is_this_machine(self.host)) + ["--name"] * bool(self.names)
        if opened and not self.sign_in:
            raise UsageError(
                f"with {opened[0]} others reach this server, and it asks nobody who they are",
                remedy=f"Add --sign-in, which needs a token ({make}), or leave {opened[0]} out.",
            )
        if self.sign_in and not tokens.has_admin(database, at):
            raise UsageError(
                "--sign-in lets nobody in: there is no valid token of an admin", remedy=f"Make one: {make}"
            )
        if self.host in _EVERY_ADDRESS and not self.names:
            raise UsageError(
                f"--host {self.host} does not say by which names others reach this server",
                remedy="Add --name for each, as in --name headrace.example.com; an address is a name, too.",
            )


def principal(request: Request) -> Principal:
    """Whoever asks. Without sign-in: the person whose machine this is, who may everything."""
    known: Principal | None = getattr(request.state, "principal", None)
    return known or owner()


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
        set_session(request, response, session)


def set_session(request: Request, response: Response, session: str) -> None:
    """Send the cookie of a session; over https the browser keeps it to https."""
    # The server takes the scheme from X-Forwarded-Proto, where a proxy on this machine has sent it.
    secure = request.url.scheme == "https"
    response.set_cookie(SESSION_COOKIE, session, httponly=True, samesite="lax", secure=secure, path="/")


async def read_form(request: Request, *roles: Role) -> Mapping[str, str]:
    """The fields of a form that a page of this server sent, by one who has one of `roles`.

    Raises:
        ForbiddenError: its token is not the session's, or the role is missing.
        UsageError: another site's page sent it, it is not a form, or too large.
    """
    fields = await read_own_form(request)
    require(request, *roles)
    return fields


async def read_own_form(request: Request) -> Mapping[str, str]:
    """The fields of a form that a page of this server sent, whoever sent it. Raises as `read_form`, but for roles."""
    refuse_other_sites(request)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise UsageError("the body must be a form", remedy="Send application/x-www-form-urlencoded.")
    raw = await read_raw(request, _MOST_FORM_BYTES)
    fields = dict(parse_qsl(raw.decode("utf-8", "replace"), keep_blank_values=True))
    require_token(request, fields.pop(CSRF_FIELD, ""))
    return fields


def require_token(request: Request, token: str) -> None:
    """Refuse a form whose token is not that of the session. Raises ForbiddenError."""
    session = request.cookies.get(SESSION_COOKIE, "")
    if not session or not hmac.compare_digest(token.encode(), _token(session).encode()):
        raise ForbiddenError("this form is not from your session", remedy="Load the page again, then send it.")


def require(request: Request, *roles: Role) -> Principal:
    """Whoever asks, when one of `roles` is theirs. Raises UnauthenticatedError, ForbiddenError."""
    who = principal(request)
    if not who.roles:
        raise unauthenticated()
    if not who.may(*roles):
        needed = " or ".join(role.value for role in roles)
        raise ForbiddenError(f"{who.name} may not do that", remedy=f"It takes the role {needed}.")
    return who


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def unauthenticated(problem: str = "nobody is signed in") -> UnauthenticatedError:
    """The error of whoever has not said who they are."""
    return UnauthenticatedError(
        problem, remedy="Send a token, as Authorization: Bearer TOKEN, or sign in at /sign-in with a browser."
    )


def _token(session: str) -> str:
    return hmac.new(session.encode(), b"csrf", hashlib.sha256).hexdigest()
