"""Live traffic: flights sent as requests at a fixed rate, whatever the answers take, and their labels later.

Open loop: a request is sent when it is due, not when the one before has been answered, and its time counts from when
it was due. A slow server cannot hide behind a slow client.
"""

from __future__ import annotations

import asyncio
import tempfile
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

REQUEST_SECONDS = 10.0
LABELS_EVERY_SECONDS = 0.5


@dataclass(frozen=True)
class Flight:
    """A request's body, and what will turn out to be true: 1 for more than 15 minutes late."""

    body: bytes
    late: int


@dataclass(frozen=True)
class Sent:
    """One request: when it was due (unix seconds), the seconds until its answer, its status (0 for none)."""

    at: float
    seconds: float
    status: int
    revision: str

    @property
    def failed(self) -> bool:
        return self.status != 200


class Replay:
    """Sends flights from a thread of its own until stopped. `sent` grows meanwhile."""

    def __init__(self, *, predict_url: str, labels_url: str, rate: float, label_delay: float) -> None:
        self.predict_url = predict_url
        self.labels_url = labels_url
        self.rate = rate
        self.label_delay = label_delay
        self.sent: list[Sent] = []
        self.labels = 0
        self.problems: list[str] = []
        self._flights: Sequence[Flight] = ()
        self._next = 0
        self._due_labels: deque[tuple[float, str, int]] = deque()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="replay", daemon=True)

    def start(self, flights: Sequence[Flight]) -> None:
        """Begin with these flights."""
        self.switch(flights)
        self._thread.start()

    def switch(self, flights: Sequence[Flight]) -> None:
        """Go on with other flights: time has moved on."""
        self._next, self._flights = 0, flights

    def stop(self) -> None:
        """Send nothing more; wait for the answers that are still due."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=REQUEST_SECONDS + 5)

    def between(self, start: float, end: float) -> list[Sent]:
        """Requests that were due in a stretch of time (unix seconds)."""
        return [one for one in list(self.sent) if start <= one.at < end]

    def line(self) -> str:
        """How it goes, in words."""
        recent = self.between(time.time() - 2, time.time())
        failed = sum(one.failed for one in list(self.sent))
        return f"{len(recent) / 2:.0f} requests/s, {failed} of {len(self.sent)} failed"

    async def _run(self) -> None:
        limits = httpx.Limits(max_connections=200, max_keepalive_connections=50)
        async with httpx.AsyncClient(timeout=REQUEST_SECONDS, limits=limits) as client:
            labelling = asyncio.create_task(self._send_labels(client))
            running: set[asyncio.Task[None]] = set()
            due = time.time()
            while not self._stop.is_set():
                await asyncio.sleep(max(0.0, due - time.time()))
                task = asyncio.create_task(self._send(client, self._take(), due))
                running.add(task)
                task.add_done_callback(running.discard)
                due += 1 / self.rate
            await asyncio.gather(*running)
            await labelling

    def _take(self) -> Flight:
        flight = self._flights[self._next % len(self._flights)]
        self._next += 1
        return flight

    async def _send(self, client: httpx.AsyncClient, flight: Flight, due: float) -> None:
        status, headers = 0, httpx.Headers()
        try:
            answer = await client.post(self.predict_url, content=flight.body)
            status, headers = answer.status_code, answer.headers
        except httpx.HTTPError as error:
            self.problems.append(repr(error))
        now = time.time()
        self.sent.append(Sent(due, now - due, status, headers.get("x-headrace-revision", "")))
        if status == 200:
            self._due_labels.append((now + self.label_delay, headers["x-headrace-prediction-id"], flight.late))

    async def _send_labels(self, client: httpx.AsyncClient) -> None:
        while not self._stop.is_set():
            await asyncio.sleep(LABELS_EVERY_SECONDS)
            labels = []
            while self._due_labels and self._due_labels[0][0] <= time.time():
                _, prediction_id, late = self._due_labels.popleft()
                labels.append({"id": prediction_id, "value": late})
            if labels:
                await self._post_labels(client, labels)

    async def _post_labels(self, client: httpx.AsyncClient, labels: list[dict[str, Any]]) -> None:
        try:
            answer = await client.post(self.labels_url, json={"service": "delay", "labels": labels})
            answer.raise_for_status()
            self.labels += len(labels)
        except httpx.HTTPError as error:
            self.problems.append(f"labels: {error!r}")


def flights_of(project: Path, month: Path, weather: Path, planes: Path) -> list[Flight]:
    """A month's flights in the order of the schedule, as requests: the features come from the project's own code."""
    import pandas as pd
    from kfp import dsl

    features = _component(project / "pipelines" / "retrain.py", "features")
    with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
        features.python_func(
            flights=dsl.Dataset(uri=str(month)), weather=dsl.Dataset(uri=str(weather)),
            planes=dsl.Dataset(uri=str(planes)), table=dsl.Dataset(uri=file.name),
        )  # fmt: skip
        table = pd.read_parquet(file.name)
    late = table.pop("late").tolist()
    rows = table.drop(columns="time_hour").to_json(orient="records", lines=True).splitlines()
    return [Flight(f'{{"instances":[{row}]}}'.encode(), label) for row, label in zip(rows, late, strict=True)]


def _component(file: Path, name: str) -> Any:
    """A component that a pipeline's file defines."""
    import runpy
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # KFP's, about the image of components without one
        return runpy.run_path(str(file))[name]
