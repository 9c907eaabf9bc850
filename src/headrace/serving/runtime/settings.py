"""How a model server is run; each is an option of `python -m headrace.serving.runtime`."""

from __future__ import annotations

from dataclasses import dataclass

MAX_BODY = 64 * 2**20
MAX_WAITING = 256


@dataclass(frozen=True)
class Settings:
    """`max_body` in bytes. `max_concurrency` 0 is MAX_WAITING. `batch_rows` 0: as the model allows, 1: never.

    `batch_delay` and `client_seconds` in seconds.
    """

    max_body: int = MAX_BODY
    max_concurrency: int = 0
    batch_rows: int = 0
    batch_delay: float = 0.0
    client_seconds: float = 60.0
