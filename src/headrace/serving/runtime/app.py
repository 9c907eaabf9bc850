"""The model server's routes, with the answers and codes of the KServe V1 and V2 (Open Inference Protocol) contract.

A client's mistake is 400; an exception inside the model is 500, and that is what a canary is judged by.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import headrace
from headrace.serving.payload_log import PayloadWriter
from headrace.serving.runtime.loaders import Model
from headrace.serving.runtime.protocol import BadRequest, table_of_instances, table_of_tensors, tensors_of


class ModelServer:
    """One model under one name."""

    def __init__(self, name: str, revision: str, model: Model, payloads: PayloadWriter | None) -> None:
        self.name = name
        self.revision = revision
        self.model = model
        self.payloads = payloads

    def application(self) -> Starlette:
        v1, v2 = "/v1/models", "/v2/models"
        get: dict[str, Any] = {
            "/": lambda _: _json({"status": "alive"}),
            v1: lambda _: _json({"models": [self.name]}),
            f"{v1}/{{name}}": self.v1_ready,
            "/v2": lambda _: _json({"name": "headrace", "version": headrace.__version__, "extensions": []}),
            "/v2/health/live": lambda _: _json({"live": True}),
            "/v2/health/ready": lambda _: _json({"ready": True}),
            v2: lambda _: _json({"models": [self.name]}),
            f"{v2}/{{name}}": self.v2_metadata,
            f"{v2}/{{name}}/ready": self.v2_ready,
            f"{v2}/{{name}}/versions/{{version}}": self.v2_metadata,
            f"{v2}/{{name}}/versions/{{version}}/ready": self.v2_ready,
        }
        post: dict[str, Any] = {
            f"{v1}/{{name}}:predict": self.v1_predict,
            f"{v1}/{{name}}:explain": self.v1_explain,
            f"{v2}/{{name}}/infer": self.v2_infer,
            f"{v2}/{{name}}/versions/{{version}}/infer": self.v2_infer,
        }
        return Starlette(
            routes=[
                *(Route(path, _endpoint(handler), methods=["POST"]) for path, handler in post.items()),
                *(Route(path, _endpoint(handler)) for path, handler in get.items()),
            ],
            exception_handlers={HTTPException: _refuse},
            lifespan=self.lifespan,
        )

    @asynccontextmanager
    async def lifespan(self, application: Starlette) -> AsyncIterator[None]:
        """On the way out, write the predictions that are still in memory."""
        yield
        if self.payloads is not None:
            self.payloads.close()

    def unknown(self, request: Request) -> Response | None:
        name = request.path_params["name"]
        return None if name == self.name else _error(404, f"Model with name {name} does not exist.")

    def v1_ready(self, request: Request) -> Response:
        return self.unknown(request) or _json({"name": self.name, "ready": True})

    def v2_ready(self, request: Request) -> Response:
        return self.unknown(request) or _json({"name": self.name, "ready": True})

    def v2_metadata(self, request: Request) -> Response:
        columns = [{"name": c.name, "datatype": c.datatype, "shape": [-1, 1]} for c in self.model.columns]
        outputs = [{"name": name, "datatype": kind, "shape": shape} for name, kind, shape in self.model.outputs]
        return self.unknown(request) or _json(
            {
                "name": self.name,
                "versions": [self.revision],
                "platform": "sklearn_mlflow",
                "inputs": columns,
                "outputs": outputs,
            }
        )

    async def v1_predict(self, request: Request) -> Response:
        unknown = self.unknown(request)
        if unknown:
            return unknown
        body = _parse(await request.body())
        predictions = self.model.predict(table_of_instances(body, self.model)).tolist()
        self.note(request, None, predictions)
        return _json({"predictions": predictions})

    def v1_explain(self, request: Request) -> Response:
        return self.unknown(request) or _error(501, "No model here can explain its predictions.")

    async def v2_infer(self, request: Request) -> Response:
        unknown = self.unknown(request)
        if unknown:
            return unknown
        body = _parse(await request.body())
        table = table_of_tensors(body, self.model)
        given = body.get("id")
        if given is not None and not isinstance(given, str):
            raise BadRequest('Expected "id" to be a string')
        predictions = self.model.predict(table)
        prediction_id = self.note(request, given, predictions.tolist())
        return _json(
            {
                "model_name": self.name,
                "model_version": self.revision,
                "id": given or prediction_id,
                "outputs": tensors_of(predictions),
            }
        )

    def note(self, request: Request, given: str | None, predictions: list[Any]) -> str:
        """Log a prediction under the gateway's request id, else the client's id, else a new one."""
        prediction_id = request.headers.get("x-request-id") or given or str(uuid.uuid4())
        if self.payloads is not None:
            self.payloads.add(prediction_id, predictions[0] if len(predictions) == 1 else predictions)
        return prediction_id


def _endpoint(handler: Any) -> Any:
    # One model, one thread: a prediction runs on the event loop, so requests queue instead of fighting for the core.
    async def endpoint(request: Request) -> Response:
        try:
            answer = handler(request)
            return answer if isinstance(answer, Response) else await answer
        except BadRequest as error:
            return _error(400, str(error))
        except Exception as error:  # noqa: BLE001 - a model may raise anything; the client gets the protocol's answer
            return _error(500, f"{type(error).__name__}: {error}")

    return endpoint


def _parse(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"Unrecognized request format: {error}") from error


def _json(value: Any, status: int = 200) -> Response:
    body = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, status_code=status, media_type="application/json")


async def _refuse(request: Request, error: Exception) -> Response:
    """An unknown path or method, in the protocol's form."""
    assert isinstance(error, HTTPException)
    answer = _error(error.status_code, error.detail)
    answer.headers.update(error.headers or {})
    return answer


def _error(status: int, message: str) -> Response:
    return _json({"error": message}, status)
