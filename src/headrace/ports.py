"""TCP ports on 127.0.0.1: find one, refuse one that is taken."""

from __future__ import annotations

import errno
import socket

from headrace.errors import UsageError


def listen(port: int, option: str) -> socket.socket:
    """A socket that listens on the port; `option` is what the user would change.

    Raises:
        UsageError: the port is taken, or may not be used.
    """
    try:
        return socket.create_server(("127.0.0.1", port), backlog=2048)
    except OSError as error:
        in_use = error.errno == errno.EADDRINUSE
        raise UsageError(
            f"port {port} {'is in use' if in_use else f'cannot be used: {error.strerror}'}",
            where=option,
            remedy=f"Choose another with {option}" + (", or stop who listens there." if in_use else "."),
        ) from error


def require_free(port: int, option: str) -> None:
    """Refuse a port that somebody listens on: Envoy itself would share it in silence (SO_REUSEPORT).

    Raises:
        UsageError: the port is taken, or may not be used.
    """
    listen(port, option).close()


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
