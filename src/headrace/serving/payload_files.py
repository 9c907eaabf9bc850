"""Whole requests and answers of a service, as Parquet files: sampled, bounded, for drift, audit and retraining."""

from __future__ import annotations

import random
import secrets
import time
from dataclasses import asdict, dataclass
from pathlib import Path

MAX_ROWS = 5_000
MAX_SECONDS = 30.0
# Of one service; the oldest files go first.
MAX_BYTES = 256 * 1024 * 1024
MAX_REQUEST_BYTES = 256 * 1024
_SUFFIX = ".parquet"


@dataclass(frozen=True)
class Payload:
    """One prediction. `at` is in unix seconds; `request` is the body as it came, `response` the outputs as JSON."""

    id: str
    revision: str
    arm: str
    at: float
    request: bytes
    response: str


class PayloadFiles:
    """Collects payloads and writes them to files in `folder`, each under a temporary name first.

    `mode`: all, request or response; `sample`: the share of predictions that is kept. What has been collected for less
    than `MAX_SECONDS` is lost when the process is killed.
    """

    def __init__(self, folder: Path, *, mode: str, sample: float = 1.0) -> None:
        self.folder = folder
        self.mode = mode
        self.sample = sample
        self._rows: list[Payload] = []
        self._since = 0.0

    def add(self, payload: Payload) -> None:
        """Keep it, if the sample has it."""
        if self.sample < 1 and random.random() >= self.sample:
            return
        if not self._rows:
            self._since = time.monotonic()
        self._rows.append(payload)

    def flush(self, *, last: bool = False) -> None:
        """Write a file when there is enough for one, or when it is time.

        Raises:
            OSError: the disk does not take it; what was collected is dropped.
        """
        overdue = self._rows and time.monotonic() - self._since >= MAX_SECONDS
        if len(self._rows) >= MAX_ROWS or overdue or (last and self._rows):
            rows, self._rows = self._rows, []
            self._write(rows)
            self._trim()

    def _write(self, rows: list[Payload]) -> None:
        import pyarrow
        import pyarrow.parquet

        columns = {name: [getattr(row, name) for row in rows] for name in asdict(rows[0])}
        columns["request"] = [_readable(row.request) if self.mode != "response" else None for row in rows]
        columns["response"] = [row.response if self.mode != "request" else None for row in rows]
        columns["at"] = [int(row.at * 1e6) for row in rows]
        schema = pyarrow.schema(
            [(name, pyarrow.timestamp("us", tz="UTC") if name == "at" else pyarrow.string()) for name in columns]
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        place = self.folder / f"{rows[0].revision}-{time.time_ns()}-{secrets.token_hex(2)}{_SUFFIX}"
        making = place.with_suffix(".tmp")
        try:
            pyarrow.parquet.write_table(pyarrow.table(columns, schema=schema), making, compression="zstd")
            making.rename(place)
        finally:
            making.unlink(missing_ok=True)

    def _trim(self) -> None:
        files = sorted(self.folder.glob(f"*{_SUFFIX}"), key=lambda file: file.name.rsplit("-", 2)[1])
        sizes = [file.stat().st_size for file in files]
        total = sum(sizes)
        for file, size in zip(files[:-1], sizes, strict=False):
            if total <= MAX_BYTES:
                break
            file.unlink(missing_ok=True)
            total -= size


def _readable(request: bytes) -> str:
    """A body as text. What is no text, such as binary tensors, is told by its length."""
    if len(request) > MAX_REQUEST_BYTES:
        return f"({len(request)} bytes)"
    try:
        return request.decode()
    except UnicodeDecodeError:
        return f"({len(request)} bytes, not text)"
