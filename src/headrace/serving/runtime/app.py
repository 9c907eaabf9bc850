"""The model server's REST routes, with the answers and codes of KServe's V1 and V2 (Open Inference Protocol).

A client's mistake is 400; an exception inside the model, or an answer that is not fit to be given out, is 500, and that
is what a canary is judged by. A plain ASGI application: nothing stands between uvicorn and a prediction.
"""

from __future__ import annotations

import sys
import time
import traceback
import zlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, NamedTuple, Protocol

import orjson

from headrace.serving.payload_log import PayloadWriter
from headrace.serving.runtime import errors, protocol
from headrace.serving.runtime.models import Model
from headrace.serving.runtime.served import Served, plain
from headrace.serving.runtime.settings import Settings

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_JSON = (b"content-type", b"application/json")
_BYTES = (b"content-type", b"application/octet-stream")
_STATUS: dict[type[Exception], int] = {
    errors.BadRequest: 400, errors.UnknownModel: 404, errors.NotReady: 503, errors.Overloaded: 503,
    errors.NotImplementedHere: 501,
}  # fmt: skip
_MAX_PATHS = 64


class Refusal(Exception):
    """An answer that is none, with its code."""

    def __init__(self, status: int, message: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


class Gone(Exception):
    """The client is no longer there."""


class Answer(NamedTuple):
    """A 200 or other whole answer."""

    body: bytes
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = (_JSON,)


class Companion(Protocol):
    """What lives as long as the application, on the same event loop; both methods are called once."""

    async def start(self) -> None:
        """Begin."""

    async def stop(self) -> None:
        """Finish what runs, and end."""


class ModelServer:
    """One model under one name, as an ASGI application."""

    def __init__(
        self, name: str, revision: str, model: Model, payloads: PayloadWriter | None = None,
        settings: Settings | None = None, **more: Any,
    ) -> None:  # fmt: skip
        self.served = Served(name, revision, model, payloads, settings, **more)
        self.max_body = self.served.settings.max_body
        self.companions: list[Companion] = []
        self._told_at = 0.0
        v1, v2 = f"/v1/models/{name}", f"/v2/models/{name}"
        versioned = f"{v2}/versions/{revision}"
        self._predict: dict[str, Callable[[Scope, Receive], Awaitable[Answer]]] = {
            f"{v1}:predict": self.v1_predict,
            f"{v2}/infer": self.v2_infer,
            f"{versioned}/infer": self.v2_infer,
        }

    def application(self) -> ModelServer:
        """What uvicorn runs: the server itself."""
        return self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._lifespan(scope, receive, send)
            return
        handler = self._predict.get(scope["path"]) if scope["method"] == "POST" else None
        try:
            answer = await (handler or self._route)(scope, receive)
        except Gone:
            return
        except Exception as error:  # noqa: BLE001 - a model may raise anything; the client gets the protocol's answer
            answer = self._refusal(error)
        headers = [*answer.headers, (b"content-length", b"%d" % len(answer.body))]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else answer.body})

    async def v1_predict(self, scope: Scope, receive: Receive) -> Answer:
        """POST /v1/models/NAME:predict."""
        served = self.served
        headers = dict(scope["headers"])
        raw = await self._enter(headers, receive)
        try:
            outputs: Any
            body, outputs = await served.predict_v1(protocol.parse(raw), _texts(headers, served))
        finally:
            served.line.leave()
        if served.payloads is not None:
            told = plain(outputs) if outputs is not None else body.get("predictions", body)
            served.note(
                served.prediction_id(_told(headers, b"x-request-id"), None), told, _told(headers, b"x-headrace-arm"),
                _told(headers, b"x-headrace-user"), raw,
            )  # fmt: skip
        return Answer(protocol.v1_answer(outputs) if outputs is not None else _json(body))

    async def v2_infer(self, scope: Scope, receive: Receive) -> Answer:
        """POST /v2/models/NAME/infer, of any version that there is."""
        served = self.served
        headers = dict(scope["headers"])
        raw = await self._enter(headers, receive)
        try:
            request = protocol.infer_request(raw, headers.get(b"inference-header-content-length"))
            self._refuse_unknown_outputs(request)
            outputs = await served.predict_v2(request, _texts(headers, served))
        finally:
            served.line.leave()
        prediction_id = served.prediction_id(_told(headers, b"x-request-id"), request.id)
        body, length = protocol.infer_answer(
            served.name, served.revision, request.id or prediction_id, outputs, request
        )
        if served.payloads is not None:
            served.note(
                prediction_id, plain(outputs), _told(headers, b"x-headrace-arm"), _told(headers, b"x-headrace-user"),
                raw,
            )  # fmt: skip
        if length is None:
            return Answer(body)
        return Answer(body, 200, (_BYTES, (b"inference-header-content-length", b"%d" % length)))

    def _refuse_unknown_outputs(self, request: protocol.InferRequest) -> None:
        """Before the model is asked, where it says what it has."""
        names = [] if self.served.transformer else [output.name for output in self.served.model.outputs]
        for wanted in request.outputs:
            if names and wanted not in names:
                raise errors.BadRequest(f"The model has no output {wanted!r}, only {', '.join(names)}")

    async def _enter(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        """The whole body of a request that may go to the model; `line.leave` must follow."""
        served = self.served
        served.require_ready()
        if served.line.inside >= served.line.limit:
            served.line.enter()  # says why not, before the body is read
        raw = await self._body(headers, receive)
        served.line.enter()
        return raw

    async def _body(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        """A request's body, unpacked. Raises Refusal and Gone."""
        length = headers.get(b"content-length")
        if length is not None and len(length) < 20 and int(length) > self.max_body:
            raise self._too_large()
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        body: bytes = message.get("body", b"")
        if message.get("more_body"):
            chunks, size = [body], len(body)
            while message.get("more_body"):
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Gone
                chunks.append(message.get("body", b""))
                size += len(chunks[-1])
                if size > self.max_body:
                    raise self._too_large()
            body = b"".join(chunks)
        if len(body) > self.max_body:
            raise self._too_large()
        coding = headers.get(b"content-encoding")
        return body if coding is None or coding == b"identity" else self._unpacked(body, coding)

    def _unpacked(self, body: bytes, coding: bytes) -> bytes:
        if coding not in (b"gzip", b"deflate"):
            raise Refusal(415, "The content-encoding must be gzip, deflate or identity")
        unpacker = zlib.decompressobj(47)  # gzip or zlib, by its head
        try:
            found = unpacker.decompress(body, self.max_body + 1)
        except zlib.error as error:
            raise errors.BadRequest(f"The body is no {coding.decode()}: {error}") from error
        if len(found) > self.max_body:
            raise self._too_large()
        if not unpacker.eof:
            raise errors.BadRequest(f"The body ends within its {coding.decode()} data")
        return found

    def _too_large(self) -> Refusal:
        return Refusal(413, f"The body is larger than {self.max_body} bytes, which is the most that is taken here")

    async def _route(self, scope: Scope, receive: Receive) -> Answer:
        """Everything that is no prediction of this model."""
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        parts = scope["path"].strip("/").split("/")
        found = self._get(parts)
        if method == "GET" and found is not None:
            return found() if callable(found) else Answer(_json(found))
        posted = self._post(parts)
        if method == "POST" and posted is not None:
            return posted()
        if found is None and posted is None:
            raise Refusal(404, "Not Found")
        raise Refusal(405, "Method Not Allowed", (b"allow", b"GET, HEAD" if posted is None else b"POST"))

    def _get(self, parts: list[str]) -> Any:
        """What a GET of this path answers: a body, or a function that gives the answer; None when there is none."""
        served = self.served
        match parts:
            case [""]:
                return {"status": "alive"}
            case ["v1" | "v2", "models"]:
                return {"models": [served.name]}
            case ["v2"]:
                return served.about_server()
            case ["v2", "health", "live"]:
                return {"live": True}
            case ["v2", "health", "ready"]:
                return lambda: Answer(_json({"ready": served.ready}), 200 if served.ready else 503)
            case ["v1", "models", name] if ":" not in name:
                return lambda: self._ready(name)
            case ["v2", "models", name]:
                return lambda: self._metadata(name)
            case ["v2", "models", name, "ready"]:
                return lambda: self._ready(name)
            case ["v2", "models", name, "versions", version]:
                return lambda: self._metadata(name, version)
            case ["v2", "models", name, "versions", version, "ready"]:
                return lambda: self._ready(name, version)
        return None

    def _post(self, parts: list[str]) -> Callable[[], Answer] | None:
        """What a POST to this path does, other than predict; None when there is nothing."""
        match parts:
            case ["v1", "models", named] if named.endswith((":predict", ":explain")):
                return lambda: self._explain(named.rpartition(":")[0], named)
            case ["v2", "models", name, "infer"]:
                return lambda: self._unknown(name)
            case ["v2", "models", name, "versions", version, "infer"]:
                return lambda: self._unknown(name, version)
            case ["v2", "repository", "index"]:
                return self._index
            case ["v2", "repository", "models", name, "load"]:
                return lambda: self._load(name, True)
            case ["v2", "repository", "models", name, "unload"]:
                return lambda: self._load(name, False)
        return None

    def _ready(self, name: str, version: str = "") -> Answer:
        self.served.require(name, version)
        self.served.require_ready()
        return Answer(_json({"name": name, "ready": True}))

    def _metadata(self, name: str, version: str = "") -> Answer:
        self.served.require(name, version)
        return Answer(_json(self.served.about_model()))

    def _explain(self, name: str, named: str) -> Answer:
        self.served.require(name)
        raise errors.NotImplementedHere("No model here can explain its predictions.")

    def _unknown(self, name: str, version: str = "") -> Answer:
        self.served.require(name, version)
        raise Refusal(404, "Not Found")

    def _index(self) -> Answer:
        served = self.served
        state = "READY" if served.ready else "UNAVAILABLE"
        reason = "" if served.ready else "unloaded"
        return Answer(_json([{"name": served.name, "version": served.revision, "state": state, "reason": reason}]))

    def _load(self, name: str, loaded: bool) -> Answer:
        self.served.require(name)
        self.served.set_ready(loaded)
        return Answer(_json({"name": name, "load" if loaded else "unload": True}))

    def _refusal(self, error: Exception) -> Answer:
        """The protocol's answer to whatever went wrong."""
        if isinstance(error, Refusal):
            return Answer(protocol.error_body(str(error)), error.status, (_JSON, *error.headers))
        status = _STATUS.get(type(error))
        if status is None:
            status = _foreign_status(error)
        if isinstance(error, errors.BadAnswer) or type(error) in _STATUS:
            message = str(error)
        else:
            message = f"{type(error).__name__}: {error}"
        if status == 500:
            self._tell(error)
        headers = (_JSON, (b"retry-after", b"1")) if isinstance(error, errors.Overloaded) else (_JSON,)
        return Answer(protocol.error_body(message), status, headers)

    def _tell(self, error: Exception) -> None:
        """Where the model went wrong, in the log; at most once a second."""
        if time.monotonic() - self._told_at >= 1:
            self._told_at = time.monotonic()
            sys.stderr.write("".join(traceback.format_exception(error)))
            sys.stderr.flush()

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Companions come and go with the application; last, the predictions that are still in memory are written."""
        if scope["type"] != "lifespan":
            return
        while True:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                for companion in self.companions:
                    await companion.stop()
                if self.served.payloads is not None:
                    self.served.payloads.close()
                await send({"type": "lifespan.shutdown.complete"})
                return
            try:
                for companion in self.companions:
                    await companion.start()
            except Exception as error:  # noqa: BLE001 - uvicorn says it and ends
                await send({"type": "lifespan.startup.failed", "message": str(error)})
                return
            await send({"type": "lifespan.startup.complete"})


def _foreign_status(error: Exception) -> int:
    """The code of what a team's own code raised: kserve's InvalidInput, and errors with a status of their own."""
    if type(error).__name__ == "InvalidInput":
        return 400
    status = getattr(error, "status_code", None)
    return status if type(status) is int and 400 <= status <= 599 else 500


def _texts(headers: Mapping[bytes, bytes], served: Served) -> Mapping[str, str]:
    """Headers for a team's own code; nobody else looks at them."""
    if served.predictor is None and served.transformer is None:
        return {}
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in headers.items()}


def _told(headers: Mapping[bytes, bytes], name: bytes) -> str:
    return headers.get(name, b"").decode("latin-1")


def _json(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY, default=lambda one: one.tolist())
