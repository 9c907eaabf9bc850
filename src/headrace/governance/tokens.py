"""Tokens: what a person or a program shows to be let in. The secret is told once; its SHA-256 digest is kept.

A secret has 256 random bits, so that a plain digest hides it (a password would need a slow one).
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import sqlite3
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from headrace.clock import rfc3339
from headrace.errors import AlreadyExistsError, NotFoundError, UsageError
from headrace.governance.rbac import Principal, Role
from headrace.store import events
from headrace.store.database import Database

# So that people, and tools that look for secrets in repositories, know it when they see it.
PREFIX = "headrace_"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")


@dataclass(frozen=True)
class Token:
    """What is known of a token. Times are in unix seconds; None: it does not expire, it was not revoked."""

    id: str
    name: str
    roles: frozenset[Role]
    created_by: str
    created_at: float
    expires_at: float | None
    revoked_at: float | None

    @property
    def principal(self) -> Principal:
        """Whoever shows it."""
        return Principal(f"user:{self.name}", self.roles, signed_in=True)

    def state(self, at: float) -> str:
        """valid, expired or revoked."""
        if self.revoked_at is not None:
            return "revoked"
        return "valid" if self.expires_at is None or at < self.expires_at else "expired"

    def to_dict(self, at: float) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "roles": sorted(self.roles),
            "state": self.state(at),
            "created_by": self.created_by,
            "created_at": rfc3339(self.created_at),
            "expires_at": rfc3339(self.expires_at) if self.expires_at is not None else None,
            "revoked_at": rfc3339(self.revoked_at) if self.revoked_at is not None else None,
        }


def create(
    database: Database, name: str, roles: Collection[Role], *, at: float, actor: str, expires_at: float | None = None
) -> tuple[Token, str]:
    """A new token, and its secret, which is kept nowhere. An expired one of the same name makes room.

    Raises:
        UsageError: no name that the event log could show, no role, or an end that has passed.
        AlreadyExistsError: a valid token has this name.
    """
    if _NAME.fullmatch(name) is None:
        raise UsageError(
            f"{name!r} is no name for a token",
            remedy="Use up to 64 letters, digits and . _ @ + -, beginning with a letter or digit.",
        )
    if not roles:
        raise UsageError("a token needs a role", remedy=f"Give one of {', '.join(Role)}.")
    if expires_at is not None and expires_at <= at:
        raise UsageError("a token cannot expire before it begins", remedy="Give a time to come, as in 90d.")
    secret = PREFIX + secrets.token_urlsafe(32)
    token = Token(secrets.token_hex(4), name, frozenset(roles), actor, at, expires_at, None)
    with database.transaction() as connection:
        _make_room(connection, name, at=at, actor=actor)
        connection.execute(
            "INSERT INTO token (id, name, digest, roles, created_by, created_at, expires_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (token.id, name, digest(secret), json.dumps(sorted(roles)), actor, at, expires_at),
        )
        told = token.to_dict(at)
        events.append(
            connection, at=at, actor=actor, kind="token.created", subject=f"token/{name}",
            data={"id": token.id, "roles": told["roles"], "expires_at": told["expires_at"]},
        )  # fmt: skip
    return token, secret


def revoke(database: Database, name: str, *, at: float, actor: str, reason: str = "") -> Token:
    """End the token of this name, and every session that began with it. Raises NotFoundError."""
    with database.transaction() as connection:
        row = connection.execute("SELECT * FROM token WHERE name = ? AND revoked_at IS NULL", (name,)).fetchone()
        if row is None:
            raise NotFoundError(
                f"no token that could be revoked is called {name}", remedy="`headrace tokens list` shows them."
            )
        _end(connection, row, at=at, actor=actor, reason=reason)
    return _token({**dict(row), "revoked_at": at})


def tokens(database: Database) -> list[Token]:
    """Every token there was, oldest first."""
    return [_token(dict(row)) for row in database.query("SELECT * FROM token ORDER BY created_at, rowid")]


def whose(database: Database, secret: str, at: float) -> Token | None:
    """The valid token with this secret."""
    row = database.one("SELECT * FROM token WHERE digest = ?", (digest(secret),))
    token = _token(dict(row)) if row else None
    return token if token and token.state(at) == "valid" else None


def has_admin(database: Database, at: float) -> bool:
    """Whether anybody could sign in who may everything."""
    return any(Role.ADMIN in token.roles and token.state(at) == "valid" for token in tokens(database))


def digest(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def roles_of(text: str) -> frozenset[Role]:
    """Roles as the table keeps them."""
    return frozenset(Role(role) for role in json.loads(text))


def _make_room(connection: sqlite3.Connection, name: str, *, at: float, actor: str) -> None:
    row = connection.execute("SELECT * FROM token WHERE name = ? AND revoked_at IS NULL", (name,)).fetchone()
    if row is None:
        return
    if _token(dict(row)).state(at) == "valid":
        raise AlreadyExistsError(
            f"{name} has a token already",
            remedy=f"Revoke it first, with `headrace tokens revoke {name}`, or choose another name.",
        )
    _end(connection, row, at=at, actor=actor, reason="expired, and replaced")


def _end(connection: sqlite3.Connection, row: sqlite3.Row, *, at: float, actor: str, reason: str) -> None:
    connection.execute("UPDATE token SET revoked_at = ? WHERE id = ?", (at, row["id"]))
    connection.execute("DELETE FROM session WHERE token_id = ?", (row["id"],))
    events.append(
        connection, at=at, actor=actor, kind="token.revoked", subject=f"token/{row['name']}", reason=reason,
        data={"id": row["id"]},
    )  # fmt: skip


def _token(row: dict[str, Any]) -> Token:
    return Token(
        id=row["id"], name=row["name"], roles=roles_of(row["roles"]), created_by=row["created_by"],
        created_at=row["created_at"], expires_at=row["expires_at"], revoked_at=row["revoked_at"],
    )  # fmt: skip
