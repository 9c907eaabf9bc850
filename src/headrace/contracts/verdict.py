"""What `quality` says about evidence. Inconclusive is one of the answers and never means yes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """The four words that a judge may say."""

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"


@dataclass(frozen=True)
class Verdict:
    """An outcome, a sentence that a person understands, and the JSON evidence that led to it."""

    outcome: Outcome
    summary: str
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The verdict as JSON values: `outcome`, `summary`, `evidence`."""
        return {"outcome": self.outcome.value, "summary": self.summary, "evidence": dict(self.evidence)}
