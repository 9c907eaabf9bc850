"""The registered versions that a form offers: asked for behind the page, which never waits for a registry."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from headrace.catalog.registry import ModelRegistry, cards
from headrace.errors import HeadraceError

AGAIN_SECONDS = 10.0
MOST = 30


@dataclass(frozen=True)
class Choice:
    """A version of a model: its URI, and what tells it from others, as in "champion, auc 0.71"."""

    uri: str
    told: str


class Choices:
    """What the registry said last of a model's versions; any thread may ask."""

    def __init__(self, registry: ModelRegistry) -> None:
        self.registry = registry
        self._guard = threading.Lock()
        self._known: dict[str, list[Choice]] = {}
        self._asked: dict[str, float] = {}

    def of(self, name: str) -> list[Choice]:
        """The newest versions of a model, the newest first; none until the registry has answered once."""
        now = time.monotonic()
        with self._guard:
            if now - self._asked.get(name, -AGAIN_SECONDS) >= AGAIN_SECONDS:
                # It is being asked for as long as it takes: a silent registry gets one question, not one a second.
                self._asked[name] = float("inf")
                threading.Thread(target=self._ask, args=(name,), name="registry", daemon=True).start()
            return self._known.get(name, [])

    def _ask(self, name: str) -> None:
        try:
            found = [_choice(one) for one in cards.versions(self.registry, name)[:MOST]]
            with self._guard:
                self._known[name] = found
        except HeadraceError:
            pass  # what was known stays known
        finally:
            with self._guard:
                self._asked[name] = time.monotonic()


def _choice(card: cards.Card) -> Choice:
    metrics = [f"{name} {value:.4g}" for name, value in sorted(card.metrics.items())[:2]]
    return Choice(card.uri, ", ".join([*card.aliases, *metrics]))
