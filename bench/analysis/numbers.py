"""Tables that need no simulation: what the product's own bounds ask for, when counts are as expected."""

from __future__ import annotations

from collections.abc import Callable

from bench.analysis.tables import table
from headrace.quality.analysis.sequential import e_value, rate_interval, ratio_interval
from headrace.quality.analysis.window import Window

ALPHA = 0.05
_MANY = 10**6


def tables() -> dict[str, str]:
    """All of them, by the names of their markers."""
    return {
        "numbers-fail": _events_to_fail(),
        "numbers-budget": _requests_for_budget(),
        "numbers-margin": _events_for_margin(),
    }


def _least(enough: Callable[[int], bool], most: int = 10**8) -> int:
    """The least number that is enough, when all above it are, too."""
    low, high = 0, 1
    while not enough(high):
        low, high = high, high * 2
        if high > most:
            raise ValueError(f"not even {most} is enough")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _events_to_fail() -> str:
    """Events on the canary, none on the stable arm, until the e-value is at its limit."""
    lines = []
    for weight in (1, 5, 10, 25, 50):
        cells = []
        for share in (1.0, 0.5, 0.25):
            limit = 1 / (ALPHA * share)

            def failed(events: int, limit: float = limit, weight: int = weight) -> bool:
                return e_value([Window(weight * _MANY, events, (100 - weight) * _MANY, 0)]) >= limit

            cells.append(str(_least(failed)))
        lines.append([f"{weight} %", *cells])
    head = ["weight", "all of alpha, limit 20", "half, limit 40", "a quarter, limit 80"]
    return table(head, lines)


def _requests_for_budget() -> str:
    """Canary requests until the worst excess is at most u, without evidence about the ratio."""
    lines = []
    for worst in (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2):
        cells = []
        for events in (0, 1, 3, 10):

            def within(n: int, events: int = events, worst: float = worst) -> bool:
                return n > events and rate_interval(n, events, ALPHA)[1] <= worst

            cells.append(f"{_least(within):,}")
        lines.append([f"{worst:.1%}", *cells])
    return table(["u = budget × 100 / next weight", "no event", "1 event", "3 events", "10 events"], lines)


def _events_for_margin() -> str:
    """Events, both arms together, until identical arms pass by their ratio."""
    lines = []
    for margin in (1.25, 1.5, 2.0, 3.0):
        cells = []
        for weight in (5, 10, 25, 50):

            def below(twenties: int, margin: float = margin, weight: int = weight) -> bool:
                # Events by twenties, so that each arm has its share exactly.
                canary, stable = twenties * weight // 5, twenties * (100 - weight) // 5
                return (
                    ratio_interval([Window(weight * _MANY, canary, (100 - weight) * _MANY, stable)], ALPHA)[1] < margin
                )

            cells.append(f"{20 * _least(below):,}")
        lines.append([f"{margin:g}", *cells])
    return table(["margin", *(f"weight {weight} %" for weight in (5, 10, 25, 50))], lines)
