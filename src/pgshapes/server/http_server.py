"""The ASGI application under uvicorn, on a socket that is bound before anything is started.

On stop, held polls are answered at once, new connections go to other processes, and responses in progress are
sent completely. uvicorn writes head and body separately, and every write to a socket is a system call that
costs as much as all of our own work on a small response; so writes of one loop turn are joined into one, and
large ones are sent at once, after what is waiting.
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


# From here on the copy into one piece costs more than the call that it saves.
_LARGE_BYTES: Final = 64 * 1024


class CorkedTransport:
    """A transport that gathers small writes; everything else is the transport's own."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._waiting: list[bytes] = []
        self._call_soon = asyncio.get_running_loop().call_soon

    def write(self, data: bytes) -> None:
        """Write at the end of this turn."""
        if len(data) >= _LARGE_BYTES:
            self._flush()
            self._transport.write(data)
            return
        if not self._waiting:
            self._call_soon(self._flush)
        self._waiting.append(data)

    def close(self) -> None:
        """Write what waits, then close."""
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
    """uvicorn's protocol, on a corked transport."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection over."""
        super().connection_made(CorkedTransport(transport))  # type: ignore[arg-type]


# Proxies keep idle connections for 60 s; ours must outlive theirs, or they send into a closed one.
_KEEP_ALIVE_S: Final = 75
_DRAIN_S: Final = 15


class HttpServer:
    """One uvicorn server for an application that is open."""

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
        """Answer what is held and drain; `run` then returns."""
        self._app.stop_holding()
        self._server.should_exit = True

    async def run(self) -> None:
        """Serve until stopped."""
        await self._server.serve(sockets=[self._listener])


class _Server(uvicorn.Server):
    def capture_signals(self) -> Any:
        """Signals are the process's business, not the server's."""
        return contextlib.nullcontext()
