"""The ASGI application under uvicorn, on a socket that is bound already, with an end that breaks no response.

On stop: the held polls are answered at once, new connections go to others, responses on their way are sent to
the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any, Final

import uvicorn

from pgshapes.server.corked_transport import CorkedHttpProtocol

# Proxies keep idle connections for 60 s; ours must outlive theirs, or they send into a closed one.
_KEEP_ALIVE_S: Final = 75
_DRAIN_S: Final = 15


class HttpServer:
    """One uvicorn server. `stopping` is set when it is told to end, before connections are drained."""

    def __init__(self, app: Callable[..., Any], listener: socket.socket, stopping: asyncio.Event) -> None:
        self._listener = listener
        self._stopping = stopping
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
        self._stopping.set()
        self._server.should_exit = True

    async def run(self) -> None:
        """Serve until stopped."""
        await self._server.serve(sockets=[self._listener])


class _Server(uvicorn.Server):
    def capture_signals(self) -> Any:
        """Signals are the process's business, not the server's."""
        return contextlib.nullcontext()
