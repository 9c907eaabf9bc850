"""Signing in: a token in a header, or a session's cookie that a token began; who shows neither is led to /sign-in."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headrace.errors import HeadraceError, UnauthenticatedError
from headrace.governance import sessions, tokens
from headrace.governance.rbac import NOBODY, Principal
from headrace.project.wiring import Platform
from headrace.server import access
from headrace.server.console.pages import CHANGED
from headrace.server.console.problems import wants_page
from headrace.server.console.rendering import Renderer
from headrace.server.errors import CHALLENGE
from headrace.server.requests import refuse_other_sites

PATH = "/sign-in"
# What the page to sign in is made of.
_STATIC = "/static/"
_PARTS_OF_PAGES = (".json", ".live")
LOOK_SECONDS = 5.0
MOST_WRONG = 10
WITHIN_SECONDS = 60.0
SLOW_SECONDS = 0.5
_MOST_ADDRESSES = 1000


class Authentication:
    """Finds out who asks before anything is answered. A token in the header counts alone, whatever cookie there is.

    The paths `unasked` are answered to everybody; `refuse` makes the answer to whoever is not let in.
    """

    def __init__(
        self,
        app: ASGIApp,
        platform: Platform,
        unasked: Collection[str],
        refuse: Callable[[Request, Exception], Response],
    ) -> None:
        self.app = app
        self.platform = platform
        self.unasked = {*unasked, PATH}
        self.refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive)
        is_open = scope["path"] in self.unasked or scope["path"].startswith(_STATIC)
        try:
            who = await run_in_threadpool(self._who, request)
        except HeadraceError as error:
            if not is_open:
                await self.refuse(request, error)(scope, receive, send)
                return
            who = NOBODY
        request.state.principal = who
        if who is NOBODY and not is_open:
            await self._lead(request)(scope, receive, send)
            return
        await self.app(scope, receive, self._while_valid(request, send))

    def _while_valid(self, request: Request, send: Send) -> Send:
        """Ends a stream (logs, changes) soon after the token or the session that it was asked for with."""
        looked, ended = time.monotonic(), False
        # A page that is told to look again finds that nobody is signed in, and leads the person.
        last = CHANGED.encode() if request.url.path.endswith(".live") else b""

        async def send_while_valid(message: Message) -> None:
            nonlocal looked, ended
            if ended:
                return
            if message.get("more_body") and time.monotonic() - looked > LOOK_SECONDS:
                looked = time.monotonic()
                ended = not await run_in_threadpool(self._still_valid, request)
            # The end of the answer has Starlette cancel what makes it.
            await send({"type": "http.response.body", "body": last} if ended else message)

        return send_while_valid

    def _still_valid(self, request: Request) -> bool:
        if request.state.principal is NOBODY:
            return True
        try:
            return self._who(request) is not NOBODY
        except UnauthenticatedError:
            return False

    def _who(self, request: Request) -> Principal:
        at = self.platform.clock.now()
        header = request.headers.get("authorization")
        if header is not None:
            scheme, _, secret = header.partition(" ")
            token = tokens.whose(self.platform.database, secret.strip(), at) if scheme.lower() == "bearer" else None
            if token is None:
                raise access.unauthenticated("this token is unknown, expired or revoked")
            return token.principal
        session = request.cookies.get(access.SESSION_COOKIE, "")
        if not session:
            return NOBODY
        return sessions.whose(self.platform.database, session, at=at, used=_is_a_persons(request)) or NOBODY

    def _lead(self, request: Request) -> Response:
        path = request.url.path
        if not wants_page(request) or path.endswith(_PARTS_OF_PAGES) or "hx-request" in request.headers:
            refused = self.refuse(request, access.unauthenticated())
            if "hx-request" in request.headers:
                # A page that is open looks again by itself, and then leads the person.
                refused.headers["hx-redirect"] = _sign_in_path(request)
            return refused
        return RedirectResponse(_sign_in_path(request), status_code=303)


@dataclass(frozen=True)
class SignInPage:
    """`next`: where one goes on; `problem`: why one was not let in, else ""."""

    next: str
    problem: str = ""


class Attempts:
    """How often each address was wrong of late. It remembers a bounded number of addresses."""

    def __init__(self) -> None:
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()

    def wrong(self, address: str) -> None:
        """Remember a wrong token from an address."""
        found = self._wrong.pop(address, None) or deque(maxlen=MOST_WRONG)
        found.append(time.monotonic())
        self._wrong[address] = found
        if len(self._wrong) > _MOST_ADDRESSES:
            self._wrong.popitem(last=False)

    def wait_seconds(self, address: str) -> float:
        """How long an address has to wait until it may try again; 0: it may now."""
        found = self._wrong.get(address)
        if found is None or len(found) < MOST_WRONG:
            return 0.0
        return max(0.0, found[0] + WITHIN_SECONDS - time.monotonic())


class SignIn:
    """The page /sign-in and what its form, and the one to sign out, do."""

    def __init__(self, platform: Platform, renderer: Renderer) -> None:
        self.platform = platform
        self.renderer = renderer
        self.attempts = Attempts()

    def routes(self) -> list[BaseRoute]:
        """Their routes."""
        return [
            Route(PATH, self._page),
            Route(PATH, self._begin, methods=["POST"]),
            Route("/sign-out", self._end, methods=["POST"]),
        ]

    async def _page(self, request: Request) -> Response:
        refuse_other_sites(request)
        following = local_path(request.query_params.get("next", "/"))
        if access.principal(request).roles:
            return RedirectResponse(following, status_code=303)
        return self._shown(request, SignInPage(following))

    async def _begin(self, request: Request) -> Response:
        fields = await access.read_own_form(request)
        following = local_path(fields.get("next", "/"))
        address = request.client.host if request.client else ""
        wait = self.attempts.wait_seconds(address)
        if wait:
            told = f"That was wrong too often. Try again in {int(wait) + 1} s."
            response = self._shown(request, SignInPage(following, told), 429)
            response.headers["retry-after"] = str(int(wait) + 1)
            return response
        session = await run_in_threadpool(self._session, fields.get("token", "").strip())
        if session is None:
            self.attempts.wrong(address)
            await asyncio.sleep(SLOW_SECONDS)
            told = "This token is unknown, expired or revoked."
            response = self._shown(request, SignInPage(following, told), 401)
            response.headers.update(CHALLENGE)
            return response
        response = RedirectResponse(following, status_code=303)
        access.set_session(request, response, session)
        return response

    def _session(self, secret: str) -> str | None:
        at = self.platform.clock.now()
        token = tokens.whose(self.platform.database, secret, at)
        return None if token is None else sessions.begin(self.platform.database, token, at=at)

    async def _end(self, request: Request) -> Response:
        await access.read_own_form(request)
        session = request.cookies.get(access.SESSION_COOKIE, "")
        await run_in_threadpool(sessions.end, self.platform.database, session, at=self.platform.clock.now())
        response = RedirectResponse(PATH, status_code=303)
        response.delete_cookie(access.SESSION_COOKIE, path="/")
        # What the browser keeps of the pages that were seen is theirs who signed out.
        response.headers["clear-site-data"] = '"cache"'
        return response

    def _shown(self, request: Request, page: SignInPage, status: int = 200) -> Response:
        return self.renderer.bare(request, "sign_in.html", page, status=status)


def local_path(text: str) -> str:
    """A path of this server, or "/" for anything that could lead elsewhere.

    Browsers read a backslash as a slash and leave out tabs and line ends (https://url.spec.whatwg.org/#url-parsing).
    """
    is_local = text.startswith("/") and not text.startswith(("//", PATH)) and "\\" not in text and text.isprintable()
    return text if is_local else "/"


def _sign_in_path(request: Request) -> str:
    query = f"?{request.url.query}" if request.url.query else ""
    back = request.url.path + query if request.method == "GET" else "/"
    return f"{PATH}?next={quote(back, safe='')}"


def _is_a_persons(request: Request) -> bool:
    """Whether a person has asked, and not a page that watches for changes by itself."""
    return "hx-request" not in request.headers and not request.url.path.endswith(_PARTS_OF_PAGES)
