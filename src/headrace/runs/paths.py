"""What a task's path tells: `for-loop-1/0/tune~1/train` is in four groups, the last a second try of `tune`."""

from __future__ import annotations

from collections.abc import Collection


def groups(path: str) -> list[str]:
    """The groups around a task, the innermost first."""
    return [path.rsplit("/", count)[0] for count in range(1, path.count("/") + 1)]


def given_up(paths: Collection[str]) -> set[str]:
    """Those of a run's tasks that are in a try of a nested pipeline which a later try has taken the place of."""
    begun = {group for path in paths for group in groups(path)}
    return {path for path in paths if any(_next_try(group) in begun for group in groups(path))}


def _next_try(group: str) -> str:
    before, tilde, number = group.rpartition("~")
    return f"{before}~{int(number) + 1}" if tilde and number.isdecimal() else f"{group}~1"
