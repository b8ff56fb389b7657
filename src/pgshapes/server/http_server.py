"""Runs the ASGI application with uvicorn, on a socket that is bound before anything else starts.

On stop, held polls are answered at once, other processes accept new connections, and responses in progress
are completed. uvicorn writes head and body separately, and each write is a system call that costs as much as
all other work on a small response. So writes of one turn of the event loop are joined into one; large ones
are sent immediately, after those that are waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pgshapes.errors import ConfigError
from pgshapes.server.application import Application

# Clients with held polls reconnect at the same time after a deployment. The kernel limits this to
# net.core.somaxconn.
_BACKLOG = 4096


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ConfigError when the address cannot be bound."""
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


# From this size on, joining costs more than the system call that it saves.
_LARGE_BYTES: Final = 64 * 1024


class CorkedTransport:
    """A transport that joins small writes; everything else is passed to the wrapped transport."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._waiting: list[bytes] = []
        self._call_soon = asyncio.get_running_loop().call_soon

    def write(self, data: bytes) -> None:
        """Write at the end of this turn of the event loop; large data immediately."""
        if len(data) >= _LARGE_BYTES:
            self._flush()
            self._transport.write(data)
            return
        if not self._waiting:
            self._call_soon(self._flush)
        self._waiting.append(data)

    def close(self) -> None:
        """Write what is waiting, then close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        waiting = self._waiting
        if waiting:
            self._waiting = []
            self._transport.write(waiting[0] if len(waiting) == 1 else b"".join(waiting))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class CorkedHttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol on a corked transport."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wrap the transport and start the protocol."""
        super().connection_made(CorkedTransport(transport))  # type: ignore[arg-type]


# Longer than the 60 s for which proxies keep idle connections: otherwise they send requests on a connection
# that the server has closed.
_KEEP_ALIVE_S: Final = 75
_DRAIN_S: Final = 15


class HttpServer:
    """A uvicorn server for an application whose lifespan is open."""

    def __init__(self, app: Application, listener: socket.socket) -> None:
        self._app = app
        self._listener = listener
        self._server = _Server(
            uvicorn.Config(
                app,
                http=CorkedHttpProtocol,
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=_DRAIN_S,
            )
        )

    def stop(self) -> None:
        """Answer held requests, complete responses in progress, and let `run` return."""
        self._app.stop_holding()
        self._server.should_exit = True

    async def run(self) -> None:
        """Serve until stopped."""
        await self._server.serve(sockets=[self._listener])


class _Server(uvicorn.Server):
    def capture_signals(self) -> Any:
        """Do nothing: the process installs its own signal handlers."""
        return contextlib.nullcontext()
