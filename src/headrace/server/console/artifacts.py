"""What tasks have made, shown: tables, curves, pages, pictures. Content is opened only where an artifact's row says.

What a task wrote is not trusted: text is escaped and bounded, and a page is served with a sandbox of its own
(https://developer.mozilla.org/docs/Web/HTTP/Reference/Headers/Content-Security-Policy/sandbox).
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Route

from headrace.errors import NotFoundError, UsageError
from headrace.project.wiring import Platform
from headrace.runs import inspection, queries
from headrace.runs.inspection import ArtifactRow
from headrace.server.console.pages import Page
from headrace.server.operations import NUMBER, TEXT
from headrace.server.requests import Call, refuse_other_sites

MOST_ROWS = 100
MOST_COLUMNS = 50
_MOST_TEXT = 100_000
_MOST_CELL = 200
_MOST_FILES = 200
_SANDBOX = (
    "sandbox allow-scripts; default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'unsafe-inline'"
)
_GUARDED = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "cache-control": "private"}
_IMAGES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"),
    (b"RIFF", "image/webp"),
)  # fmt: skip


@dataclass(frozen=True)
class Curve:
    """A ROC curve: points (false positive rate, true positive rate) from 0 to 1, and the area below it."""

    points: list[tuple[float, float]]
    area: float


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix: `rows[i][j]` counts what is `names[i]` and was taken for `names[j]`."""

    names: list[str]
    rows: list[list[float]]
    most: float


@dataclass(frozen=True)
class View:
    """How an artifact is shown. `kind`: page, image, markdown, table, text, files, or "" when only its facts are.

    `values`: its metadata as far as that is plain. `columns` and `rows` are the beginning of a table of `total` rows
    (None: not counted). `shortened`: there is more than is shown.
    """

    artifact: ArtifactRow
    kind: str
    there: bool
    values: dict[str, Any] = field(default_factory=dict)
    curve: Curve | None = None
    matrix: Matrix | None = None
    text: str = ""
    columns: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    total: int | None = None
    shortened: bool = False


@dataclass(frozen=True)
class ArtifactPage:
    """One artifact in full."""

    run_id: str
    view: View


def pages(platform: Platform) -> list[Page]:
    """The page of an artifact: /runs/{run}/artifact?task=PATH&name=NAME&position=0."""

    def data(call: Call) -> ArtifactPage:
        position = call.query.number("position")
        row = _named(platform, call.path["run"], call.query.text("task"), call.query.text("name"), position)
        return ArtifactPage(row.run_id, view(row, in_full=True))

    query = {"task": TEXT, "name": TEXT, "position": NUMBER}
    return [Page("/runs/{run}/artifact", "artifact.html", data, query)]


def routes(platform: Platform) -> list[BaseRoute]:
    """An artifact's content: as a download, as a page in a sandbox, as a picture."""
    served: tuple[tuple[str, Callable[[ArtifactRow], Response]], ...] = (
        ("download", _download), ("page", _page), ("image", _image),
    )  # fmt: skip
    return [Route(f"/runs/{{run}}/artifact/{word}", _endpoint(platform, answer)) for word, answer in served]


def view(row: ArtifactRow, *, in_full: bool = False) -> View:
    """How to show an artifact; `in_full` also reads what is in it."""
    file = row.file
    told = {name: value for name, value in row.metadata.items() if not isinstance(value, dict | list)}
    about: dict[str, Any] = {
        "artifact": row, "there": file is not None, "values": told, "curve": _curve(row.metadata),
        "matrix": _matrix(row.metadata),
    }  # fmt: skip
    kind = _kind(row, file) if file is not None and row.bytes else ""
    if file is None or not in_full or kind in ("", "page", "image"):
        return View(kind=kind, **about)
    return View(kind=kind, **about, **_READERS[kind](file))


def _kind(row: ArtifactRow, file: Path) -> str:
    if file.is_dir():
        return "files"
    if not file.is_file():
        return ""
    with file.open("rb") as stream:
        start = stream.read(2048)
    if any(start.startswith(sign) for sign, _ in _IMAGES):
        return "image"
    if start.startswith(b"PAR1"):
        return "table"
    if b"\0" in start:
        return ""
    if row.type == "system.HTML" or file.suffix.lower() in (".html", ".htm"):
        return "page"
    if row.type == "system.Markdown" or file.suffix.lower() == ".md":
        return "markdown"
    return "table" if file.suffix.lower() == ".csv" else "text"


def _parquet(file: Path) -> dict[str, Any]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(file) as table:
            names = [str(name) for name in table.schema_arrow.names[:MOST_COLUMNS]]
            batch = next(table.iter_batches(batch_size=MOST_ROWS, columns=names), None)
            columns = [[_cell(value) for value in column.to_pylist()] for column in batch.columns] if batch else []
            total, width = table.metadata.num_rows, len(table.schema_arrow.names)
    except (pa.ArrowException, OSError) as error:
        return {"text": f"It cannot be read as Parquet: {error}"}
    rows = [list(row) for row in zip(*columns, strict=True)]
    return {"columns": names, "rows": rows, "total": total, "shortened": total > len(rows) or width > len(names)}


def _csv(file: Path) -> dict[str, Any]:
    text, shortened = _beginning(file)
    # What was cut off in its middle is no row.
    lines = csv.reader(io.StringIO(text.rpartition("\n")[0] if shortened else text))
    try:
        rows = [
            [_cell(value) for value in row[:MOST_COLUMNS]] for row, _ in zip(lines, range(MOST_ROWS + 2), strict=False)
        ]
    except csv.Error as error:
        return {"text": f"It cannot be read as CSV: {error}"}
    head, body = (rows[0], rows[1:]) if rows else ([], [])
    return {"columns": head, "rows": body[:MOST_ROWS], "shortened": shortened or len(body) > MOST_ROWS}


def _table(file: Path) -> dict[str, Any]:
    with file.open("rb") as stream:
        is_parquet = stream.read(4) == b"PAR1"
    return _parquet(file) if is_parquet else _csv(file)


def _text(file: Path) -> dict[str, Any]:
    text, shortened = _beginning(file)
    if not shortened and text.lstrip().startswith(("{", "[")):
        with contextlib.suppress(ValueError, RecursionError):
            text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)[:_MOST_TEXT]
    return {"text": text, "shortened": shortened}


def _markdown(file: Path) -> dict[str, Any]:
    from markdown_it import MarkdownIt

    text, shortened = _beginning(file)
    # No HTML of the author's, and no pictures: they would be fetched from elsewhere.
    return {
        "text": MarkdownIt("commonmark", {"html": False}).enable("table").disable("image").render(text),
        "shortened": shortened,
    }


def _files(file: Path) -> dict[str, Any]:
    found = []
    for path in sorted(file.rglob("*")):
        if path.is_file():
            found.append([str(path.relative_to(file)), f"{path.stat().st_size:,}"])
        if len(found) > _MOST_FILES:
            break
    return {"columns": ["file", "bytes"], "rows": found[:_MOST_FILES], "shortened": len(found) > _MOST_FILES}


_READERS: Mapping[str, Callable[[Path], dict[str, Any]]] = {
    "table": _table, "text": _text, "markdown": _markdown, "files": _files,
}  # fmt: skip


def _beginning(file: Path) -> tuple[str, bool]:
    with file.open("rb") as stream:
        data = stream.read(_MOST_TEXT + 1)
    return data[:_MOST_TEXT].decode("utf-8", "replace"), len(data) > _MOST_TEXT


def _cell(value: Any) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= _MOST_CELL else text[:_MOST_CELL] + "…"


def _curve(metadata: Mapping[str, Any]) -> Curve | None:
    """The curve of ClassificationMetrics.log_roc_curve; the area by trapezoids."""
    told = metadata.get("confidenceMetrics")
    if not isinstance(told, list) or len(told) < 2:
        return None
    # Every curve begins where nothing is taken for true and ends where everything is, logged or not.
    corners = [(0.0, 0.0), (1.0, 1.0)]
    try:
        logged = [(float(one.get("falsePositiveRate", 0)), float(one.get("recall", 0))) for one in told]
    except (AttributeError, TypeError, ValueError):
        return None
    if not all(0 <= value <= 1 for point in logged for value in point):
        return None
    points = sorted({*logged, *corners})
    area = sum((x2 - x1) * (y1 + y2) / 2 for (x1, y1), (x2, y2) in pairwise(points))
    return Curve(points, area)


def _matrix(metadata: Mapping[str, Any]) -> Matrix | None:
    """The matrix of ClassificationMetrics.log_confusion_matrix."""
    told = metadata.get("confusionMatrix")
    try:
        names = [str(spec["displayName"]) for spec in told["annotationSpecs"]]  # type: ignore[index]
        rows = [[float(value) for value in row["row"]] for row in told["rows"]]  # type: ignore[index]
    except (KeyError, TypeError, ValueError):
        return None
    if not names or len(rows) != len(names) or any(len(row) != len(names) for row in rows):
        return None
    return Matrix(names, rows, max(max(row) for row in rows))


def _named(platform: Platform, run: str, task: str, name: str, position: int) -> ArtifactRow:
    run_id = queries.find(platform.database, run)["id"]
    return inspection.artifact(platform.database, run_id, task, name, position)


def _endpoint(platform: Platform, answer: Callable[[ArtifactRow], Response]) -> Callable[[Request], Any]:
    async def serve(request: Request) -> Response:
        refuse_other_sites(request)
        asked = request.query_params
        position = asked.get("position", "0")
        if not position.isdecimal() or len(position) > 9:
            raise UsageError("must be a whole number", where="position", remedy="As in: ?position=0")

        def made() -> Response:
            row = _named(
                platform, request.path_params["run"], asked.get("task", ""), asked.get("name", ""), int(position)
            )
            return answer(row)

        return await run_in_threadpool(made)

    return serve


def _content(row: ArtifactRow) -> Path:
    file = row.file
    if file is None or not file.is_file():
        raise NotFoundError(f"the content of {row.name} is not a file on this machine", where=f"task {row.path}")
    return file


def _download(row: ArtifactRow) -> Response:
    file = _content(row)
    name = f"{row.run_id[:12]}-{row.path.replace('/', '.')}-{row.name}{file.suffix}"
    return FileResponse(file, filename=name, media_type="application/octet-stream", headers=_GUARDED)


def _page(row: ArtifactRow) -> Response:
    file = _content(row)
    if _kind(row, file) != "page":
        raise NotFoundError(f"{row.name} is no page", where=f"task {row.path}")
    headers = {**_GUARDED, "content-security-policy": _SANDBOX}
    return FileResponse(file, media_type="text/html; charset=utf-8", headers=headers)


def _image(row: ArtifactRow) -> Response:
    file = _content(row)
    with file.open("rb") as stream:
        start = stream.read(16)
    kind = next((kind for sign, kind in _IMAGES if start.startswith(sign)), None)
    if kind is None:
        raise NotFoundError(f"{row.name} is no picture", where=f"task {row.path}")
    return FileResponse(file, media_type=kind, headers={**_GUARDED, "content-security-policy": _SANDBOX})
