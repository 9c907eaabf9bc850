"""When recurring runs are due, against a search second by second and against KFP's own cases."""

from datetime import UTC, datetime

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from headrace.errors import UsageError
from headrace.runs.schedules import Schedule, next_due, to_start

NOW = datetime(2026, 11, 25, 9, tzinfo=UTC).timestamp()


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("cron", "moments"),
    [
        ("0 0 9 ? * 2-6", ["2026-11-26 09:00", "2026-11-27 09:00", "2026-11-28 09:00", "2026-12-01 09:00"]),
        ("0 0 9 ? * TUE-Sat", ["2026-11-26 09:00", "2026-11-27 09:00"]),
        ("15,45 * * * * *", ["2026-11-25 09:00:15", "2026-11-25 09:00:45", "2026-11-25 09:01:15"]),
        ("0 */20 * * * *", ["2026-11-25 09:20", "2026-11-25 09:40", "2026-11-25 10:00"]),
        ("0 0 0 1 jan ?", ["2027-01-01 00:00", "2028-01-01 00:00"]),
        ("0 0 0 29 2 *", ["2028-02-29 00:00"]),
        # Of day of month and day of week either is enough where both are given.
        ("0 0 0 1 * MON", ["2026-11-30 00:00", "2026-12-01 00:00", "2026-12-07 00:00"]),
        ("0 30 6 * *", ["2026-11-26 06:30"]),
        ("@hourly", ["2026-11-25 10:00", "2026-11-25 11:00"]),
        ("@daily", ["2026-11-26 00:00"]),
        ("@weekly", ["2026-11-29 00:00"]),
        ("@monthly", ["2026-12-01 00:00"]),
        ("@yearly", ["2027-01-01 00:00"]),
        ("@every 1h30m", ["2026-11-25 10:30", "2026-11-25 12:00"]),
    ],
)
def test_cron_expressions_mean_what_robfig_says(cron, moments):
    schedule = Schedule(cron=cron)
    schedule.check()
    last = None
    for moment in moments:
        last = next_due(schedule, last, NOW)
        assert last == at(moment)


@pytest.mark.parametrize(
    "cron",
    ["", "* * * *", "* * * * * * *", "60 * * * * *", "* * 24 * * *", "0 0 0 0 * *", "0 0 0 32 * *", "0 0 0 30 2 *",
     "0 0 0 * 13 *", "0 0 0 * * 8", "a * * * * *", "0 0 0 L * *", "0 0 0 ? * 5#2", "*/0 * * * * *", "@sometimes",
     "@every", "@every 1x", "@every 0s", "H * * * * *", "0 0 0 * foo *", "-1 * * * * *", "0 0 0 1-99999999999 * *"],
)  # fmt: skip
def test_what_is_no_schedule_is_refused_with_an_example(cron):
    with pytest.raises(UsageError) as caught:
        Schedule(cron=cron).check()
    assert caught.value.remedy


def test_an_interval_counts_from_its_start_or_creation():
    assert next_due(Schedule(interval_seconds=60), None, NOW) == NOW + 60
    assert next_due(Schedule(interval_seconds=60, start_at=NOW + 10), None, NOW) == NOW + 70
    assert next_due(Schedule(interval_seconds=60, start_at=NOW - 1000), None, NOW) == NOW - 940
    assert next_due(Schedule(interval_seconds=60), NOW + 5, NOW) == NOW + 65


def test_nothing_is_due_after_the_end():
    ends = Schedule(interval_seconds=60, end_at=NOW + 60)
    assert next_due(ends, None, NOW) == NOW + 60
    assert next_due(ends, NOW + 60, NOW) is None
    assert next_due(Schedule(cron="@daily", end_at=NOW + 60), None, NOW) is None


def test_catching_up_stops_at_the_end():
    ends = Schedule(interval_seconds=60, end_at=NOW + 150, no_catchup=True)
    assert to_start(ends, NOW + 60, NOW + 1000) == NOW + 120
    daily = Schedule(cron="@hourly", end_at=NOW + 2 * 3600 + 5, no_catchup=True)
    assert to_start(daily, NOW + 3600, NOW + 86400) == NOW + 2 * 3600


seconds = st.sampled_from(["0", "*/15", "10,50", "5-8", "*"])
minutes = st.sampled_from(["*", "*/7", "0,30", "58-59"])
hours = st.sampled_from(["*", "9", "9-10"])


@settings(max_examples=60, deadline=None)
@given(seconds, minutes, hours, st.integers(0, 4000), st.integers(0, 4000))
def test_the_next_and_the_last_moment_are_those_that_a_search_finds(second, minute, hour, first, length):
    """Between two moments that follow each other there is none; the last one before now is the one that is started."""
    schedule = Schedule(cron=f"{second} {minute} {hour} * * *", no_catchup=True)
    start = NOW + first
    due = next_due(schedule, None, start)
    assume(due is not None and due <= start + length)
    matching = [moment for moment in range(int(start) + 1, int(start) + length + 1) if _matches(schedule.cron, moment)]
    assert due == matching[0]
    assert to_start(schedule, due, start + length + 0.5) == matching[-1]


def _matches(cron, moment):
    when = datetime.fromtimestamp(moment, UTC)
    fields = zip(cron.split(), (when.second, when.minute, when.hour), strict=False)
    return all(_in(text, value) for text, value in fields)


def _in(text, value):
    if text == "*":
        return True
    if text.startswith("*/"):
        return value % int(text[2:]) == 0
    parts = [part.split("-") for part in text.split(",")]
    return any(int(part[0]) <= value <= int(part[-1]) for part in parts)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 100), st.floats(0, 10_000), st.booleans(), st.none() | st.floats(0, 10_000))
def test_an_interval_never_starts_what_is_not_due(interval, late, no_catchup, end):
    end_at = None if end is None else NOW + end
    schedule = Schedule(interval_seconds=interval, no_catchup=no_catchup, end_at=end_at)
    due = next_due(schedule, None, NOW)
    assume(due is not None and due <= NOW + late)
    chosen = to_start(schedule, due, NOW + late)
    assert due <= chosen <= NOW + late
    assert end_at is None or chosen <= end_at
    assert (chosen - NOW) % interval == pytest.approx(0, abs=1e-6) or (chosen - NOW) % interval == pytest.approx(
        interval, abs=1e-6
    )
    following = next_due(schedule, chosen, NOW)
    assert following is None or not no_catchup or following > NOW + late - 1e-6
