"""What the gateway is asked for, and what it counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Arm:
    """One revision that can take traffic: the port of its server and its share in percent (0 to 100)."""

    revision_id: str
    port: int
    weight: int


@dataclass(frozen=True)
class Route:
    """How one service's requests are split. Weights add up to 100, or there are no arms."""

    service: str
    namespace: str
    model_name: str
    arms: tuple[Arm, ...]
    timeout_seconds: float


@dataclass(frozen=True)
class ArmCounts:
    """What one revision has answered since Envoy started.

    `errors` are answers with 5xx, connections that failed and timeouts; `buckets` maps an upper edge in milliseconds
    to the number of requests that took at most that long.
    """

    requests: int
    errors: int
    buckets: Mapping[float, int] = field(default_factory=dict)

    def slower_than(self, milliseconds: float) -> int:
        """Requests that took longer than a bucket's edge; for another number, the next edge above it."""
        edges = [edge for edge in sorted(self.buckets) if edge >= milliseconds]
        total = max(self.buckets.values(), default=0)
        return total - self.buckets[edges[0]] if edges else 0
