"""When a recurring run is due: pure arithmetic over a cron expression or an interval. Times are unix seconds, in UTC.

Sources: KFP's backend/src/crd/controller/scheduledworkflow/util/{cron,periodic}_schedule.go, and the six fields of
https://pkg.go.dev/github.com/robfig/cron (v1.2): seconds, minutes, hours, day of month, month, day of week.
"""

from __future__ import annotations

import contextlib
import math
import re
from dataclasses import dataclass
from typing import Any

from headrace.errors import UsageError

_MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_DAYS = "sun|mon|tue|wed|thu|fri|sat"
_DESCRIPTORS = {
    "@yearly": "0 0 0 1 1 *", "@annually": "0 0 0 1 1 *", "@monthly": "0 0 0 1 * *", "@weekly": "0 0 0 * * 0",
    "@daily": "0 0 0 * * *", "@midnight": "0 0 0 * * *", "@hourly": "0 0 * * * *",
}  # fmt: skip
MAX_INTERVAL_SECONDS = 100 * 366 * 86400
_UNITS = {"h": 3600, "m": 60, "s": 1}
_EVERY = re.compile(r"@every ((?:[0-9]+[hms])+)")
_REMEDY = "As in: 0 0 9 ? * 2-6 (second, minute, hour, day of month, month, day of week), or @daily."


def _field(names: str = "") -> re.Pattern[str]:
    value = rf"(?:[0-9]+|{names})" if names else "[0-9]+"
    item = rf"(?:\*|\?|{value}(?:-{value})?)(?:/[0-9]+)?"
    return re.compile(rf"{item}(?:,{item})*", re.IGNORECASE)


_FIELDS = (_field(), _field(), _field(), _field(), _field(_MONTHS), _field(_DAYS))


@dataclass(frozen=True)
class Schedule:
    """Due at the moments of `cron`, or every `interval_seconds`, after `start_at` and up to `end_at`.

    With `no_catchup`, of several moments that were missed only the last is made up for.
    """

    cron: str = ""
    interval_seconds: int = 0
    start_at: float | None = None
    end_at: float | None = None
    no_catchup: bool = False

    @property
    def interval(self) -> int:
        """The seconds between two moments; 0 when the cron expression's fields say when."""
        every = _EVERY.fullmatch(self.cron)
        if every is None:
            return self.interval_seconds
        return sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9]+)([hms])", every[1]))

    def check(self) -> None:
        """Raises UsageError: the cron expression cannot be read or never comes; the interval is below a second."""
        if self.cron and not self.interval:
            if _next_cron(self.cron, 0.0) is None:
                raise _unreadable(self.cron, "it never comes")
        elif not 1 <= self.interval <= MAX_INTERVAL_SECONDS:
            raise UsageError(
                f"Found invalid period schedule interval {self.interval}",
                where="trigger",
                remedy="Set it to at least 1 second, and at most 100 years.",
            )


def next_due(schedule: Schedule, last: float | None, created_at: float) -> float | None:
    """The first moment that is due after `last` (before the first: after its start or creation); None at its end."""
    after = last if last is not None else created_at if schedule.start_at is None else schedule.start_at
    if schedule.start_at is not None:
        after = max(after, schedule.start_at)
    due = after + schedule.interval if schedule.interval else _next_cron(schedule.cron, after)
    return None if due is None or (schedule.end_at is not None and due > schedule.end_at) else due


def to_start(schedule: Schedule, due: float, now: float) -> float:
    """Which of the moments from `due` to `now` to start a run for: the first, or the last where none is caught up."""
    if not schedule.no_catchup:
        return due
    latest = now if schedule.end_at is None else min(now, schedule.end_at)
    if schedule.interval:
        return due + max(0, math.floor((latest - due) / schedule.interval)) * schedule.interval
    return max(due, _last_cron(schedule.cron, latest))


def _next_cron(cron: str, after: float) -> float | None:
    from croniter import CroniterBadDateError

    with contextlib.suppress(CroniterBadDateError):
        return float(_iterator(cron, math.floor(after)).get_next(float))
    return None


def _last_cron(cron: str, until: float) -> float:
    return float(_iterator(cron, math.floor(until) + 1).get_prev(float))


def _iterator(cron: str, start: float) -> Any:
    from croniter import CroniterError, croniter

    try:
        return croniter(_six_fields(cron), start, second_at_beginning=True)
    except CroniterError as error:
        raise _unreadable(cron, str(error)) from error


def _six_fields(cron: str) -> str:
    fields = _DESCRIPTORS.get(cron, cron).split()
    # The last field may be left out.
    fields += ["*"] if len(fields) == 5 else []
    if len(fields) != 6:
        raise _unreadable(cron, f"Expected 5 to 6 fields, found {len(fields)}")
    for text, pattern in zip(fields, _FIELDS, strict=True):
        if pattern.fullmatch(text) is None:
            raise _unreadable(cron, f'"{text}" cannot be read')
    return " ".join(fields)


def _unreadable(cron: str, problem: str) -> UsageError:
    return UsageError(
        f'Schedule cron is not a supported format (https://godoc.org/github.com/robfig/cron): "{cron}": {problem}',
        where="trigger.cron_schedule.cron",
        remedy=_REMEDY,
    )
