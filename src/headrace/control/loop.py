"""Repeat a pass until told to stop. A pass that fails is reported and tried again, later each time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

LONGEST_WAIT_SECONDS = 30.0


async def repeat(
    name: str,
    one_pass: Callable[[], float],
    *,
    stop: asyncio.Event,
    report: Callable[[str, Exception], None],
) -> None:
    """Call `one_pass` in a thread, again after the seconds that it returns, until `stop` is set.

    Passes are idempotent, so trying again is safe. `report` is told of each failure that differs from the last.
    """
    failures, last = 0, ""
    while not stop.is_set():
        try:
            wait = await asyncio.to_thread(one_pass)
            failures, last = 0, ""
        except Exception as error:  # noqa: BLE001 - a loop must outlive any failure of one pass; it is reported
            failures += 1
            wait = min(0.5 * 2**failures, LONGEST_WAIT_SECONDS)
            if repr(error) != last:
                last = repr(error)
                report(name, error)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), timeout=wait)
