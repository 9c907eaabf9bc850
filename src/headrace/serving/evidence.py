"""What the payload log tells of two revisions: sums of late labels, and how often a shadow's answers differ."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass

from headrace.serving import payload_log
from headrace.serving.gateway.model import SHADOW
from headrace.serving.payload_log import LabelCounts
from headrace.store.database import connect
from headrace.store.home import Home

# A label as a number: JSON's true is 1. Text and lists are none.
_NUMBER = (
    "CASE WHEN json_type(l.value) IN ('true', 'false', 'integer', 'real') THEN json_extract(l.value, '$') + 0.0 END"
)


@dataclass(frozen=True)
class LabelSums:
    """Labels of one revision's predictions that are numbers: how many, how many above 0, their sum, sum of squares."""

    n: int
    positive: int
    total: float
    squares: float


class Evidence:
    """Reads the payload logs of one home."""

    def __init__(self, home: Home) -> None:
        self.home = home

    def label_counts(
        self, service: str, since: float, until: float = math.inf, *, by_user: bool = False
    ) -> Mapping[str, LabelCounts]:  # fmt: skip
        """Labelled and wrong predictions (or users) per revision, of predictions made in [since, until) (unix
        seconds)."""
        count = payload_log.label_counts_by_user if by_user else payload_log.label_counts
        return count(self.home, service, since, until)

    def label_sums(self, service: str, since: float) -> Mapping[str, LabelSums]:
        """Sums of the labels that are numbers or truth values, per revision, of predictions made since then."""
        rows = self._rows(
            service,
            "SELECT revision, count(*) AS n, sum(number > 0) AS positive, sum(number) AS total,"
            f" sum(number * number) AS squares FROM (SELECT p.revision, {_NUMBER} AS number"
            " FROM prediction p JOIN label l ON l.id = p.id WHERE p.at >= ? ORDER BY l.at, l.id)"
            " WHERE number IS NOT NULL GROUP BY revision",
            (since,),
        )
        return {row["revision"]: LabelSums(row["n"], row["positive"], row["total"], row["squares"]) for row in rows}

    def disagreement(self, service: str, stable: str, shadow: str, since: float, tolerance: float) -> tuple[int, int]:
        """Requests that both revisions answered since then, and how many of them differently."""
        rows = self._rows(
            service,
            "SELECT count(*) AS pairs, coalesce(sum(CASE"
            " WHEN json_type(a.output) IN ('integer', 'real') AND json_type(b.output) IN ('integer', 'real')"
            " THEN abs(json_extract(a.output, '$') - json_extract(b.output, '$')) > :tolerance"
            " ELSE a.output != b.output END), 0) AS differing"
            " FROM prediction b JOIN prediction a ON a.id = substr(b.id, 1, length(b.id) - :suffix)"
            " WHERE b.at >= :since AND b.revision = :shadow AND a.revision = :stable",
            {
                "tolerance": tolerance, "suffix": len(SHADOW), "since": since, "shadow": shadow, "stable": stable,
            },
        )  # fmt: skip
        return (rows[0]["pairs"], rows[0]["differing"]) if rows else (0, 0)

    def _rows(self, service: str, sql: str, parameters: tuple[float, ...] | dict[str, object]) -> list[sqlite3.Row]:
        file = payload_log.path(self.home, service)
        if not file.exists():
            return []
        with closing(connect(file)) as connection:
            known = connection.execute("SELECT count(*) FROM sqlite_master WHERE name IN ('prediction', 'label')")
            return connection.execute(sql, parameters).fetchall() if known.fetchone()[0] == 2 else []
