"""Windows of users, for sticky routing, where the coin is tossed once a user and not once a request.

A user who sends bad payloads fails again and again, always on the same arm. Counted by requests, each failure looks
like a coin of its own, and a healthy canary that was dealt a few such users is rolled back. So an event is a user's
first bad window, once a rollout: then each event is the outcome of one coin, and the error rate of the test holds.
Counting a user once a window would toss the same coin in every window.

Whether the next user to turn bad is on the canary is a matter of who can: in each window, those who were seen in it
and were not bad before. These are the risk sets of a log-rank test, and the evidence is that of Grünwald, Ly,
Pérez-Ortiz and Turner, "The Safe Logrank Test" (arXiv 2011.06931), with windows for moments.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field

from headrace.quality.analysis.window import Window


@dataclass(frozen=True, slots=True)
class UserCount:
    """What one user did in one window on one arm: whether that was the canary, and whether anything bad came of it."""

    user: Hashable
    on_canary: bool
    bad: bool


def user_windows(stretches: Iterable[Iterable[UserCount]]) -> Iterator[Window]:
    """A window for each stretch of time of a rollout, from its first on: see `Users.window`."""
    users = Users()
    return (users.window(stretch) for stretch in stretches)


@dataclass
class Users:
    """Who was seen in a rollout so far, on the stable arm and on the canary, and who was bad."""

    seen: tuple[set[Hashable], set[Hashable]] = field(default_factory=lambda: (set(), set()))
    bad: set[Hashable] = field(default_factory=set)

    def window(self, stretch: Iterable[UserCount]) -> Window:
        """The window of the next stretch of time.

        `n` counts a user once for each arm it is seen on, `x` once for the rollout, and `at_risk` in each window in
        which it is seen, until it is bad. A user may change arms between windows, when a weight changes; one that is
        seen on both within a window counts in the next. One that was bad counts no more, on either arm.
        """
        now: tuple[dict[Hashable, bool], dict[Hashable, bool]] = ({}, {})
        for count in stretch:
            if count.user not in self.bad:
                arm = now[count.on_canary]
                arm[count.user] = count.bad or arm.get(count.user, False)
        for user in now[0].keys() & now[1].keys():
            del now[0][user], now[1][user]
        fresh = [len(here.keys() - before) for here, before in zip(now, self.seen, strict=True)]
        for here, before in zip(now, self.seen, strict=True):
            before.update(here)
        turned = [[user for user, is_bad in here.items() if is_bad] for here in now]
        self.bad.update(*turned)
        return Window(
            canary_n=fresh[1],
            canary_x=len(turned[1]),
            stable_n=fresh[0],
            stable_x=len(turned[0]),
            canary_at_risk=len(now[1]),
            stable_at_risk=len(now[0]),
        )
