"""TCP ports: find one, refuse one that is taken."""

from __future__ import annotations

import errno
import socket

from headrace.errors import UsageError


def listen(port: int, option: str, host: str = "127.0.0.1") -> socket.socket:
    """A socket that listens on the port; `option` is what the user would change.

    Raises:
        UsageError: the port is taken, or may not be used; the host is no address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            raise UsageError(
                f"{host} is no address of this machine", where="--host", remedy="Give one of its addresses, or 0.0.0.0."
            ) from error
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
