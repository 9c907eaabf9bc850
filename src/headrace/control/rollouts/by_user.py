"""What users got while a sticky rollout lasts: windows of users, for the metrics that the gateway counts.

Requests come from the gateway once, and wait here for the next look. Who was seen and who was bad is stored with each
window, so that another controller goes on; what waits when one is killed is lost, on both arms alike.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from headrace.contracts.rollout import Metric
from headrace.control.rollouts import rows
from headrace.control.rollouts.judging import BY_USER
from headrace.control.rollouts.rows import RolloutRow, SeenUser
from headrace.quality.analysis.users import UserCount, Users
from headrace.quality.analysis.window import Window
from headrace.serving.gateway.model import UserRequest
from headrace.store.database import Database

# Of a rollout. Those who come later are not counted.
MAX_USERS = 1_000_000


class ByUser:
    """Of all rollouts that count users."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._waiting: dict[str, list[UserRequest]] = {}
        self._users: dict[tuple[str, str], Users] = {}

    def take(self, active: Sequence[RolloutRow], requests: Iterable[UserRequest]) -> None:
        """Keep what rollouts that count users will look at; what is of no such rollout is forgotten."""
        of = {name: row.id for row in active if row.document.unit == "users" for name in _arms(row)}
        self._waiting = {name: self._waiting.get(name, []) for name in of.values()}
        self._users = {key: users for key, users in self._users.items() if key[0] in self._waiting}
        for request in requests:
            if request.revision_id in of:
                self._waiting[of[request.revision_id]].append(request)

    def forget(self, row: RolloutRow) -> None:
        """Forget what waits, and read anew who was seen."""
        self._waiting[row.id] = []
        self._users = {key: users for key, users in self._users.items() if key[0] != row.id}

    def windows(self, row: RolloutRow) -> tuple[dict[str, Window], dict[str, list[SeenUser]]]:
        """A window of each metric of what waits, which waits no more; and the users to store with it."""
        stretch, self._waiting[row.id] = self._waiting.get(row.id, []), []
        windows, seen = {}, {}
        for metric in row.document.analysis.metrics:
            if metric.name in BY_USER:
                windows[metric.name], seen[metric.name] = self._window(row, metric, stretch)
        return windows, seen

    def _window(self, row: RolloutRow, metric: Metric, stretch: Sequence[UserRequest]) -> tuple[Window, list[SeenUser]]:
        key = (row.id, metric.name)
        if key not in self._users:
            self._users[key] = rows.users(self.database, *key)
        users = self._users[key]
        full = len(users.seen[0]) + len(users.seen[1]) >= MAX_USERS
        counts, alone = [], [0, 0, 0, 0]
        for request in stretch:
            on_canary, bad = request.revision_id == row.to_revision, _is_bad(metric, request)
            if not request.user:
                alone[0 if on_canary else 2] += 1
                alone[1 if on_canary else 3] += bad
                continue
            name = hashlib.blake2b(request.user.encode(), digest_size=8, key=row.id.encode()[:64]).hexdigest()
            if not full or name in users.seen[0] or name in users.seen[1]:
                counts.append(UserCount(name, on_canary, bad))
        window = users.window(counts)
        told = [
            SeenUser(name, name in users.seen[1], name in users.seen[0], name in users.bad)
            for name in dict.fromkeys(str(count.user) for count in counts)
        ]
        return _with_strangers(window, alone), told


def _with_strangers(window: Window, alone: Sequence[int]) -> Window:
    """With requests of nobody in particular, each of which was placed at random: a user of its own."""
    canary, stable = window.at_risk
    return Window(
        window.canary_n + alone[0], window.canary_x + alone[1], window.stable_n + alone[2], window.stable_x + alone[3],
        canary + alone[0], stable + alone[2],
    )  # fmt: skip


def _is_bad(metric: Metric, request: UserRequest) -> bool:
    return request.error if metric.name == "errors" else request.milliseconds > metric.threshold_ms


def _arms(row: RolloutRow) -> list[str]:
    return [name for name in (row.from_revision, row.to_revision) if name is not None]
