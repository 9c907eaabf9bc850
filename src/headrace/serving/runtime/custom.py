"""A team's own Python around or instead of a model: `FILE.py:CLASS`, with the methods of kserve.Model.

`load()`, `predict(payload, headers=None)`, `preprocess(payload, headers=None)`, `postprocess(result, headers=None)`;
each may be `async`, and all but the predictor's `predict` may be absent. `payload` is the body of a V1 request as a
dict, or an InferRequest (see protocol.py) of a V2 request.
"""

from __future__ import annotations

import importlib.util
import inspect
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from headrace.errors import HeadraceError, UsageError
from headrace.serving.runtime import tensors
from headrace.serving.runtime.answers import arrays_of
from headrace.serving.runtime.errors import BadAnswer, BadRequest
from headrace.serving.runtime.line import Line
from headrace.serving.runtime.protocol import InferInput, InferRequest


class Custom:
    """An object of a team's class, each method called as it wants to be."""

    def __init__(self, made: Any, option: str) -> None:
        self.made = made
        self.option = option
        self._takes_headers = {
            name: _has_headers(getattr(made, name))
            for name in ("preprocess", "predict", "postprocess")
            if callable(getattr(made, name, None))
        }

    def has(self, method: str) -> bool:
        """Whether the class has this method."""
        return method in self._takes_headers

    async def call(self, line: Line, method: str, payload: Any, headers: Mapping[str, str]) -> Any:
        """What a method answers; the payload itself when it is not there. It may raise anything."""
        if method not in self._takes_headers:
            return payload
        function = getattr(self.made, method)
        more = {"headers": headers} if self._takes_headers[method] else {}
        if inspect.iscoroutinefunction(function):
            return await function(payload, **more)
        answer = await line.call(lambda: function(payload, **more))
        return await answer if inspect.isawaitable(answer) else answer


def load(named: str, option: str, name: str) -> Custom:
    """An object of the class in `FILE.py:CLASS`, loaded; `name` is the model's.

    Raises:
        UsageError: no such file or class, or not the methods that it must have.
        HeadraceError: its code raised.
    """
    file, _, kind = named.rpartition(":")
    if not file or not Path(file).is_file():
        raise UsageError(f"{option} names no file: {named}", remedy=f"As in: {option} predictor.py:Predictor.")
    where = f"{file}:{kind}"
    try:
        found: Any = getattr(_module(Path(file)), kind, None)
        if not inspect.isclass(found):
            raise UsageError("there is no such class", where=where, remedy="Write FILE.py:CLASS.")
        make: Any = found
        made = make(name) if _wants_name(found) else make()
        if callable(getattr(made, "load", None)):
            made.load()
    except UsageError:
        raise
    except Exception as error:
        raise HeadraceError(f"its code raised {type(error).__name__}: {error}", where=where) from error
    wanted = ("predict",) if option == "--model-class" else ("preprocess", "postprocess")
    if not any(callable(getattr(made, method, None)) for method in wanted):
        raise UsageError(f"the class has no {' and no '.join(wanted)}", where=where)
    return Custom(made, option)


def _module(file: Path) -> Any:
    """The file as a module that its neighbours can be imported from."""
    sys.path.insert(0, str(file.resolve().parent))
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise UsageError("is no Python file", where=str(file), remedy="Its name must end in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    return module


def _wants_name(kind: type) -> bool:
    """Whether the class is made with the model's name, as kserve.Model is."""
    parameters = list(inspect.signature(kind).parameters.values())
    return bool(parameters) and parameters[0].default is inspect.Parameter.empty and parameters[0].kind in (
        inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD,
    )  # fmt: skip


def _has_headers(function: Any) -> bool:
    parameters = inspect.signature(function).parameters
    return "headers" in parameters or any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())


def outputs_of(answer: Any) -> Mapping[str, Any]:
    """The arrays by name in what a custom predictor or transformer answered to a V2 request.

    Raises:
        BadAnswer: it holds none, or NaN or infinity.
    """
    if isinstance(answer, Mapping) and isinstance(answer.get("outputs"), list):
        try:
            found = {one["name"]: _array(one) for one in answer["outputs"]}
        except (KeyError, TypeError, ValueError, BadRequest) as error:
            raise BadAnswer(f"An output tensor is not as the protocol has it: {error}") from error
    elif isinstance(answer, Mapping) and "predictions" in answer:
        found = arrays_of(answer["predictions"], ())
    else:
        found = arrays_of(answer, ())
    for name, array in found.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise BadAnswer(f"The model gave predictions that are NaN or infinite ({name})")
    return found


def _array(told: Mapping[str, Any]) -> Any:
    data = told["data"]
    if isinstance(data, np.ndarray):
        return data.reshape(told.get("shape", data.shape))
    return tensors.from_list(told["name"], told["datatype"], list(told["shape"]), list(data))


def body_of(answer: Any) -> Any:
    """A V1 answer's body in what a custom predictor or transformer answered.

    Raises:
        BadAnswer: it holds NaN or infinity, which JSON does not have.
    """
    body = answer if isinstance(answer, Mapping) else {"predictions": answer}
    if not _finite(body):
        raise BadAnswer("The model gave predictions that are NaN or infinite")
    return body


def _finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, Mapping):
        return all(_finite(one) for one in value.values())
    if isinstance(value, list | tuple):
        return all(_finite(one) for one in value)
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind == "f":
        return bool(np.isfinite(value).all())
    return True


def request_of(made: Any, before: InferRequest) -> InferRequest:
    """The V2 request that a transformer made of one: an InferRequest, or a mapping with `inputs` as in the protocol.

    Raises:
        BadAnswer: neither.
    """
    if isinstance(made, InferRequest):
        return made
    if not isinstance(made, Mapping) or not isinstance(made.get("inputs"), list):
        raise BadAnswer("The transformer's preprocess must give a request with inputs")
    try:
        inputs = [InferInput(t["name"], list(t["shape"]), t["datatype"], _array(t)) for t in made["inputs"]]
    except (KeyError, TypeError, ValueError, BadRequest) as error:
        raise BadAnswer(f"The transformer made an input that is not as the protocol has it: {error}") from error
    return InferRequest(before.id, inputs, before.parameters, before.outputs, before.binary)
