"""Ask for a rollout: a new revision and the move to it, in one transaction."""

from __future__ import annotations

import json
import secrets
import sqlite3
from dataclasses import dataclass

from headrace.contracts.inference_service import InferenceService
from headrace.contracts.rollout import Rollout
from headrace.control.rollouts import rows
from headrace.serving import revisions
from headrace.store import events
from headrace.store.database import Database


@dataclass(frozen=True)
class Model:
    """A model that is ready to be loaded: its registry name or path, and the local folder that holds it."""

    uri: str
    path: str


def request(
    database: Database,
    *,
    service: InferenceService,
    rollout: Rollout,
    model: Model,
    key: str,
    actor: str,
    reason: str,
    at: float,
) -> str:
    """Start a rollout and return its id; the same `key` again returns the first one.

    An unfinished rollout of the service is aborted: what is asked for last is what is wanted. A share that the manifest
    holds (`canary_percent`) goes before the steps of the rollout document.
    """
    if service.canary_percent is not None:
        rollout = rollout.held_at(service.canary_percent)
    with database.transaction() as connection:
        known = connection.execute("SELECT id FROM rollout WHERE request_key = ?", (key,)).fetchone()
        if known:
            return str(known["id"])
        connection.execute(
            "INSERT INTO service (name, namespace, updated_at) VALUES (?, ?, ?)"
            " ON CONFLICT (name) DO UPDATE SET namespace = excluded.namespace",
            (service.name, service.namespace, at),
        )
        revision = revisions.create(
            connection, service=service.name, namespace=service.namespace, model_uri=model.uri,
            model_path=model.path, settings=service.settings(), at=at,
        )  # fmt: skip
        return insert(
            connection, service=service.name, rollout=rollout, to_revision=revision, key=key, actor=actor,
            reason=reason, at=at, data={"model": model.uri},
        )  # fmt: skip


def insert(
    connection: sqlite3.Connection,
    *,
    service: str,
    rollout: Rollout,
    to_revision: str,
    key: str,
    actor: str,
    reason: str,
    at: float,
    data: dict[str, str],
) -> str:
    """Write the rollout's row inside the caller's transaction, and abort the one that it replaces."""
    rollout_id = f"{service}-{secrets.token_hex(3)}"
    unfinished = "SELECT * FROM rollout WHERE service = ? AND state IN ('Progressing', 'Paused')"
    for row in connection.execute(unfinished, (service,)).fetchall():
        replaced = rows.from_row(row)
        rows.finish_within(connection, replaced, "Aborted", at=at, message=f"replaced by {rollout_id}", actor=actor)
    stable = connection.execute("SELECT stable FROM service WHERE name = ?", (service,)).fetchone()["stable"]
    connection.execute(
        "INSERT INTO rollout (id, service, request_key, document, from_revision, to_revision, state, step_since,"
        " actor, reason, created_at) VALUES (?, ?, ?, ?, ?, ?, 'Progressing', ?, ?, ?, ?)",
        (rollout_id, service, key, json.dumps(rollout.to_dict()), stable, to_revision, at, actor, reason, at),
    )
    events.append(
        connection, at=at, actor=actor, kind="rollout.started", subject=f"rollout/{rollout_id}", reason=reason,
        data={"service": service, "from": stable, "revision": to_revision, **data},
    )  # fmt: skip
    return rollout_id
