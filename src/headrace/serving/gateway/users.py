"""Which user got what: Envoy's access log of sticky routes, read and thrown away a few times a second.

Envoy notes nothing of other routes, and of these only what a verdict needs. Nobody else reads the file, it lives for a
second, and is dropped unread when it has grown too large, as after hours without a controller.
"""

from __future__ import annotations

from pathlib import Path

from headrace.serving.gateway.model import GRPC_ERRORS, UserRequest

# Where Envoy keeps a request's user, and how it is noted: the user comes last, since it may hold any character. An
# Envoy that an earlier Headrace has started does not tell how often a request was tried.
METADATA, KEY, NOBODY = "headrace", "user", "-"
VALUE = f"%DYNAMIC_METADATA({METADATA}:{KEY})%"
FORMAT = (
    "%UPSTREAM_CLUSTER_RAW%\t%RESPONSE_CODE%\t%GRPC_STATUS_NUMBER%\t%DURATION% %UPSTREAM_REQUEST_ATTEMPT_COUNT%"
    f"\t{VALUE}\n"
)
# Where a model server finds the user of a request; NOBODY is none.
HEADER = "x-headrace-user"
MAX_BYTES = 64_000_000


def read(file: Path) -> list[UserRequest]:
    """The requests in a file that Envoy has let go of; it is gone afterwards."""
    try:
        found = [] if file.stat().st_size > MAX_BYTES else _requests(file.read_text("utf-8", errors="replace"))
    except FileNotFoundError:
        return []
    file.unlink(missing_ok=True)
    return found


def _requests(text: str) -> list[UserRequest]:
    found = []
    for line in text.split("\n"):
        parts = line.split("\t", 4)
        if len(parts) < 5:
            continue
        cluster, code, grpc_code, (took, _, tries), user = *parts[:3], parts[3].partition(" "), parts[4]
        revision = cluster.split("/")[2:]
        if revision and took.isdigit():
            failed = grpc_code in GRPC_ERRORS if revision[1:] else code.startswith("5")
            # The first try counts: at a later one, another revision may have answered.
            error = failed or tries not in ("", "0", "1")
            found.append(UserRequest(revision[0], "" if user == NOBODY else user, error, float(took)))
    return found
