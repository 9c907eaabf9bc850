"""What is read from the paths of tasks."""

import pytest

from headrace.runs.paths import given_up, groups


def test_the_groups_around_a_task_are_the_beginnings_of_its_path():
    assert groups("for-loop-1/0/train") == ["for-loop-1/0", "for-loop-1"]
    assert groups("train") == []


@pytest.mark.parametrize(
    ("paths", "past"),
    [
        ({"a", "tune/a", "other/a"}, set()),
        ({"tune/a", "tune~1/a", "tune~2/a"}, {"tune/a", "tune~1/a"}),
        ({"loop/0/a", "loop/0~1/a", "loop/1/a"}, {"loop/0/a"}),
        ({"out/in/a", "out/in~1/a", "out~1/in/a", "out~1/in~1/deep/a"}, {"out/in/a", "out/in~1/a", "out~1/in/a"}),
        ({f"tune~{n}/a" for n in range(9, 12)} | {"tunes/a"}, {"tune~9/a", "tune~10/a"}),
        ({"a~b/a", "a~1b/a"}, set()),
    ],
)
def test_a_try_is_given_up_once_a_later_one_has_begun(paths, past):
    assert given_up(paths) == past
