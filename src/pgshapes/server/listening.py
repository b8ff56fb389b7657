"""The listening socket, bound before anything is started, so that a taken port is told at once."""

from __future__ import annotations

import socket

from pgshapes.errors import ConfigError

# Held polls reconnect in bursts after a deploy; the kernel caps this at net.core.somaxconn.
_BACKLOG = 4096


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ConfigError when the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; choose another with --port or --host"
        ) from error
    listener.setblocking(False)
    return listener
