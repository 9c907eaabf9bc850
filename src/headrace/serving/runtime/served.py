"""One model under one name, as REST and gRPC both serve it."""

from __future__ import annotations

import mmap
import uuid
from collections.abc import Mapping
from typing import Any

import headrace
from headrace.serving.payload_log import PayloadWriter
from headrace.serving.runtime import custom, protocol, tables
from headrace.serving.runtime.custom import Custom
from headrace.serving.runtime.errors import NotReady, UnknownModel
from headrace.serving.runtime.line import Line
from headrace.serving.runtime.models import Model
from headrace.serving.runtime.protocol import InferRequest
from headrace.serving.runtime.settings import MAX_WAITING, Settings

EXTENSIONS = ("binary_tensor_data", "model_repository")


class Served:
    """A model, its predictions and what is noted of them. `flag` is shared by all workers: whether it is loaded."""

    def __init__(
        self, name: str, revision: str, model: Model, payloads: PayloadWriter | None = None,
        settings: Settings | None = None, predictor: Custom | None = None, transformer: Custom | None = None,
        flag: mmap.mmap | None = None,
    ) -> None:  # fmt: skip
        settings = settings or Settings()
        self.name = name
        self.revision = revision
        self.model = model
        self.payloads = payloads
        self.settings = settings
        self.predictor = predictor
        self.transformer = transformer
        limit = settings.max_concurrency or MAX_WAITING
        self.line = Line(model, batch_rows=settings.batch_rows, delay=settings.batch_delay, limit=limit)
        self._flag = flag or loaded_flag()

    @property
    def ready(self) -> bool:
        """Whether the model is loaded."""
        return self._flag[0] == 1

    def set_ready(self, loaded: bool) -> None:
        """Load or unload it, in all workers: it stays in memory, and is asked nothing while it is unloaded."""
        self._flag[0] = int(loaded)

    def require(self, name: str, version: str = "") -> None:
        """See that this is the model. Raises UnknownModel."""
        if name != self.name:
            raise UnknownModel(f"Model with name {name} does not exist.")
        if version not in ("", self.revision):
            raise UnknownModel(f"Model {name} has no version {version}, only {self.revision}.")

    def require_ready(self) -> None:
        """See that the model is loaded. Raises NotReady."""
        if not self.ready:
            raise NotReady(f"Model with name {self.name} is not ready.")

    def about_server(self) -> dict[str, Any]:
        """V2's server metadata."""
        return {"name": "headrace", "version": headrace.__version__, "extensions": list(EXTENSIONS)}

    def about_model(self) -> dict[str, Any]:
        """V2's model metadata, from the signature."""
        model = self.model
        columns = [{"name": c.name, "datatype": c.datatype, "shape": [-1, 1]} for c in model.columns]
        told = {
            "name": self.name,
            "versions": [self.revision],
            "platform": model.platform,
            "inputs": columns or [tensor._asdict() for tensor in model.inputs],
            "outputs": [tensor._asdict() for tensor in model.outputs],
        }
        return {**told, "parameters": dict(model.parameters)} if model.parameters else told

    async def predict_v1(self, body: Any, headers: Mapping[str, str]) -> tuple[Any, Any]:
        """A V1 answer: (None, arrays by name), or (the body, None) where a team's own code makes it.

        Raises:
            BadRequest, BadAnswer, or whatever the model raises.
        """
        if self.predictor is None and self.transformer is None:
            return None, await self.line.predict(tables.of_rows(protocol.instances_of(body), self.model))
        if self.transformer is not None:
            body = await self.transformer.call(self.line, "preprocess", body, headers)
        if self.predictor is not None:
            answer = await self._by_predictor(body, headers)
        else:
            outputs = await self.line.predict(tables.of_rows(protocol.instances_of(body), self.model))
            answer = {"predictions": protocol.predictions_of(outputs)}
        if self.transformer is not None:
            answer = await self.transformer.call(self.line, "postprocess", answer, headers)
        return custom.body_of(answer), None

    async def predict_v2(self, request: InferRequest, headers: Mapping[str, str]) -> Mapping[str, Any]:
        """The arrays of a V2 answer by name. Raises as predict_v1."""
        if self.predictor is None and self.transformer is None:
            return await self.line.predict(tables.of_tensors(request.arrays(), self.model))
        asked = request
        if self.transformer is not None:
            made = await self.transformer.call(self.line, "preprocess", request, headers)
            asked = custom.request_of(made, request)
        answer: Any
        if self.predictor is not None:
            answer = await self._by_predictor(asked, headers)
        else:
            answer = await self.line.predict(tables.of_tensors(asked.arrays(), self.model))
        if self.transformer is not None and self.transformer.has("postprocess"):
            arrays = custom.outputs_of(answer)
            answer = {
                "model_name": self.name, "model_version": self.revision, "id": request.id,
                "outputs": protocol.described(arrays),
            }  # fmt: skip
            answer = await self.transformer.call(self.line, "postprocess", answer, headers)
        return custom.outputs_of(answer)

    async def _by_predictor(self, payload: Any, headers: Mapping[str, str]) -> Any:
        assert self.predictor is not None
        for method in ("preprocess", "predict", "postprocess"):
            payload = await self.predictor.call(self.line, method, payload, headers)
        return payload

    def note(self, prediction_id: str, predictions: Any, arm: str, user: str, request: bytes) -> None:
        """Log a prediction: what was asked by whom ("-" is nobody in particular), and what was answered."""
        if self.payloads is not None:
            one = isinstance(predictions, list) and len(predictions) == 1
            told = predictions[0] if one else predictions
            self.payloads.add(prediction_id, told, arm=arm, request=request, user="" if user == "-" else user)

    @staticmethod
    def prediction_id(of_the_gateway: str, given: str | None) -> str:
        """The gateway's request id, else the client's id, else a new one."""
        return of_the_gateway or given or str(uuid.uuid4())


def loaded_flag() -> mmap.mmap:
    """A byte that forked workers share: 1 while the model is loaded."""
    flag = mmap.mmap(-1, 1)
    flag[0] = 1
    return flag


def plain(outputs: Mapping[str, Any]) -> Any:
    """Predictions as lists, for the log."""
    found = protocol.predictions_of(outputs)
    return found.tolist() if hasattr(found, "tolist") else found
