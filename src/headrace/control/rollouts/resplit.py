"""Move the share of a canary that a manifest holds, when the manifest says another one: KServe's canaryTrafficPercent.

A new rollout would start a second server of the same model and begin to count anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from headrace.contracts.rollout import Rollout
from headrace.control.rollouts import rows
from headrace.serving import revisions
from headrace.store.database import Database


def resplit(
    database: Database,
    *,
    service: str,
    model_uri: str,
    settings: Mapping[str, Any],
    percent: int | None,
    actor: str,
    reason: str,
    at: float,
) -> str | None:
    """Give the canary of this very model `percent` of the traffic, or all of it (None), and return its rollout's id.

    None: there is no unfinished rollout to this model with these settings that is held at a share.
    """
    for row in rows.find(database, "service = ? AND state IN ('Progressing', 'Paused')", (service,)):
        target = revisions.get(database, row.to_revision)
        if target.model_uri != model_uri or target.settings != settings or not _held(row.document):
            continue
        document = replace(row.document, steps=()) if percent is None else row.document.held_at(percent)
        with database.transaction() as connection:
            landed = connection.execute(
                "UPDATE rollout SET document = ?, step = 0, step_since = ?, state = 'Progressing', message = '',"
                " paused_by = NULL WHERE id = ? AND step = ? AND state = ?",
                (json.dumps(document.to_dict()), at, row.id, row.step, row.state),
            ).rowcount
            if landed:
                share = 100 if percent is None else percent
                rows.tell(connection, row, "rollout.resplit", at, reason=reason, actor=actor, data={"weight": share})
        if landed:
            return row.id
    return None


def _held(document: Rollout) -> bool:
    return [step.kind for step in document.steps] == ["setWeight", "pause"] and document.steps[1].seconds is None
