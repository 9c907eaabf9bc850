"""What the gateway is asked for, and what it counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from headrace.contracts.rollout import Match, Sticky

STABLE, CANARY = "stable", "canary"
# Counts of mirrored requests stand under REVISION + SHADOW, and a mirrored request's id ends with it.
SHADOW = "/shadow"
# gRPC's codes for an HTTP 5xx: UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS.
# Source: https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto
GRPC_ERRORS = ("2", "4", "12", "13", "14", "15")


@dataclass(frozen=True)
class Arm:
    """One revision that can take traffic: the ports of its server and its share in percent (0 to 100).

    `name` is what requests and answers are told in `x-headrace-arm`: `stable` or `canary`. `fallback` answers the
    requests that this revision's server does not take because nobody listens any more.
    """

    revision_id: str
    port: int
    weight: int
    grpc_port: int | None = None
    name: str = STABLE
    fallback: Arm | None = None


@dataclass(frozen=True)
class Mirror:
    """`percent` of the requests also go to `arm`, whose answers nobody waits for."""

    arm: Arm
    percent: int


@dataclass(frozen=True)
class Route:
    """How one service's requests are split. Weights add up to 100, or there are no arms.

    Requests that one of `matches` fits go to the canary, whatever the weights. `preview` is an arm that answers at a
    host name and a header of its own.
    """

    service: str
    namespace: str
    model_name: str
    arms: tuple[Arm, ...]
    timeout_seconds: float
    sticky: Sticky | None = None
    matches: tuple[Match, ...] = ()
    preview: Arm | None = None
    mirror: Mirror | None = None


@dataclass(frozen=True)
class UserRequest:
    """One answered request of a sticky route. `user` is what it was placed by; "" for one that was placed at random."""

    revision_id: str
    user: str
    error: bool
    milliseconds: float


@dataclass(frozen=True)
class ArmCounts:
    """What one revision has answered since Envoy started.

    `errors` are answers with 5xx (gRPC: the codes that stand for one), connections that failed, also where the request
    was answered at a later try or by another revision, and timeouts;
    `buckets` maps an upper edge in milliseconds to the number of requests that took at most that long.
    """

    requests: int
    errors: int
    buckets: Mapping[float, int] = field(default_factory=dict)

    def slower_than(self, milliseconds: float) -> int:
        """Requests that took longer than a bucket's edge; for another number, the next edge above it."""
        edges = [edge for edge in sorted(self.buckets) if edge >= milliseconds]
        total = max(self.buckets.values(), default=0)
        return total - self.buckets[edges[0]] if edges else 0
