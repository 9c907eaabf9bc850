"""Whether a revision still predicts what it predicted at first."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from headrace.clock import Clock, rfc3339
from headrace.contracts.verdict import Verdict
from headrace.serving import payload_log
from headrace.serving.payload_log import Predicted
from headrace.store.home import Home

# The log keeps so many of a revision's first predictions as long as it answers.
SAMPLE = payload_log.FIRST_PREDICTIONS
LOOK_SECONDS = 10.0


@dataclass(frozen=True)
class Drift:
    """The verdict over a revision's newest predictions beside its first ones; times in RFC 3339, "" without any."""

    verdict: Verdict
    reference_until: str
    current_since: str


class Drifts:
    """Looks at the payload log again when `LOOK_SECONDS` have gone by; any thread may ask."""

    def __init__(self, home: Home, clock: Clock) -> None:
        self.home = home
        self.clock = clock
        self._guard = threading.Lock()
        self._known: dict[tuple[str, str], tuple[float, Drift]] = {}
        self._first: dict[tuple[str, str], list[Predicted]] = {}

    def of(self, service: str, revision: str, since: float = 0.0) -> Drift:
        """The drift of a revision whose first prediction was made at or after `since` (unix seconds)."""
        key, now = (service, revision), self.clock.now()
        with self._guard:
            known = self._known.get(key)
            if known is None or not 0 <= now - known[0] < LOOK_SECONDS:
                known = (now, self._looked(key, since))
                self._known = {one: told for one, told in self._known.items() if one[0] != service} | {key: known}
        return known[1]

    def _looked(self, key: tuple[str, str], since: float) -> Drift:
        service, revision = key
        first = self._first.get(key)
        if first is None:
            first = payload_log.predictions(self.home, service, revision, limit=2 * SAMPLE, since=since)
            if len(first) < 2 * SAMPLE:
                half = len(first) // 2
                return _drift(first[:half], first[half:])
            # They stay the first ones, whatever comes.
            first = first[:SAMPLE]
            self._first = {one: kept for one, kept in self._first.items() if one[0] != service} | {key: first}
        newest = payload_log.predictions(self.home, service, revision, limit=SAMPLE, newest=True)
        return _drift(first, newest)


def _drift(first: list[Predicted], newest: list[Predicted]) -> Drift:
    # numpy, which a server without predictions does not need
    from headrace.quality.drift.psi import judge

    return Drift(
        judge([one.value for one in first], [one.value for one in newest]),
        rfc3339(first[-1].at) if first else "", rfc3339(newest[0].at) if newest else "",
    )  # fmt: skip
