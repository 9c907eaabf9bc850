"""Headrace's own HTTP interface below /apis/headrace/v1: triggers, gates, late labels, runs, services, events.

Bodies and answers are JSON. Each route is one call of a function that the command line uses, too.
"""

from __future__ import annotations

import getpass
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import headrace
from headrace.control.rollouts import actions as rollout_actions
from headrace.control.rollouts import queries as rollout_queries
from headrace.control.triggers import push
from headrace.errors import HeadraceError, UsageError
from headrace.governance import approvals
from headrace.project.wiring import Platform
from headrace.runs import queries as run_queries
from headrace.server.errors import respond
from headrace.server.json_text import json_text
from headrace.serving import payload_log
from headrace.store import events

PREFIX = "/apis/headrace/v1"
MAX_BODY_BYTES = 8 * 1024 * 1024
MAX_LABELS = 10_000
_LABELS = '{"labels": [{"id": "<prediction id>", "value": …}]}'
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_LARGEST_NUMBER = 2**63 - 1  # SQLite's


class Api:
    """The handlers over one platform."""

    def __init__(self, platform: Platform, about: dict[str, Any]) -> None:
        self.platform = platform
        self.database = platform.database
        self.about = about

    def routes(self) -> list[Route]:
        """Every route, GET where it reads and POST where it changes something."""
        reads: dict[str, Callable[[Request], Any]] = {
            "/gates": self.list_gates,
            "/gates/{gate}": self.show_gate,
            "/runs": self.list_runs,
            "/runs/{run}": self.show_run,
            "/services": self.list_services,
            "/services/{service}": self.show_service,
            "/rollouts": self.list_rollouts,
            "/rollouts/{rollout}/windows": self.show_windows,
            "/rollouts/{rollout}": self.show_rollout,
            "/events": self.list_events,
        }
        writes: dict[str, Callable[[Request, dict[str, Any]], Any]] = {
            "/triggers/push": self.receive_push,
            "/labels": self.record_labels,
            "/gates/{gate}:approve": self.approve_gate,
            "/gates/{gate}:reject": self.reject_gate,
            "/rollouts/{rollout}:promote": self.promote_rollout,
            "/rollouts/{rollout}:pause": self.pause_rollout,
            "/rollouts/{rollout}:abort": self.abort_rollout,
            "/services/{service}:rollback": self.rollback_service,
        }
        return [
            Route("/healthz", _reader(lambda _: {"status": "ok", "version": headrace.__version__, **self.about})),
            # A path parameter would swallow the verb after the colon, so the verbs come first.
            *(Route(PREFIX + path, _writer(handler), methods=["POST"]) for path, handler in writes.items()),
            *(Route(PREFIX + path, _reader(handler)) for path, handler in reads.items()),
        ]

    def receive_push(self, request: Request, body: dict[str, Any]) -> Any:
        seq = push.receive(
            self.database,
            repository=Path(_text(body, "repository")),
            ref=_text(body, "ref"),
            before=_commit(body, "before"),
            after=_commit(body, "after"),
            actor=_actor(body),
            at=self.platform.clock.now(),
        )
        return {"event": seq}

    def record_labels(self, request: Request, body: dict[str, Any]) -> Any:
        service = _text(body, "service")
        labels = body.get("labels")
        if not isinstance(labels, list) or len(labels) > MAX_LABELS:
            raise UsageError(f"must be a list of at most {MAX_LABELS}", where="labels", remedy=f"Send {_LABELS}.")
        for number, label in enumerate(labels):
            if not isinstance(label, dict) or not isinstance(label.get("id"), str) or "value" not in label:
                raise UsageError("must have an id and a value", where=f"labels[{number}]", remedy=f"Send {_LABELS}.")
        rollout_queries.service_json(self.database, service)
        pairs = [(label["id"], label["value"]) for label in labels]
        known = payload_log.record_labels(self.platform.home, service, pairs, at=self.platform.clock.now())
        return {"received": len(pairs), "known": known}

    def list_gates(self, request: Request) -> Any:
        return [gate.to_dict() for gate in approvals.gates(self.database, request.query_params.get("state"))]

    def show_gate(self, request: Request) -> Any:
        return approvals.gate(self.database, request.path_params["gate"]).to_dict()

    def approve_gate(self, request: Request, body: dict[str, Any]) -> Any:
        return self._decide(request, body, approve=True)

    def reject_gate(self, request: Request, body: dict[str, Any]) -> Any:
        return self._decide(request, body, approve=False)

    def _decide(self, request: Request, body: dict[str, Any], *, approve: bool) -> Any:
        return approvals.decide(
            self.database,
            request.path_params["gate"],
            at=self.platform.clock.now(),
            actor=_actor(body),
            approve=approve,
            reason=_reason(body),
            values=_values(body),
        ).to_dict()

    def list_runs(self, request: Request) -> Any:
        return run_queries.list_runs(self.database, limit=_limit(request))

    def show_run(self, request: Request) -> Any:
        return run_queries.run_json(self.database, request.path_params["run"])

    def list_services(self, request: Request) -> Any:
        return rollout_queries.list_services(self.database)

    def show_service(self, request: Request) -> Any:
        return rollout_queries.service_json(self.database, request.path_params["service"])

    def list_rollouts(self, request: Request) -> Any:
        return rollout_queries.list_rollouts(self.database, limit=_limit(request))

    def show_rollout(self, request: Request) -> Any:
        return rollout_queries.rollout_json(self.database, request.path_params["rollout"])

    def show_windows(self, request: Request) -> Any:
        return rollout_queries.windows_json(self.database, request.path_params["rollout"])

    def promote_rollout(self, request: Request, body: dict[str, Any]) -> Any:
        return self._act(rollout_actions.promote, request, body)

    def pause_rollout(self, request: Request, body: dict[str, Any]) -> Any:
        return self._act(rollout_actions.pause, request, body)

    def abort_rollout(self, request: Request, body: dict[str, Any]) -> Any:
        return self._act(rollout_actions.abort, request, body)

    def _act(self, action: Callable[..., Any], request: Request, body: dict[str, Any]) -> Any:
        rollout = request.path_params["rollout"]
        action(
            self.database, rollout, actor=_actor(body), reason=_reason(body), at=self.platform.clock.now()
        )  # fmt: skip
        return rollout_queries.rollout_json(self.database, rollout)

    def rollback_service(self, request: Request, body: dict[str, Any]) -> Any:
        rollout = rollout_actions.rollback(
            self.database, request.path_params["service"], actor=_actor(body), reason=_reason(body),
            at=self.platform.clock.now(),
        )  # fmt: skip
        return rollout_queries.rollout_json(self.database, rollout)

    def list_events(self, request: Request) -> Any:
        after = _number(request, "after", default=0, least=0, most=_LARGEST_NUMBER)
        found = events.read(
            self.database, after=after, subject=request.query_params.get("subject"), limit=_limit(request)
        )
        return [event.to_dict() for event in found]


def application(platform: Platform, about: dict[str, Any]) -> Starlette:
    """The ASGI application; `about` is what /healthz tells of this server (addresses)."""
    return Starlette(
        routes=list(Api(platform, about).routes()),
        exception_handlers={HeadraceError: respond, HTTPException: _no_route},
    )


class _Answer(JSONResponse):
    def render(self, content: Any) -> bytes:
        return json_text(content).encode()


def _no_route(request: Request, error: Exception) -> JSONResponse:
    """What Starlette says of an unknown path (404) or of a method that a path does not have (405), as JSON."""
    assert isinstance(error, HTTPException)
    body = {
        "error": f"{request.method} {request.url.path}: {error.detail}",
        "remedy": f"Headrace's own interface is below {PREFIX}.",
    }
    return JSONResponse(body, status_code=error.status_code, headers=error.headers)


def _reader(handler: Callable[[Request], Any]) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> _Answer:
        _refuse_other_names(request)
        return _Answer(await run_in_threadpool(handler, request))

    return endpoint


def _writer(handler: Callable[[Request, dict[str, Any]], Any]) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> _Answer:
        _refuse_other_names(request)
        body = await _body(request)
        return _Answer(await run_in_threadpool(handler, request, body))

    return endpoint


def _refuse_other_names(request: Request) -> None:
    """A page of another site whose name leads to 127.0.0.1 is still of another site."""
    if request.url.hostname not in ("127.0.0.1", "localhost"):
        raise UsageError(
            f"{request.url.hostname} is not a name of this server", remedy="Ask 127.0.0.1 or localhost by name."
        )


async def _body(request: Request) -> dict[str, Any]:
    import orjson

    # A page of another site can make a browser send a form here, but not JSON.
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise UsageError("the body must be JSON", remedy="Send it with the header content-type: application/json.")
    raw = bytearray()
    async for piece in request.stream():
        raw += piece
        if len(raw) > MAX_BODY_BYTES:
            raise UsageError(f"the body is larger than {MAX_BODY_BYTES // 1024 // 1024} MiB", remedy="Send less.")
    if not raw:
        return {}
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise UsageError(f"the body is not JSON: {error}", remedy="Send a JSON object.") from error
    if not isinstance(body, dict):
        raise UsageError("the body must be a JSON object", remedy='Send {"name": value, …}.')
    return body


def _text(body: dict[str, Any], field: str) -> str:
    value = _optional_text(body, field)
    if not value:
        raise UsageError("is missing", where=field, remedy=f'Send {{"{field}": "…"}}.')
    return value


def _optional_text(body: dict[str, Any], field: str) -> str:
    value = "" if body.get(field) is None else body[field]
    if not isinstance(value, str) or "\0" in value:
        raise UsageError("must be a string", where=field, remedy=f'Send {{"{field}": "…"}}.')
    return value


def _commit(body: dict[str, Any], field: str) -> str:
    """A commit's full name; anything else could be an option to git."""
    value = _text(body, field)
    if _COMMIT.fullmatch(value) is None:
        raise UsageError(f"{value!r} is not a commit", where=field, remedy="Send its full sha, or 40 zeros for none.")
    return value


def _actor(body: dict[str, Any]) -> str:
    return f"user:{_optional_text(body, 'actor') or getpass.getuser()}"


def _reason(body: dict[str, Any]) -> str:
    return _optional_text(body, "reason")


def _values(body: dict[str, Any]) -> dict[str, Any]:
    values = {} if body.get("values") is None else body["values"]
    if not isinstance(values, dict):
        raise UsageError("must be an object", where="values", remedy='Send {"values": {"name": value}}.')
    return values


def _limit(request: Request) -> int:
    return _number(request, "limit", default=100, least=1, most=1000)


def _number(request: Request, name: str, *, default: int, least: int, most: int) -> int:
    text = request.query_params.get(name, str(default))
    if re.fullmatch(r"[0-9]{1,19}", text) is None or not least <= int(text) <= most:
        raise UsageError(f"must be a number from {least} to {most}", where=name, remedy=f"As in: ?{name}={default}")
    return int(text)
