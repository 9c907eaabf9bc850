"""What the `post-receive` hook of a repository calls: `python -m headrace.cli.hook` with the push on stdin.

It writes to the state itself, so it needs no sign-in. HEADRACE_TOKEN, where it is set, says who pushes; without it that
is the account that the push runs as.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from headrace.clock import SystemClock
from headrace.control.triggers import push
from headrace.errors import ForbiddenError, HeadraceError, UnauthenticatedError
from headrace.governance import tokens
from headrace.governance.rbac import Role
from headrace.project.wiring import open_database
from headrace.store.database import Database
from headrace.store.home import Home


def main() -> int:
    """Write each pushed ref into the event log; the pusher reads what is printed."""
    repository = Path(os.environ.get("GIT_DIR", ".")).resolve()
    try:
        database = open_database(Home.locate())
        now = SystemClock().now()
        actor = _pusher(database, now)
        for line in sys.stdin:
            before, after, ref = line.split()
            push.receive(
                database, repository=repository, ref=ref, before=before, after=after,
                actor=actor, at=now,
            )  # fmt: skip
            print(f"headrace: took {ref} at {after[:8]}", flush=True)
    except HeadraceError as error:
        print(f"headrace: the push was stored, but starts no run: {error}", file=sys.stderr)
        return 1
    return 0


def _pusher(database: Database, at: float) -> str:
    """Whoever pushes. Raises UnauthenticatedError, ForbiddenError for a token that may not start runs."""
    secret = os.environ.get("HEADRACE_TOKEN", "")
    if not secret:
        return f"user:{os.environ.get('USER', 'git')}"
    token = tokens.whose(database, secret, at)
    if token is None:
        raise UnauthenticatedError(
            "HEADRACE_TOKEN is unknown, expired or revoked",
            remedy="Set it to a valid token, or not at all; push again.",
        )
    if not token.principal.may(Role.OPERATOR):
        raise ForbiddenError(
            f"{token.principal.name} may not start runs", where="HEADRACE_TOKEN", remedy="It takes the role operator."
        )
    return token.principal.name


if __name__ == "__main__":
    sys.exit(main())
