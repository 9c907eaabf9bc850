import pytest

from headrace.clock import lasting, rfc3339


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-1, "0 ms"), (0.84, "840 ms"), (8.44, "8.4 s"), (12.3, "12 s"), (59.6, "1 min"), (303, "5 min 3 s"),
        (3600, "1 h"), (12000, "3 h 20 min"), (187200, "2 d 4 h"),
    ],
)  # fmt: skip
def test_durations_are_told_as_a_person_says_them(seconds, said):
    assert lasting(seconds) == said


def test_times_are_told_in_utc():
    assert rfc3339(0.5) == "1970-01-01T00:00:00.500000Z"
