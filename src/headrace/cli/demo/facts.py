"""What the demo has seen, as plain data: what the report is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from headrace.cli.demo.replay import Sent


@dataclass(frozen=True)
class Check:
    """Something that has to hold, and what was seen."""

    act: str
    what: str
    held: bool
    seen: str


@dataclass(frozen=True)
class Run:
    """One run. Durations are in seconds."""

    act: str
    run_id: str
    reason: str
    state: str
    seconds: float
    tasks: int
    cached: int
    outcome: str


@dataclass(frozen=True)
class RolloutFact:
    """One rollout as the API tells it, with its windows and weights: [unix seconds, percent]."""

    act: str
    told: Mapping[str, Any]
    windows: Sequence[Mapping[str, Any]]
    weights: Sequence[tuple[float, int]]

    @property
    def started(self) -> float:
        return seconds_of(self.told["created_at"])

    @property
    def finished(self) -> float:
        return seconds_of(self.told["finished_at"])

    @property
    def exposed(self) -> float:
        """Seconds from the first live request that could reach the new revision to the end of the rollout."""
        first = next((at for at, weight in self.weights if weight > 0), self.finished)
        return self.finished - first


@dataclass(frozen=True)
class Report:
    """Everything, for the terminal, the page and `--json`. Times are in unix seconds."""

    started: float
    finished: float
    install_seconds: float | None
    machine: str
    versions: Mapping[str, str]
    checks: Sequence[Check]
    runs: Sequence[Run]
    rollouts: Sequence[RolloutFact]
    sent: Sequence[Sent]
    labels: int
    models: Sequence[Mapping[str, Any]]
    serving: Mapping[str, Any]
    problem: str = ""
    validation: str = ""
    acts: Sequence[tuple[float, str]] = field(default_factory=tuple)

    @property
    def held(self) -> bool:
        """Whether all of it was seen to happen."""
        return not self.problem and bool(self.checks) and all(check.held for check in self.checks)

    @property
    def failed(self) -> int:
        return sum(one.failed for one in self.sent)

    def to_dict(self) -> dict[str, Any]:
        return {
            "held": self.held,
            "problem": self.problem,
            "seconds": round(self.finished - self.started, 1),
            "install_seconds": self.install_seconds,
            "machine": self.machine,
            "versions": dict(self.versions),
            "checks": [asdict(check) for check in self.checks],
            "runs": [asdict(run) for run in self.runs],
            "rollouts": [
                {"act": one.act, **one.told, "weights": list(one.weights), "seconds_of_traffic": round(one.exposed, 1)}
                for one in self.rollouts
            ],
            "requests": {"sent": len(self.sent), "failed": self.failed, "labels": self.labels},
            "models": list(self.models),
            "serving": dict(self.serving),
        }


def seconds_of(moment: str) -> float:
    """An RFC 3339 time in unix seconds."""
    return datetime.fromisoformat(moment).timestamp()


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the values lie (nearest rank); 0 for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
