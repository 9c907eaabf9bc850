"""Sessions of browsers: begun with a token, ended by signing out, by time, or with the token."""

from __future__ import annotations

import contextlib
import secrets

from headrace.errors import StorageError
from headrace.governance import tokens
from headrace.governance.rbac import Principal
from headrace.governance.tokens import Token
from headrace.store import events
from headrace.store.database import Database

IDLE_SECONDS = 12 * 3600.0
LONGEST_SECONDS = 7 * 86400.0
# A session that is used is written down that often; a page a second would be a write a second.
_NOTED_SECONDS = 300.0
_ENDED = "started_at <= ? OR seen_at <= ?"


def begin(database: Database, token: Token, *, at: float) -> str:
    """A new session, and what the browser's cookie holds: 256 random bits, of which the digest is kept."""
    session = secrets.token_urlsafe(32)
    with database.transaction() as connection:
        connection.execute(f"DELETE FROM session WHERE {_ENDED}", _limits(at))
        connection.execute(
            "INSERT INTO session (digest, token_id, started_at, seen_at) VALUES (?, ?, ?, ?)",
            (tokens.digest(session), token.id, at, at),
        )
        events.append(
            connection, at=at, actor=token.principal.name, kind="session.started", subject=f"token/{token.name}",
            data={"id": token.id},
        )  # fmt: skip
    return session


def whose(database: Database, session: str, *, at: float, used: bool) -> Principal | None:
    """Whoever a session is of, when it and its token are valid. `used`: a person has done something, not a timer."""
    row = database.one(
        "SELECT token.name, token.roles, session.seen_at FROM session JOIN token ON token.id = session.token_id"
        f" WHERE session.digest = ? AND NOT ({_ENDED})"
        " AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?)",
        (tokens.digest(session), *_limits(at), at),
    )
    if row is None:
        return None
    if used and at - row["seen_at"] >= _NOTED_SECONDS:
        # A full disk keeps nobody from looking at what is wrong.
        with contextlib.suppress(StorageError), database.transaction() as connection:
            connection.execute("UPDATE session SET seen_at = ? WHERE digest = ?", (at, tokens.digest(session)))
    return Principal(f"user:{row['name']}", tokens.roles_of(row["roles"]), signed_in=True)


def end(database: Database, session: str, *, at: float) -> None:
    """Sign out. Idempotent."""
    with database.transaction() as connection:
        landed = connection.execute(
            "DELETE FROM session WHERE digest = ? RETURNING token_id", (tokens.digest(session),)
        ).fetchone()
        if landed:
            row = connection.execute("SELECT id, name FROM token WHERE id = ?", (landed["token_id"],)).fetchone()
            events.append(
                connection, at=at, actor=f"user:{row['name']}", kind="session.ended", subject=f"token/{row['name']}",
                data={"id": row["id"]},
            )  # fmt: skip


def _limits(at: float) -> tuple[float, float]:
    """Sessions that began, or were used last, by then are over."""
    return at - LONGEST_SECONDS, at - IDLE_SECONDS
