"""What the `post-receive` hook of a repository calls: `python -m headrace.cli.hook` with the push on stdin."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from headrace.clock import SystemClock
from headrace.control.triggers import push
from headrace.errors import HeadraceError
from headrace.project.wiring import open_database
from headrace.store.home import Home


def main() -> int:
    """Write each pushed ref into the event log; the pusher reads what is printed."""
    repository = Path(os.environ.get("GIT_DIR", ".")).resolve()
    try:
        database = open_database(Home.locate())
        for line in sys.stdin:
            before, after, ref = line.split()
            push.receive(
                database, repository=repository, ref=ref, before=before, after=after,
                actor=f"user:{os.environ.get('USER', 'git')}", at=SystemClock().now(),
            )  # fmt: skip
            print(f"headrace: took {ref} at {after[:8]}", flush=True)
    except HeadraceError as error:
        print(f"headrace: the push was stored, but starts no run: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
