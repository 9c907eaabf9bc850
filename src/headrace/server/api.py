"""Headrace's own HTTP interface below /apis/headrace/v1: triggers, gates, late labels, runs, services, events.

Bodies and answers are JSON. Each route is one call of a function that the command line uses, too.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

import headrace
from headrace.control.rollouts import actions as rollout_actions
from headrace.control.rollouts import queries as rollout_queries
from headrace.control.triggers import push
from headrace.errors import ForbiddenError, HeadraceError, UsageError
from headrace.governance import approvals
from headrace.governance.rbac import Role
from headrace.project import lineage
from headrace.project.wiring import Platform
from headrace.runs import browse, pipelines
from headrace.runs import queries as run_queries
from headrace.runs.browse import Wanted
from headrace.runs.logs import LogReader
from headrace.runs.rerun import rerun
from headrace.server.operations import FLAG, NUMBER, OBJECT, TEXT, Operation, Schema
from headrace.server.requests import Call, Fields
from headrace.serving import payload_log
from headrace.store import events

PREFIX = "/apis/headrace/v1"
MAX_LABELS = 10_000
# Of each metric. A rollout has some thousands, however long it lasts.
MOST_WINDOWS = 10_000
FOLLOW_SECONDS = 0.2
_LABELS = '{"labels": [{"id": "<prediction id>", "value": …}]}'
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_LARGEST_NUMBER = 2**63 - 1  # SQLite's
_WHO: dict[str, Schema] = {"actor": TEXT, "reason": TEXT}
_PUSH: dict[str, Schema] = {"repository": TEXT, "ref": TEXT, "before": TEXT, "after": TEXT, "actor": TEXT}
_RERUN: dict[str, Schema] = {**_WHO, "from": {"type": "array", "items": TEXT}, "parameters": OBJECT}
_STEERED = (":promote", ":abort", ":rollback")
_LIST: dict[str, Schema] = {"limit": NUMBER}


class Api:
    """The handlers over one platform. `stopping` tells that the server is about to end: streams end before it."""

    def __init__(self, platform: Platform, about: dict[str, Any], stopping: Callable[[], bool]) -> None:
        self.platform = platform
        self.database = platform.database
        self.about = about
        self.stopping = stopping

    def operations(self) -> list[Operation]:
        """Every operation, GET where it reads and POST where it changes something."""
        # A path parameter would swallow the verb after the colon, so the verbs come first.
        return [
            Operation("GET", "/healthz", "Whether the server is up, and its addresses", self.tell_health, open=True),
            *(
                Operation("POST", PREFIX + path, summary, handler, body=body, roles=_roles(path))
                for path, summary, handler, body in self._writes()
            ),
            *(
                Operation("GET", PREFIX + path, summary, handler, query=query)
                for path, summary, handler, query in self._reads()
            ),
        ]

    def _writes(self) -> list[tuple[str, str, Callable[[Call], Any], dict[str, Schema]]]:
        labels: dict[str, Schema] = {"service": TEXT, "labels": {"type": "array", "items": OBJECT}}
        return [
            ("/triggers/push", "Tell of a push", self.receive_push, _PUSH),
            ("/labels", "Record late labels", self.record_labels, labels),
            ("/gates/{gate}:approve", "Approve a gate", self.approve_gate, {**_WHO, "values": OBJECT}),
            ("/gates/{gate}:reject", "Reject a gate", self.reject_gate, {**_WHO, "values": OBJECT}),
            ("/runs/{run}:rerun", "Go on from a finished run in a new one", self.rerun, _RERUN),
            ("/rollouts/{rollout}:promote", "Go on with a rollout", self.promote_rollout, _WHO),
            ("/rollouts/{rollout}:pause", "Hold a rollout", self.pause_rollout, _WHO),
            ("/rollouts/{rollout}:abort", "End a rollout and go back", self.abort_rollout, _WHO),
            ("/services/{service}:rollback", "Put the revision before back", self.rollback_service, _WHO),
        ]

    def _reads(self) -> list[tuple[str, str, Callable[[Call], Any], dict[str, Schema]]]:
        version = "/pipelines/{pipeline}/versions/{version}/document"
        return [
            ("/gates", "Gates", self.list_gates, {"state": TEXT}),
            ("/gates/{gate}", "A gate with its evidence", self.show_gate, {}),
            ("/runs", "Runs", self.list_runs, _LIST),
            ("/runs/{run}", "A run with its tasks", self.show_run, {}),
            ("/runs/{run}/logs", "What tasks print", self.stream_logs, {"task": TEXT, "follow": FLAG}),
            ("/runs/{run}/document", "A run's pipeline as it came", self.show_run_document, {}),
            (version, "A version's pipeline as it came", self.show_version_document, {}),
            ("/services", "Services", self.list_services, {}),
            ("/services/{service}", "A service", self.show_service, {}),
            ("/rollouts", "Rollouts", self.list_rollouts, _LIST),
            ("/rollouts/{rollout}/windows", "What a rollout counted", self.show_windows, {"points": NUMBER}),
            ("/rollouts/{rollout}", "A rollout", self.show_rollout, {}),
            ("/lineage", "What something came from", self.show_lineage, {"start": TEXT, "direction": TEXT}),
            ("/events", "The event log", self.list_events, {**_LIST, "after": NUMBER, "subject": TEXT}),
        ]

    def tell_health(self, call: Call) -> Any:
        told = {"status": "ok", "version": headrace.__version__}
        # Whoever has not signed in learns that it is up, and no more.
        return {**told, **self.about} if call.who.roles else told

    def receive_push(self, call: Call) -> Any:
        body = call.body
        seq = push.receive(
            self.database,
            repository=Path(_text(body, "repository")),
            ref=_text(body, "ref"),
            before=_commit(body, "before"),
            after=_commit(body, "after"),
            actor=_actor(call),
            at=self.platform.clock.now(),
        )
        return {"event": seq}

    def record_labels(self, call: Call) -> Any:
        body = call.body
        service = _text(body, "service")
        labels = body.body.get("labels")
        if not isinstance(labels, list) or len(labels) > MAX_LABELS:
            raise UsageError(f"must be a list of at most {MAX_LABELS}", where="labels", remedy=f"Send {_LABELS}.")
        for number, label in enumerate(labels):
            if not isinstance(label, dict) or not isinstance(label.get("id"), str) or "value" not in label:
                raise UsageError("must have an id and a value", where=f"labels[{number}]", remedy=f"Send {_LABELS}.")
        rollout_queries.service_json(self.database, service)
        pairs = [(label["id"], label["value"]) for label in labels]
        known = payload_log.record_labels(self.platform.home, service, pairs, at=self.platform.clock.now())
        return {"received": len(pairs), "known": known}

    def list_gates(self, call: Call) -> Any:
        return [gate.to_dict() for gate in approvals.gates(self.database, call.query.text("state") or None)]

    def show_gate(self, call: Call) -> Any:
        return approvals.gate(self.database, call.path["gate"]).to_dict()

    def approve_gate(self, call: Call) -> Any:
        return self._decide(call, approve=True)

    def reject_gate(self, call: Call) -> Any:
        return self._decide(call, approve=False)

    def _decide(self, call: Call, *, approve: bool) -> Any:
        return approvals.decide(
            self.database,
            call.path["gate"],
            at=self.platform.clock.now(),
            actor=_actor(call),
            approve=approve,
            reason=_reason(call.body),
            values=_values(call.body),
        ).to_dict()

    def list_runs(self, call: Call) -> Any:
        return browse.newest(self.database, Wanted(), limit=_limit(call)).runs

    def show_run(self, call: Call) -> Any:
        return run_queries.run_json(self.database, call.path["run"])

    def rerun(self, call: Call) -> Any:
        body = call.body
        run_id = rerun(
            self.database,
            self.platform.home,
            call.path["run"],
            actor=_actor(call),
            at=self.platform.clock.now(),
            begin=_texts(body, "from"),
            parameters=body.mapping("parameters"),
            reason=_reason(body),
        )
        self.platform.mlflow_runs.begin(run_id)
        return run_queries.run_json(self.database, run_id)

    def stream_logs(self, call: Call) -> Any:
        task = call.query.text("task") or None
        follow = call.query.flag("follow")
        reader = LogReader(self.database, self.platform.home, call.path["run"], task)
        headers = {"cache-control": "no-cache", "x-content-type-options": "nosniff"}
        return StreamingResponse(self._printed(reader, follow=follow), media_type="text/plain", headers=headers)

    async def _printed(self, reader: LogReader, *, follow: bool) -> AsyncIterator[str]:
        """The log, as it grows when `follow`; with titles where it is that of several tasks."""
        while True:
            try:
                pieces, ended = await run_in_threadpool(reader.read)
            except HeadraceError:
                # The run was deleted meanwhile.
                return
            for is_title, text in reader.titled(pieces):
                if reader.task is None or not is_title:
                    yield text
            if ended or self.stopping() or not (follow or pieces):
                return
            await asyncio.sleep(FOLLOW_SECONDS if follow else 0)

    def show_run_document(self, call: Call) -> Any:
        return _as_it_came(run_queries.find(self.database, call.path["run"])["document"])

    def show_version_document(self, call: Call) -> Any:
        chosen = pipelines.choose(self.database, call.path["pipeline"], call.path["version"])
        return _as_it_came(chosen.source.text)

    def list_services(self, call: Call) -> Any:
        return rollout_queries.list_services(self.database)

    def show_service(self, call: Call) -> Any:
        return rollout_queries.service_json(self.database, call.path["service"])

    def list_rollouts(self, call: Call) -> Any:
        return rollout_queries.list_rollouts(self.database, limit=_limit(call))

    def show_rollout(self, call: Call) -> Any:
        return rollout_queries.rollout_json(self.database, call.path["rollout"])

    def show_windows(self, call: Call) -> Any:
        points = _number(call, "points", default=MOST_WINDOWS, least=1, most=MOST_WINDOWS)
        return rollout_queries.windows_json(self.database, call.path["rollout"], points=points)

    def promote_rollout(self, call: Call) -> Any:
        return self._act(rollout_actions.promote, call)

    def pause_rollout(self, call: Call) -> Any:
        return self._act(rollout_actions.pause, call)

    def abort_rollout(self, call: Call) -> Any:
        return self._act(rollout_actions.abort, call)

    def _act(self, action: Callable[..., Any], call: Call) -> Any:
        rollout = call.path["rollout"]
        action(
            self.database, rollout, actor=_actor(call), reason=_reason(call.body), at=self.platform.clock.now()
        )  # fmt: skip
        return rollout_queries.rollout_json(self.database, rollout)

    def rollback_service(self, call: Call) -> Any:
        rollout = rollout_actions.rollback(
            self.database, call.path["service"], actor=_actor(call), reason=_reason(call.body),
            at=self.platform.clock.now(),
        )  # fmt: skip
        return rollout_queries.rollout_json(self.database, rollout)

    def show_lineage(self, call: Call) -> Any:
        start = call.query.text("start")
        if not start:
            raise UsageError("is missing", where="start", remedy=f"As in: ?start={lineage.STARTS[0]}")
        return lineage.lineage(self.platform, start, call.query.text("direction", "up")).to_dict()

    def list_events(self, call: Call) -> Any:
        after = _number(call, "after", default=0, least=0, most=_LARGEST_NUMBER)
        found = events.read(self.database, after=after, subject=call.query.text("subject") or None, limit=_limit(call))
        return [event.to_dict() for event in found]


def _roles(path: str) -> Sequence[Role]:
    """Who may change what is at a path: gates are the approvers', and to stop a rollout is everybody's who acts."""
    if path.startswith("/gates/"):
        return (Role.APPROVER,)
    return (Role.OPERATOR, Role.APPROVER) if path.endswith(_STEERED) else (Role.OPERATOR,)


def _as_it_came(text: str) -> Response:
    return Response(text, media_type="application/yaml", headers={"x-content-type-options": "nosniff"})


def _text(body: Fields, field: str) -> str:
    value = _optional_text(body, field)
    if not value:
        raise UsageError("is missing", where=field, remedy=f'Send {{"{field}": "…"}}.')
    return value


def _optional_text(body: Fields, field: str) -> str:
    value = "" if body.body.get(field) is None else body.body[field]
    if not isinstance(value, str) or "\0" in value:
        raise UsageError("must be a string", where=field, remedy=f'Send {{"{field}": "…"}}.')
    return value


def _texts(body: Fields, field: str) -> list[str]:
    values = [] if body.body.get(field) is None else body.body[field]
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise UsageError("must be a list of strings", where=field, remedy=f'Send {{"{field}": ["…"]}}.')
    return values


def _commit(body: Fields, field: str) -> str:
    """A commit's full name; anything else could be an option to git."""
    value = _text(body, field)
    if _COMMIT.fullmatch(value) is None:
        raise UsageError(f"{value!r} is not a commit", where=field, remedy="Send its full sha, or 40 zeros for none.")
    return value


def _actor(call: Call) -> str:
    """Whoever acts. Where nobody signs in, whoever asks may say for whom."""
    said = _optional_text(call.body, "actor")
    if said and call.who.signed_in and said not in (call.who.name, call.who.name.removeprefix("user:")):
        raise ForbiddenError(
            f"the token is that of {call.who.name}", where="actor", remedy="Leave it out, or send your own token."
        )
    return call.who.name if call.who.signed_in or not said else f"user:{said}"


def _reason(body: Fields) -> str:
    return _optional_text(body, "reason")


def _values(body: Fields) -> dict[str, Any]:
    values = {} if body.body.get("values") is None else body.body["values"]
    if not isinstance(values, dict):
        raise UsageError("must be an object", where="values", remedy='Send {"values": {"name": value}}.')
    return values


def _limit(call: Call) -> int:
    return _number(call, "limit", default=100, least=1, most=1000)


def _number(call: Call, name: str, *, default: int, least: int, most: int) -> int:
    text = call.query.text(name, str(default))
    if re.fullmatch(r"[0-9]{1,19}", text) is None or not least <= int(text) <= most:
        raise UsageError(f"must be a number from {least} to {most}", where=name, remedy=f"As in: ?{name}={default}")
    return int(text)
