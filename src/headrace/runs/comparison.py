"""Two runs side by side: what they were given, what came of it, how long it took, and whether it is the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headrace.runs import inspection, queries
from headrace.store.database import Database

_METRICS = ("system.Metrics", "system.Artifact", "system.Model")


@dataclass(frozen=True)
class Pair:
    """One thing of both runs; None where a run has no such thing."""

    name: str
    a: Any
    b: Any

    @property
    def same(self) -> bool:
        return bool(self.a == self.b)


@dataclass(frozen=True)
class Comparison:
    """`tasks` are seconds, or the word "reused"; `artifacts` are digests. The runs are as `run_row_json` gives them."""

    a: dict[str, Any]
    b: dict[str, Any]
    facts: list[Pair]
    parameters: list[Pair]
    metrics: list[Pair]
    tasks: list[Pair]
    artifacts: list[Pair]


def compare(database: Database, a: str, b: str) -> Comparison:
    """Compare two runs by their ids. Raises NotFoundError."""
    rows = [queries.find(database, run_id) for run_id in (a, b)]
    first, second = [*map(queries.run_row_json, rows)]
    kept = [inspection.artifacts(database, row["id"]) for row in rows]
    return Comparison(
        a=first, b=second,
        facts=[
            Pair(word, left[column], right[column])
            for word, column in (("pipeline", "pipeline"), ("commit", "commit_sha"), ("environment", "environment"))
            for left, right in [rows]
        ] + [Pair("code", *(_code(row) for row in rows))],
        parameters=_pairs(*(json.loads(row["parameters"]) for row in rows)),
        metrics=_pairs(*(_metrics(one) for one in kept)),
        tasks=_pairs(*(_seconds(database, row["id"]) for row in rows)),
        artifacts=_pairs(*(_digests(one) for one in kept)),
    )  # fmt: skip


def _pairs(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Pair]:
    return [Pair(name, a.get(name), b.get(name)) for name in dict.fromkeys([*a, *b])]


def _code(row: Mapping[str, Any]) -> str:
    import hashlib

    return hashlib.sha256(str(row["document"]).encode()).hexdigest()[:12]


def _metrics(artifacts: list[inspection.ArtifactRow]) -> dict[str, Any]:
    return {
        f"{one.path} · {name}": value
        for one in artifacts
        if one.type in _METRICS
        for name, value in one.metadata.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _seconds(database: Database, run_id: str) -> dict[str, Any]:
    rows = database.query(
        "SELECT path, state, cached, started_at, finished_at FROM task WHERE run_id = ? ORDER BY created_at, path",
        (run_id,),
    )
    return {str(row["path"]): _took(dict(row)) for row in rows}


def _took(row: Mapping[str, Any]) -> Any:
    if row["cached"]:
        return "reused"
    if row["state"] != "SUCCEEDED" or row["started_at"] is None:
        return str(row["state"]).lower()
    return round(row["finished_at"] - row["started_at"], 3)


def _digests(artifacts: list[inspection.ArtifactRow]) -> dict[str, Any]:
    return {
        f"{one.path} · {one.name}{f' {one.position}' if one.position else ''}": one.digest
        for one in artifacts
        if one.digest
    }
