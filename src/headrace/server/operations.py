"""An operation of the HTTP interface: from one description follow its route and its place in the OpenAPI document."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import headrace
from headrace.governance.rbac import Role
from headrace.server import access
from headrace.server.json_text import json_text
from headrace.server.requests import MAX_BODY_BYTES, Call, Fields, read_body, read_upload, refuse_other_sites

Schema = Mapping[str, Any]
TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "integer"}
FLAG: Schema = {"type": "boolean"}
OBJECT: Schema = {"type": "object"}
TIME: Schema = {"type": "string", "format": "date-time"}
UPLOAD_FIELD = "uploadfile"
_WITH_BODY = ("POST", "PATCH")


@dataclass(frozen=True)
class Operation:
    """`path` is below no prefix; `query` and `body` are JSON schemas by name. `answer` gives JSON, or a Response.

    A body is read for every POST and PATCH; `upload` reads a file instead. `open`: whoever asks need not sign in.
    """

    method: str
    path: str
    summary: str
    answer: Callable[[Call], Any]
    query: Mapping[str, Schema] = field(default_factory=dict)
    body: Mapping[str, Schema] = field(default_factory=dict)
    required: Sequence[str] = ()
    upload: bool = False
    most_bytes: int = MAX_BODY_BYTES
    roles: Sequence[Role] = ()
    open: bool = False

    @property
    def allowed(self) -> Sequence[Role]:
        """The roles one of which it takes: what it says itself, else a viewer's to read, and an operator's to act."""
        return self.roles or ((Role.VIEWER,) if self.method == "GET" else (Role.OPERATOR,))

    def route(self) -> Route:
        """The route that answers it."""
        return Route(self.path, self._endpoint, methods=[self.method], name=self.identity)

    @property
    def identity(self) -> str:
        """Its operationId."""
        return re.sub(r"\W+", "_", f"{self.method.lower()}{self.path}")

    async def _endpoint(self, request: Request) -> Response:
        refuse_other_sites(request)
        if not self.open:
            access.require(request, *self.allowed)
        query = call_of(request, self.query).query
        body, upload = Fields(), ("", b"")
        if self.upload:
            upload = await read_upload(request, UPLOAD_FIELD, self.most_bytes)
        elif self.method in _WITH_BODY:
            body = Fields(await read_body(request, self.most_bytes))
        who = access.principal(request)
        told = await run_in_threadpool(self.answer, Call(request.path_params, query, body, upload, who))
        return told if isinstance(told, Response) else Answer(told)

    def described(self) -> dict[str, Any]:
        """The OpenAPI Operation Object."""
        names = re.findall(r"\{(\w+)\}", self.path)
        parameters = [{"name": name, "in": "path", "required": True, "schema": dict(TEXT)} for name in names]
        parameters += [{"name": name, "in": "query", "schema": dict(schema)} for name, schema in self.query.items()]
        told: dict[str, Any] = {
            "operationId": self.identity,
            "summary": self.summary,
            "parameters": parameters,
            "responses": {
                "200": {"description": "Done", "content": {"application/json": {"schema": {}}}},
                "default": {"description": "A problem", "content": {"application/json": {"schema": dict(OBJECT)}}},
            },
        }
        told["security"] = [] if self.open else [{"token": [role.value]} for role in self.allowed]
        if self.upload:
            schema = {
                "type": "object",
                "properties": {UPLOAD_FIELD: {"type": "string", "format": "binary"}},
                "required": [UPLOAD_FIELD],
            }
            told["requestBody"] = {"required": True, "content": {"multipart/form-data": {"schema": schema}}}
        elif self.method in _WITH_BODY:
            body: dict[str, Any] = {"type": "object", "properties": {k: dict(v) for k, v in self.body.items()}}
            if self.required:
                body["required"] = list(self.required)
            told["requestBody"] = {
                "required": bool(self.required), "content": {"application/json": {"schema": body}},
            }  # fmt: skip
        return told


def call_of(request: Request, query: Mapping[str, Schema]) -> Call:
    """A request that brings no body, as a handler takes it."""
    fields = {name: _typed(schema, request.query_params.get(name)) for name, schema in query.items()}
    return Call(request.path_params, Fields(fields), Fields(), who=access.principal(request))


class Answer(JSONResponse):
    """JSON in which NaN is a string."""

    def render(self, content: Any) -> bytes:
        return json_text(content).encode()


def document(operations: Iterable[Operation]) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the operations; each says the roles that it takes where there is a sign-in."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = operation.described()
    return {
        "openapi": "3.1.0",
        "info": {"title": "Headrace", "version": headrace.__version__},
        "paths": paths,
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def _typed(schema: Schema, text: str | None) -> Any:
    """A query parameter's text as the schema's type; what does not fit stays text, for the handler to refuse."""
    if text is None or text == "":
        return None
    if schema.get("type") == "boolean" and text.lower() in ("true", "false"):
        return text.lower() == "true"
    return text
