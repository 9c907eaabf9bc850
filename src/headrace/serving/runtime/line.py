"""Where requests wait for the model: one prediction at a time, and what waits together may be predicted together.

A prediction that takes a moment is made on the event loop: handing it to a thread would cost more than it does. A
longer one is made in one thread, so that the server goes on to answer meanwhile, if only "too many". A model whose
rows are known to be independent gets all rows that wait at once, up to `batch_rows`: its cost is by the call rather
than by the row. With `delay`, a request also waits that long for others to come.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

from headrace.serving.runtime import answers
from headrace.serving.runtime.errors import BadRequest, Overloaded
from headrace.serving.runtime.models import Inputs, Model

INLINE_SECONDS = 0.002
_SMALL_ROWS = 64
Outputs = Mapping[str, Any]


class _Waiting(NamedTuple):
    inputs: Inputs
    kind: Any
    answer: asyncio.Future[Outputs]
    due: float


class Line:
    """The requests of one model. Belongs to one event loop; `limit` bounds how many are in it."""

    def __init__(self, model: Model, *, batch_rows: int = 0, delay: float = 0.0, limit: int = 256) -> None:
        """`batch_rows` 0: together when the model is known to be rowwise, up to 256 rows; 1: never."""
        self.model = model
        self.batch_rows = batch_rows or (256 if model.rowwise else 1)
        self.delay = delay
        self.limit = limit
        self.inside = 0
        self._pending: deque[_Waiting] = deque()
        self._pending_rows = 0
        self._busy = False
        self._timer: asyncio.Handle | None = None
        self._call_seconds = INLINE_SECONDS  # until it is known better: in the thread
        self._row_seconds = 0.0
        self._thread: ThreadPoolExecutor | None = None

    def enter(self) -> None:
        """A request comes in; `leave` must follow. Raises Overloaded."""
        if self.inside >= self.limit:
            raise Overloaded(f"Too many requests wait for the model: at most {self.limit} may")
        self.inside += 1

    def leave(self) -> None:
        """A request is done."""
        self.inside -= 1

    async def predict(self, inputs: Inputs) -> Outputs:
        """The model's checked answer to these inputs: arrays by name.

        Raises:
            BadRequest, BadAnswer, or whatever the model raises.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Outputs] = loop.create_future()
        kind = _kind(inputs) if self.batch_rows > 1 else None
        self._pending.append(_Waiting(inputs, kind, answer, loop.time() + self.delay if self.delay else 0.0))
        self._pending_rows += inputs.rows
        if not self._busy:
            self._schedule(loop)
        return await answer

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run anything in the model's thread, behind what runs there."""
        return await asyncio.get_running_loop().run_in_executor(self._executor(), function, *arguments)

    def learn(self, seconds: float, rows: int) -> None:
        """Note what a prediction took."""
        if rows <= _SMALL_ROWS:
            self._call_seconds += (seconds - self._call_seconds) * 0.25
        self._row_seconds += (seconds / rows - self._row_seconds) * 0.25

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        full = self._pending_rows >= self.batch_rows
        if self._timer is not None:
            if not (full and self.delay):
                return
            self._timer.cancel()
        if self.delay and not full:
            self._timer = loop.call_at(self._pending[0].due, self._flush)
        else:
            self._timer = loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        until = time.perf_counter() + INLINE_SECONDS
        while self._pending:
            batch = self._take()
            rows = sum(one.inputs.rows for one in batch)
            if max(self._call_seconds, rows * self._row_seconds) >= INLINE_SECONDS:
                self._busy = True
                work = loop.run_in_executor(self._executor(), self._work, batch)
                work.add_done_callback(partial(self._done, batch))
                return
            _settle(batch, self._work(batch))
            if time.perf_counter() > until:
                break
        if self._pending:
            self._timer = loop.call_soon(self._flush)

    def _done(self, batch: list[_Waiting], work: asyncio.Future[list[Any]]) -> None:
        self._busy = False
        _settle(batch, work.result())
        if self._pending:
            loop = asyncio.get_running_loop()
            if loop.time() >= self._pending[0].due:
                self._timer = loop.call_soon(self._flush)
            else:
                self._schedule(loop)

    def _take(self) -> list[_Waiting]:
        """The next request, and those behind it that can be predicted with it."""
        first = self._pending.popleft()
        batch, rows = [first], first.inputs.rows
        while self._pending and rows < self.batch_rows:
            following = self._pending[0]
            if following.kind != first.kind or rows + following.inputs.rows > self.batch_rows:
                break
            batch.append(self._pending.popleft())
            rows += following.inputs.rows
        self._pending_rows -= rows
        return batch

    def _work(self, batch: list[_Waiting]) -> list[Any]:
        """An answer or an exception for each of the batch; a row that the model does not like fails alone."""
        start = time.perf_counter()
        if len(batch) == 1:
            results = [self._alone(batch[0].inputs)]
        else:
            try:
                results = self._together([one.inputs for one in batch])
            except Exception:  # noqa: BLE001 - a model may raise anything; each then gets its own answer
                results = [self._alone(one.inputs) for one in batch]
        self.learn(time.perf_counter() - start, sum(one.inputs.rows for one in batch))
        return results

    def _alone(self, inputs: Inputs) -> Any:
        try:
            return self._predicted(inputs)
        except Exception as error:  # noqa: BLE001 - it is the request's answer
            return error

    def _together(self, several: list[Inputs]) -> list[Any]:
        import numpy as np

        joined = {name: np.concatenate([one.arrays[name] for one in several]) for name in several[0].arrays}
        outputs = self._predicted(Inputs(joined, sum(one.rows for one in several)))
        parts, at = [], 0
        for one in several:
            parts.append({name: array[at : at + one.rows] for name, array in outputs.items()})
            at += one.rows
        return parts

    def _predicted(self, inputs: Inputs) -> Outputs:
        model = self.model
        try:
            found = answers.arrays_of(model.predict(inputs), model.outputs)
        except ValueError as error:
            if str(error).startswith("Input X contains ") and not _finite(inputs):
                raise BadRequest(f"The model takes no missing or infinite numbers: {error}".splitlines()[0]) from error
            raise
        answers.check(found, model.outputs, inputs.rows if model.has_rows or self.batch_rows > 1 else None)
        return found

    def _executor(self) -> ThreadPoolExecutor:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        return self._thread


def _settle(batch: list[_Waiting], results: list[Any]) -> None:
    for one, result in zip(batch, results, strict=True):
        if one.answer.done():  # nobody waits for it any more
            continue
        if isinstance(result, Exception):
            one.answer.set_exception(result)
        else:
            one.answer.set_result(result)


def _kind(inputs: Inputs) -> Any:
    """Requests of one kind can be put together: the same names, types and shapes but for the rows."""
    return tuple((name, array.dtype, array.shape[1:]) for name, array in inputs.arrays.items())


def _finite(inputs: Inputs) -> bool:
    import numpy as np

    return all(array.dtype.kind != "f" or np.isfinite(array).all() for array in inputs.arrays.values())
