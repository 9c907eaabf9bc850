"""Artifacts as people look at them: metrics, curves, tables, text, pages in a sandbox."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from headrace.errors import NotFoundError
from headrace.governance.rbac import Role
from headrace.project.wiring import Platform
from headrace.runs import queries
from headrace.server import access
from headrace.server.requests import refuse_other_sites
from headrace.store.database import Database

MOST_ROWS = 50
MOST_COLUMNS = 30
_MOST_TEXT = 64 * 1024
_MOST_TABLE = 64 * 1024 * 1024
# What a pipeline made runs, if at all, in an origin of its own, which can reach nothing.
SANDBOX = (
    "sandbox allow-scripts; default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
)
_IMAGES = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif"}


@dataclass(frozen=True)
class Shown:
    """An artifact. `kind` says how it is shown: metrics, roc, confusion, table, text, markdown, html, image, none.

    `data` is what is shown: rows of a table, points of a curve, text. `view` and `download` are addresses; "" when the
    bytes are not on this machine.
    """

    name: str
    type: str
    uri: str
    digest: str
    bytes: int
    metadata: Mapping[str, Any]
    kind: str
    data: Any = None
    note: str = ""
    view: str = ""
    download: str = ""
    metrics: Mapping[str, Any] = field(default_factory=dict)


def of_task(database: Database, run_id: str, path: str) -> list[Shown]:
    """What a task has made, ready to be shown."""
    rows = database.query(
        "SELECT * FROM artifact WHERE run_id = ? AND path = ? ORDER BY name, position", (run_id, path)
    )
    return [_shown(dict(row)) for row in rows]


def _shown(row: Mapping[str, Any]) -> Shown:
    from urllib.parse import urlencode

    metadata = json.loads(row["metadata"])
    asked = urlencode({"task": row["path"], "name": row["name"], "position": row["position"]})
    address = f"/runs/{row['run_id']}/artifact?{asked}"
    file = Path(row["uri"])
    here = file.is_absolute() and file.is_file()
    kind, data, note = _content(row["type"], metadata, file if here else None)
    metrics = {name: value for name, value in metadata.items() if isinstance(value, int | float | str | bool)}
    return Shown(
        row["name"], row["type"], row["uri"], row["digest"], row["bytes"], metadata, kind, data, note,
        view=address if here else "", download=f"{address}&download=true" if here else "", metrics=metrics,
    )  # fmt: skip


def _content(kind: str, metadata: Mapping[str, Any], file: Path | None) -> tuple[str, Any, str]:
    if kind.endswith("ClassificationMetrics"):
        if "confidenceMetrics" in metadata:
            points = [
                (float(one.get("falsePositiveRate", 0)), float(one.get("recall", 0)))
                for one in metadata["confidenceMetrics"]
            ]
            return "roc", {"points": sorted(points), "area": _area(sorted(points))}, ""
        if "confusionMatrix" in metadata:
            return "confusion", _confusion(metadata["confusionMatrix"]), ""
    if kind.endswith("Metrics"):
        return "metrics", None, ""
    if file is None:
        return "none", None, ""
    if kind.endswith("HTML"):
        return "html", None, ""
    if kind.endswith("Markdown"):
        return "markdown", _markdown(file), ""
    return _file(file)


def _file(file: Path) -> tuple[str, Any, str]:
    with file.open("rb") as stream:
        start = stream.read(_MOST_TEXT)
    if start[:4] == b"PAR1":
        return _table(file)
    if any(start.startswith(magic) for magic in _IMAGES):
        return "image", None, ""
    try:
        text = start.decode("utf-8") if b"\0" not in start else None
    except UnicodeDecodeError as error:
        # A character may be cut at the end of what was read.
        text = start[: error.start].decode("utf-8") if error.start > len(start) - 4 else None
    if text is None:
        return "none", None, "Bytes that are no text."
    return "text", text, "Only the beginning." if file.stat().st_size > _MOST_TEXT else ""


def _table(file: Path) -> tuple[str, Any, str]:
    import pyarrow.parquet as parquet

    if file.stat().st_size > _MOST_TABLE:
        return "none", None, "Too large to look into here; download it."
    try:
        with parquet.ParquetFile(file) as table:
            columns = table.schema_arrow.names[:MOST_COLUMNS]
            batch = next(table.iter_batches(MOST_ROWS, columns=columns), None)
            found = batch.to_pylist() if batch else []
            rows = [["" if value is None else str(value) for value in row.values()] for row in found]
            note = f"{table.metadata.num_rows:,} rows, {len(table.schema_arrow.names)} columns; the first {len(rows)}."
    except Exception as error:  # noqa: BLE001 - a torn file raises anything; the page says so
        return "none", None, f"It cannot be read as Parquet: {type(error).__name__}."
    return "table", {"columns": columns, "rows": rows}, note


def _markdown(file: Path) -> str:
    from markdown_it import MarkdownIt

    with file.open("rb") as stream:
        text = stream.read(_MOST_TEXT).decode("utf-8", "replace")
    made: str = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image").render(text)
    return made


def _confusion(matrix: Mapping[str, Any]) -> dict[str, Any]:
    names = [str(one.get("displayName", "")) for one in matrix.get("annotationSpecs", [])]
    rows = [[float(value) for value in row.get("row", [])] for row in matrix.get("rows", [])]
    most = max((value for row in rows for value in row), default=0.0)
    shades = [[round(10 * value / most) if most else 0 for value in row] for row in rows]
    return {"names": names, "rows": rows, "shades": shades}


def _area(points: list[tuple[float, float]]) -> float:
    """The area under the curve, by trapezoids."""
    return sum((x1 - x0) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in pairwise(points))


def routes(platform: Platform) -> list[Route]:
    """The bytes of artifacts, which never run in the console's origin."""

    def answer(request: Request) -> Response:
        refuse_other_sites(request)
        access.require(request, Role.VIEWER)
        run_id = queries.find(platform.database, request.path_params["run"])["id"]
        asked = request.query_params
        row = platform.database.one(
            "SELECT uri, type FROM artifact WHERE run_id = ? AND path = ? AND name = ? AND position = ?",
            (run_id, asked.get("task", ""), asked.get("name", ""), asked.get("position", "0")),
        )
        file = Path(row["uri"]) if row else None
        if row is None or file is None or not file.is_absolute() or not file.is_file():
            raise NotFoundError("no such artifact is on this machine", where=f"run {run_id}", remedy="Look at the run.")
        headers = {"content-security-policy": SANDBOX, "x-content-type-options": "nosniff", "cache-control": "no-store"}
        if asked.get("download") == "true":
            return FileResponse(file, media_type="application/octet-stream", filename=file.name, headers=headers)
        return FileResponse(file, media_type=_media_type(str(row["type"]), file), headers=headers)

    return [Route("/runs/{run}/artifact", answer)]


def _media_type(kind: str, file: Path) -> str:
    if kind.endswith("HTML"):
        return "text/html; charset=utf-8"
    with file.open("rb") as stream:
        start = stream.read(4)
    found = next((name for magic, name in _IMAGES.items() if start.startswith(magic)), "")
    return found or "text/plain; charset=utf-8"
