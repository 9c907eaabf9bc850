"""Headrace's own HTTP interface below /apis/headrace/v1: triggers, gates, late labels, runs, services, events.

Bodies and answers are JSON. Each route is one call of a function that the command line uses, too.
"""

from __future__ import annotations

import getpass
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
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
from headrace.serving import payload_log
from headrace.store import events

PREFIX = "/apis/headrace/v1"
MAX_BODY_BYTES = 8 * 1024 * 1024
MAX_LABELS = 10_000


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
            before=_text(body, "before"),
            after=_text(body, "after"),
            actor=_actor(body),
            at=self.platform.clock.now(),
        )
        return {"event": seq}

    def record_labels(self, request: Request, body: dict[str, Any]) -> Any:
        service = _text(body, "service")
        labels = body.get("labels")
        if not isinstance(labels, list) or len(labels) > MAX_LABELS:
            raise UsageError(f"labels must be a list of at most {MAX_LABELS}", where="labels")
        for number, label in enumerate(labels):
            if not isinstance(label, dict) or not isinstance(label.get("id"), str) or "value" not in label:
                raise UsageError('must be {"id": "<prediction id>", "value": …}', where=f"labels[{number}]")
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
            reason=str(body.get("reason", "")),
            values=body.get("values"),
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

    def promote_rollout(self, request: Request, body: dict[str, Any]) -> Any:
        return self._act(rollout_actions.promote, request, body)

    def pause_rollout(self, request: Request, body: dict[str, Any]) -> Any:
        return self._act(rollout_actions.pause, request, body)

    def abort_rollout(self, request: Request, body: dict[str, Any]) -> Any:
        return self._act(rollout_actions.abort, request, body)

    def _act(self, action: Callable[..., Any], request: Request, body: dict[str, Any]) -> Any:
        rollout = request.path_params["rollout"]
        action(
            self.database, rollout, actor=_actor(body), reason=str(body.get("reason", "")),
            at=self.platform.clock.now(),
        )  # fmt: skip
        return rollout_queries.rollout_json(self.database, rollout)

    def rollback_service(self, request: Request, body: dict[str, Any]) -> Any:
        rollout = rollout_actions.rollback(
            self.database, request.path_params["service"], actor=_actor(body), reason=str(body.get("reason", "")),
            at=self.platform.clock.now(),
        )  # fmt: skip
        return rollout_queries.rollout_json(self.database, rollout)

    def list_events(self, request: Request) -> Any:
        after = request.query_params.get("after", "0")
        if not after.isdigit():
            raise UsageError("must be a number of the log", where="after")
        found = events.read(
            self.database, after=int(after), subject=request.query_params.get("subject"), limit=_limit(request)
        )
        return [event.to_dict() for event in found]


def application(platform: Platform, about: dict[str, Any]) -> Starlette:
    """The ASGI application; `about` is what /healthz tells of this server (addresses)."""
    return Starlette(routes=list(Api(platform, about).routes()), exception_handlers={HeadraceError: respond})


def _reader(handler: Callable[[Request], Any]) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> JSONResponse:
        return JSONResponse(await run_in_threadpool(handler, request))

    return endpoint


def _writer(handler: Callable[[Request, dict[str, Any]], Any]) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> JSONResponse:
        body = await _body(request)
        return JSONResponse(await run_in_threadpool(handler, request, body))

    return endpoint


async def _body(request: Request) -> dict[str, Any]:
    import orjson

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
        raise UsageError(f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise UsageError("the body must be a JSON object")
    return body


def _text(body: dict[str, Any], field: str) -> str:
    value = body.get(field)
    if not isinstance(value, str) or not value:
        raise UsageError("must be a string", where=field, remedy=f'Send {{"{field}": "…"}}.')
    return value


def _actor(body: dict[str, Any]) -> str:
    return f"user:{body.get('actor') or getpass.getuser()}"


def _limit(request: Request) -> int:
    text = request.query_params.get("limit", "100")
    if not text.isdigit() or not 1 <= int(text) <= 1000:
        raise UsageError("must be a number from 1 to 1000", where="limit")
    return int(text)
