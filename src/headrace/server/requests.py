"""What a request brings, read once and checked: who may ask, a JSON body, an upload, fields of the right kind.

Whoever opens a page of another site on this machine must not act here by that. A page can make a browser send a
form, an upload or nothing at all to 127.0.0.1, but not JSON; and a browser names the page's origin with each of them.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import UploadFile
from starlette.requests import Request

from headrace.errors import UsageError
from headrace.governance.rbac import Principal, owner
from headrace.runs.listing import moment

MAX_BODY_BYTES = 8 * 1024 * 1024
_FORM_BYTES = 64 * 1024  # around the file
_OWN_NAME = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:[0-9]{1,5})?")
_PORT = re.compile(r":[0-9]{1,5}$")
_LARGEST_NUMBER = 2**63 - 1  # SQLite's


@dataclass(frozen=True)
class Call:
    """A request as a handler takes it."""

    path: Mapping[str, str]
    query: Fields
    body: Fields
    upload: tuple[str, bytes] = ("", b"")
    who: Principal = field(default_factory=owner)


@dataclass(frozen=True)
class Fields:
    """A JSON object whose fields are asked for by their snake_case names; protobuf's camelCase is read as well.

    Every method raises UsageError for a field of another kind. null is the same as no field.
    """

    body: Mapping[str, Any] = field(default_factory=dict)
    where: str = ""

    def text(self, name: str, default: str = "") -> str:
        value = self._get(name, default)
        if not isinstance(value, str):
            raise self._wrong(name, "a string")
        return value

    def flag(self, name: str) -> bool:
        value = self._get(name, False)
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false")
        return value

    def number(self, name: str, default: int = 0) -> int:
        """A whole number; protobuf's JSON writes int64 as a string."""
        value = self._get(name, default)
        if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value):
            value = int(value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or abs(value) > _LARGEST_NUMBER:
            raise self._wrong(name, "a whole number")
        return value

    def time(self, name: str) -> float | None:
        """Unix seconds of an RFC 3339 time; None when it is not given."""
        value = self._get(name, None)
        return None if value is None else moment(value, self._at(name))

    def choice(self, name: str, known: Mapping[str, int]) -> str:
        """An enum's value by its name or its number; the first of the known ones when it is not given."""
        value = self._get(name, next(iter(known)))
        for word, number in known.items():
            if value == word or (value == number and isinstance(value, int) and not isinstance(value, bool)):
                return word
        raise self._wrong(name, f"one of {', '.join(known)}")

    def mapping(self, name: str) -> dict[str, Any]:
        value = self._get(name, {})
        if not isinstance(value, dict):
            raise self._wrong(name, "an object")
        return value

    def inside(self, name: str) -> Fields:
        """The fields of a field."""
        return Fields(self.mapping(name), self._at(name))

    def has(self, name: str) -> bool:
        return self._get(name, None) is not None

    def _get(self, name: str, default: Any) -> Any:
        head, *rest = name.split("_")
        camel = head + "".join(word.title() for word in rest)
        value = self.body.get(name, self.body.get(camel))
        return default if value is None else value

    def _at(self, name: str) -> str:
        return f"{self.where}.{name}" if self.where else name

    def _wrong(self, name: str, kind: str) -> UsageError:
        return UsageError(f"must be {kind}", where=self._at(name), remedy="Correct it.")


def refuse_other_sites(request: Request) -> None:
    """Answer to the server's own names only, and change nothing for a page of another site. Raises UsageError."""
    host = request.headers.get("host", "")
    names: Collection[str] = getattr(request.app.state, "names", ())
    if _OWN_NAME.fullmatch(host) is None and _PORT.sub("", host.lower()) not in names:
        # A page of another site whose name leads to this machine is still of another site.
        raise UsageError(
            f"{host} is not a name of this server",
            remedy="Ask 127.0.0.1 or localhost by name; `headrace up --name NAME` adds a name.",
        )
    if request.method in ("GET", "HEAD"):
        return
    origin = request.headers.get("origin")
    if origin is not None and not _is_own(origin, host):
        raise UsageError(f"a page of {origin} may change nothing here", remedy="Use the page of this server.")
    if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        raise UsageError("a page of another site may change nothing here", remedy="Use the page of this server.")


def _is_own(origin: str, host: str) -> bool:
    try:
        return urlsplit(origin).netloc == host
    except ValueError:
        return False


async def read_body(request: Request, most: int = MAX_BODY_BYTES) -> dict[str, Any]:
    """The JSON object in the body; {} when there is none. Raises UsageError."""
    import orjson

    if _content_type(request) != "application/json":
        raise UsageError("the body must be JSON", remedy="Send it with the header content-type: application/json.")
    raw = await read_raw(request, most)
    if not raw:
        return {}
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise UsageError(f"the body is not JSON: {error}", remedy="Send a JSON object.") from error
    if not isinstance(body, dict):
        raise UsageError("the body must be a JSON object", remedy='Send {"name": value, …}.')
    return body


async def read_upload(request: Request, name: str, most: int) -> tuple[str, bytes]:
    """The name and the bytes of the file in a multipart form's field. Raises UsageError."""
    _, file = await read_form_upload(request, name, most)
    if file is None:
        remedy = f"Send the file in the field {name} of a multipart/form-data body."
        raise UsageError("Failed to read pipeline from file", where=name, remedy=remedy)
    return file


async def read_form_upload(
    request: Request, name: str, most: int
) -> tuple[dict[str, str], tuple[str, bytes] | None]:  # fmt: skip
    """The text fields of a multipart form, and the name and the bytes of the file in the field `name`, if there is one.

    Raises:
        UsageError: it is no such form, or too large.
    """
    from starlette.formparsers import MultiPartException, MultiPartParser

    remedy = f"Send the file in the field {name} of a multipart/form-data body."
    if _content_type(request) != "multipart/form-data":
        raise UsageError("the body must be multipart/form-data", remedy=remedy)
    raw = await read_raw(request, most + _FORM_BYTES)

    async def stream() -> AsyncGenerator[bytes, None]:
        yield bytes(raw)
        yield b""

    try:
        form = await MultiPartParser(request.headers, stream(), max_files=1, max_fields=16).parse()
    except MultiPartException as error:
        raise UsageError(f"the body cannot be read: {error.message}", where=name, remedy=remedy) from error
    try:
        file = form.get(name)
        fields = {key: value for key, value in form.items() if isinstance(value, str)}
        return fields, (file.filename or "", await file.read()) if isinstance(file, UploadFile) else None
    finally:
        await form.close()


async def read_raw(request: Request, most: int) -> bytearray:
    """The body, of at most `most` bytes. Raises UsageError."""
    raw = bytearray()
    async for piece in request.stream():
        raw += piece
        if len(raw) > most:
            raise _too_large(most)
    return raw


def _too_large(most: int) -> UsageError:
    return UsageError(f"the body is larger than {most // 1024 // 1024} MiB", remedy="Send less.")


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()
