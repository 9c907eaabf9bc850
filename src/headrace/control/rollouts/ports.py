"""What the rollout loop needs of others. Every method is idempotent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from headrace.serving.evidence import LabelSums
from headrace.serving.gateway.model import ArmCounts, Route, UserRequest
from headrace.serving.payload_log import LabelCounts
from headrace.serving.revisions import Revision


class Traffic(Protocol):
    """The data plane. Weights stay in force when nobody calls. Only what users got is told once."""

    def start(self) -> None:
        """See that it runs."""

    def apply(self, routes: Sequence[Route]) -> bool:
        """Put exactly these routes in force; False when that is not confirmed yet."""

    def counts(self) -> Mapping[str, ArmCounts]:
        """Cumulative counts per revision."""

    def user_requests(self) -> Sequence[UserRequest]:
        """What sticky routes have answered since the last time."""

    def epoch(self) -> str:
        """Changes when the counts start from zero."""


class Servers(Protocol):
    """The model servers of revisions."""

    def ensure(self, revision_id: str) -> Revision:
        """See that it runs; tells its state."""

    def stop(self, revision_id: str) -> Revision:
        """Let it finish its requests and end."""

    def running(self) -> Sequence[Revision]:
        """Those whose process lives."""

    def died(self, revision_id: str) -> bool:
        """Whether it was ready and has ended without being asked to; until it is seen to run again."""


class Evidence(Protocol):
    """What the payload log tells. Counts are cumulative; times are in unix seconds."""

    def label_counts(
        self, service: str, since: float, until: float = ..., *, by_user: bool = ...
    ) -> Mapping[str, LabelCounts]:  # fmt: skip
        """Late labels per revision, of predictions made in [since, until); or users, each with its first label."""

    def label_sums(self, service: str, since: float) -> Mapping[str, LabelSums]:
        """Labels that are numbers per revision, of predictions made since then."""

    def disagreement(self, service: str, stable: str, shadow: str, since: float, tolerance: float) -> tuple[int, int]:
        """Requests that both revisions answered since then, and how many of them differently."""


class Registry(Protocol):
    """The model registry that hears how a rollout ended. NotFoundError: it has no such version any more."""

    def promoted(self, model_uri: str) -> None:
        """This model version serves now."""

    def rejected(self, model_uri: str, reason: str) -> None:
        """This model version was rolled back."""
