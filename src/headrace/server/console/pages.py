"""A page: one typed object, shown as HTML, given as JSON, and watched for changes."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from headrace.errors import HeadraceError
from headrace.server.console.frame import Frames
from headrace.server.console.rendering import Renderer
from headrace.server.json_text import json_text
from headrace.server.operations import Answer, Schema, call_of
from headrace.server.requests import Call, refuse_other_sites

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

CHANGED = "event: changed\ndata:\n\n"
LOOK_SECONDS = 1.0
_KEEP_ALIVE_SECONDS = 15.0


@dataclass(frozen=True)
class Page:
    """`data` makes the page's object, a frozen dataclass, which `template` sees as `page`.

    The page is at `path`, its JSON twin at `path`.json ("/" at /home.json). `live`: what it shows may change while
    somebody looks; `moving` says that it may also change when nothing is written to the database.
    """

    path: str
    template: str
    data: Callable[[Call], DataclassInstance]
    query: Mapping[str, Schema] = field(default_factory=dict)
    live: bool = False
    moving: bool = False

    def routes(
        self, renderer: Renderer, frames: Frames, database: Path, stopping: Callable[[], bool]
    ) -> list[Route]:  # fmt: skip
        """HTML, JSON, and the stream of changes. What ends in .json is matched first."""
        base = "/home" if self.path == "/" else self.path

        async def html(request: Request) -> Response:
            call = self._call(request)
            page, frame = await run_in_threadpool(lambda: (self.data(call), frames.now()))
            stream = _with_query(f"{'/home' if self.path == '/' else request.url.path}.live", request)
            return renderer.page(request, self.template, page, frame, stream if self.live else "")

        async def twin(request: Request) -> Response:
            call = self._call(request)
            return Answer(asdict(await run_in_threadpool(self.data, call)))

        async def changes(request: Request) -> Response:
            call = self._call(request)
            digest = await run_in_threadpool(self._digest, call)
            watched = self._changes(call, digest, database, stopping)
            headers = {"cache-control": "no-store"}
            return StreamingResponse(watched, media_type="text/event-stream", headers=headers)

        found = [Route(f"{base}.json", twin), Route(self.path, html)]
        return [Route(f"{base}.live", changes), *found] if self.live else found

    def _call(self, request: Request) -> Call:
        refuse_other_sites(request)
        return call_of(request, self.query)

    def _digest(self, call: Call) -> bytes:
        return hashlib.sha256(json_text(asdict(self.data(call))).encode()).digest()

    async def _changes(
        self, call: Call, digest: bytes, database: Path, stopping: Callable[[], bool]
    ) -> AsyncIterator[str]:  # fmt: skip
        """An event `changed` whenever the page's object is another one; the first tells that somebody watches."""
        seen, quiet = _written(database), 0.0
        yield "event: watching\ndata:\n\n"
        while not stopping():
            await asyncio.sleep(LOOK_SECONDS)
            quiet += LOOK_SECONDS
            now = _written(database)
            if now != seen or self.moving:
                seen = now
                try:
                    newest = await run_in_threadpool(self._digest, call)
                except HeadraceError:
                    # What it tells of is gone: a run that was deleted.
                    return
                if newest != digest:
                    digest, quiet = newest, 0.0
                    yield CHANGED
            if quiet >= _KEEP_ALIVE_SECONDS:
                quiet = 0.0
                yield ": still here\n\n"


def _written(database: Path) -> tuple[int, ...]:
    """Changes whenever anything is committed: the write-ahead log grows, or begins anew."""
    found = []
    for path in (database, database.with_name(database.name + "-wal")):
        try:
            stat = path.stat()
        except FileNotFoundError:
            continue
        found += [stat.st_mtime_ns, stat.st_size]
    return tuple(found)


def _with_query(path: str, request: Request) -> str:
    return f"{path}?{request.url.query}" if request.url.query else path
