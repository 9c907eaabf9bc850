"""The V2 protocol over gRPC: `inference.GRPCInferenceService`, beside REST in the same process and event loop.

Codes: a client's mistake INVALID_ARGUMENT, no such model NOT_FOUND, unloaded UNAVAILABLE, too many RESOURCE_EXHAUSTED,
an exception in the model or an answer that may not be given out INTERNAL (on REST: 400, 404, 503, 503, 500).
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import numpy as np

from headrace.errors import HeadraceError
from headrace.serving.runtime import errors, tensors
from headrace.serving.runtime.protocol import InferInput, InferRequest
from headrace.serving.runtime.served import Served, plain

try:
    import grpc

    from headrace.serving.runtime.grpc_stubs import messages
except ImportError as error:
    raise HeadraceError(
        f"--grpc-port needs grpcio, which cannot be imported: {error}",
        remedy="pip install grpcio.",
    ) from error

SERVICE = "inference.GRPCInferenceService"
GRACE_SECONDS = 10
_CODES = {
    errors.BadRequest: grpc.StatusCode.INVALID_ARGUMENT, errors.UnknownModel: grpc.StatusCode.NOT_FOUND,
    errors.NotReady: grpc.StatusCode.UNAVAILABLE, errors.Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.NotImplementedHere: grpc.StatusCode.UNIMPLEMENTED,
}  # fmt: skip
_CONTENTS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip


class GrpcServer:
    """Answers gRPC as long as the application lives (see app.Companion)."""

    def __init__(self, served: Served, host: str, port: int, *, shared: bool = False) -> None:
        """`shared`: other workers listen on the same port."""
        self.served = served
        self.shared = shared
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._server: Any = None

    async def start(self) -> None:
        """Listen. Raises RuntimeError when the port is taken."""
        size = self.served.settings.max_body
        options = [("grpc.max_receive_message_length", size), ("grpc.max_send_message_length", -1)]
        options.append(("grpc.so_reuseport", int(self.shared)))
        self._server = grpc.aio.server(options=options)
        self._server.add_generic_rpc_handlers((self._handlers(),))
        self._server.add_insecure_port(self.address)
        await self._server.start()

    async def stop(self) -> None:
        """Answer what runs, and end."""
        if self._server is not None:
            await self._server.stop(GRACE_SECONDS)

    def _handlers(self) -> Any:
        methods: dict[str, tuple[Callable[[Any, Any], Awaitable[Any]], str]] = {
            "ServerLive": (self._server_live, "ServerLive"),
            "ServerReady": (self._server_ready, "ServerReady"),
            "ModelReady": (self._model_ready, "ModelReady"),
            "ServerMetadata": (self._server_metadata, "ServerMetadata"),
            "ModelMetadata": (self._model_metadata, "ModelMetadata"),
            "ModelInfer": (self._model_infer, "ModelInfer"),
            "RepositoryModelLoad": (self._load, "RepositoryModelLoad"),
            "RepositoryModelUnload": (self._unload, "RepositoryModelUnload"),
        }
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                name: grpc.unary_unary_rpc_method_handler(
                    _told(function),
                    request_deserializer=getattr(messages, f"{message}Request").FromString,
                    response_serializer=getattr(messages, f"{message}Response").SerializeToString,
                )
                for name, (function, message) in methods.items()
            },
        )

    async def _server_live(self, request: Any, context: Any) -> Any:
        return messages.ServerLiveResponse(live=True)

    async def _server_ready(self, request: Any, context: Any) -> Any:
        return messages.ServerReadyResponse(ready=self.served.ready)

    async def _model_ready(self, request: Any, context: Any) -> Any:
        self.served.require(request.name, request.version)
        return messages.ModelReadyResponse(ready=self.served.ready)

    async def _server_metadata(self, request: Any, context: Any) -> Any:
        return messages.ServerMetadataResponse(**self.served.about_server())

    async def _model_metadata(self, request: Any, context: Any) -> Any:
        self.served.require(request.name, request.version)
        told = self.served.about_model()
        told.pop("parameters", None)  # the message has no place for them
        return messages.ModelMetadataResponse(**told)

    async def _load(self, request: Any, context: Any) -> Any:
        self.served.require(request.model_name)
        self.served.set_ready(True)
        return messages.RepositoryModelLoadResponse(model_name=request.model_name, isLoaded=True)

    async def _unload(self, request: Any, context: Any) -> Any:
        self.served.require(request.model_name)
        self.served.set_ready(False)
        return messages.RepositoryModelUnloadResponse(model_name=request.model_name, isUnloaded=True)

    async def _model_infer(self, request: Any, context: Any) -> Any:
        served = self.served
        served.require(request.model_name, request.model_version)
        served.require_ready()
        headers = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        served.line.enter()
        try:
            asked = _request(request)
            outputs = await served.predict_v2(asked, headers)
        finally:
            served.line.leave()
        prediction_id = served.prediction_id(headers.get("x-request-id", ""), asked.id)
        answer = _answer(outputs, asked, raw=bool(request.raw_input_contents))
        answer.model_name, answer.model_version = served.name, served.revision
        answer.id = asked.id or prediction_id
        if served.payloads is not None:
            served.note(
                prediction_id, plain(outputs), headers.get("x-headrace-arm", ""), headers.get("x-headrace-user", ""),
                request.SerializeToString(),
            )  # fmt: skip
        return answer


def _told(function: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[Any, Any], Awaitable[Any]]:
    """Whatever goes wrong, with the protocol's code."""

    async def answer(request: Any, context: Any) -> Any:
        found = None
        try:
            found = await function(request, context)
        except Exception as error:  # noqa: BLE001 - a model may raise anything
            code = _CODES.get(type(error))
            if code is None and type(error).__name__ == "InvalidInput":
                code = grpc.StatusCode.INVALID_ARGUMENT
            message = str(error)
            if code is None:
                code = grpc.StatusCode.INTERNAL
                message = message if isinstance(error, errors.BadAnswer) else f"{type(error).__name__}: {message}"
                sys.stderr.write("".join(traceback.format_exception(error)))
            await context.abort(code, message)
        return found

    return answer


def _request(request: Any) -> InferRequest:
    """The V2 request in a message. Raises BadRequest."""
    raws = request.raw_input_contents
    if not request.inputs:
        raise errors.BadRequest('Expected "inputs" to be a list of tensors')
    if raws and len(raws) != len(request.inputs):
        raise errors.BadRequest(f"raw_input_contents has {len(raws)} tensors for {len(request.inputs)} inputs")
    inputs = []
    for index, tensor in enumerate(request.inputs):
        name = tensor.name
        shape = tensors.checked_shape(name, list(tensor.shape))
        datatype = tensors.checked_datatype(name, tensor.datatype)
        if raws:
            if tensor.HasField("contents"):
                raise errors.BadRequest(f"Input {name} has contents, and raw_input_contents are given")
            data = tensors.from_bytes(name, datatype, shape, raws[index])
        else:
            data = _from_contents(name, datatype, shape, tensor.contents)
        inputs.append(InferInput(name, shape, datatype, data, _parameters(tensor.parameters)))
    outputs = {output.name: False for output in request.outputs}
    return InferRequest(request.id or None, inputs, _parameters(request.parameters), outputs)


def _from_contents(name: str, datatype: str, shape: list[int], contents: Any) -> Any:
    field = _CONTENTS.get(datatype)
    if field is None:
        raise errors.BadRequest(f"Input {name} of {datatype} must come in raw_input_contents")
    values = list(getattr(contents, field))
    if datatype == "BYTES":
        values = [tensors.text_of(name, value) for value in values]
    if not values and contents.ListFields():
        raise errors.BadRequest(f"Input {name} of {datatype} wants its values in contents.{field}")
    return tensors.from_list(name, datatype, shape, values)


def _parameters(given: Any) -> dict[str, Any]:
    return {key: getattr(value, value.WhichOneof("parameter_choice") or "bool_param") for key, value in given.items()}


def _answer(outputs: Mapping[str, Any], asked: InferRequest, *, raw: bool) -> Any:
    """The message with the outputs that were asked for, in the way that the inputs came. Raises BadRequest."""
    answer = messages.ModelInferResponse()
    raw = raw or any(array.dtype == np.float16 for array in outputs.values())
    for name in asked.outputs or outputs:
        if name not in outputs:
            raise errors.BadRequest(f"The model has no output {tensors.short(name)}, only {', '.join(outputs)}")
        array = outputs[name]
        datatype = tensors.datatype_of(array)
        told = answer.outputs.add(name=name, datatype=datatype, shape=array.shape)
        if raw:
            answer.raw_output_contents.append(tensors.to_bytes(array))
        else:
            flat = array.reshape(-1).tolist()
            if datatype == "BYTES":
                flat = [tensors.element(value) for value in flat]
            getattr(told.contents, _CONTENTS[datatype]).extend(flat)
    return answer
