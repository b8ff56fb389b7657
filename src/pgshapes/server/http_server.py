"""Runs the ASGI application with uvicorn, on a socket that is bound before anything else starts.

On stop, held polls are answered at once, other processes accept new connections, and responses in progress
are completed. Nothing else is answered, not even on a connection that is open: until uvicorn notices a stop,
clients of event streams would get one after another that ends at once, and change to long polls for good.

What this relies on in uvicorn (`tests/unit/server/test_uvicorn.py`): `startup(sockets=[])` does not listen
and leaves `servers` empty. `shutdown` calls `close()` of all `servers`, closes the sockets, calls
`shutdown()` of the connections that are open then, and of none later, and awaits `wait_closed()` of all
`servers` when these are closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import uvicorn

from pgshapes.errors import ConfigError
from pgshapes.http_api.response import ResponseAborted
from pgshapes.server.acceptor import Acceptor
from pgshapes.server.application import Application
from pgshapes.server.connections import Connections
from pgshapes.server.http_protocol import HttpProtocol
from pgshapes.waiting.background import begin, holds_nothing
from pgshapes.waiting.keep_running import keep_running

# Clients with held polls reconnect at the same time after a deployment. The kernel limits this to
# net.core.somaxconn.
_BACKLOG = 4096


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ConfigError when the address cannot be bound."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio sets TCP_NODELAY; uvloop always does.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
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


# Longer than the 60 s for which proxies keep idle connections: otherwise they send requests on a connection
# that the server has closed.
_KEEP_ALIVE_S: Final = 75
_DRAIN_S: Final = 15
_CANCELLED_S: Final = 2.0
"""How long requests that were cancelled after that may take to end."""
_CHECK_INTERVAL_S: Final = 2.0
"""How often all connections are checked: 10,000 of them take some 5 ms."""


class HttpServer:
    """A uvicorn server for an application whose lifespan is open."""

    def __init__(
        self,
        app: Application,
        listener: socket.socket,
        connections: Connections,
        client_key: Callable[[str], str | None] = lambda address: address,
    ) -> None:
        """`client_key` says for whom a connection from an address counts; None: for nobody."""
        self._app = app
        self._listener = listener
        self._connections = connections
        self._server = _Server(
            uvicorn.Config(
                app,
                http=partial(HttpProtocol, connections, client_key),  # type: ignore[arg-type]
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
        """Answer held requests, complete responses in progress, and let `run` return. May be repeated."""
        if self._server.should_exit:
            return
        self._server.should_exit = True
        self._connections.is_stopping = True
        try:
            self._server.refuse_requests()
        finally:
            self._app.stop_holding()

    async def run(self) -> None:
        """Serve until stopped."""
        logging.getLogger("uvicorn.error").addFilter(_LEAVE_OUT_ABORTED)
        checking = keep_running("checking connections", self._check_connections)
        checks = begin(checking, at_end=holds_nothing)
        try:
            await self._server.serve(sockets=[self._listener])
        finally:
            checks.cancel()

    async def _check_connections(self) -> None:
        """Close connections that take too long, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_CHECK_INTERVAL_S)
            for connection in list(self._server.server_state.connections):
                assert isinstance(connection, HttpProtocol)
                connection.check(loop.time())


class _LeaveOutAborted(logging.Filter):
    """uvicorn closes the connection as it should, and writes the traceback of what it takes for a defect."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], ResponseAborted))


_LEAVE_OUT_ABORTED: Final = _LeaveOutAborted()
"""One object, so that it is added once."""


class _Server(uvicorn.Server):
    servers: list[Acceptor]  # type: ignore[assignment]

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.servers = []

    def refuse_requests(self) -> None:
        """Accept no connection, and close each one that is open after the response in progress."""
        for acceptor in self.servers:
            acceptor.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start as uvicorn does, and accept connections from the sockets ourselves."""
        await super().startup(sockets=[])
        self.servers = [Acceptor(listener, self._protocol) for listener in sockets or ()]
        for acceptor in self.servers:
            acceptor.start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop as uvicorn does, after all connections that were accepted are open.

        uvicorn asks those that are open to close, and also waits for those that are opened later.
        """
        for acceptor in self.servers:
            acceptor.close()
        for acceptor in self.servers:
            await acceptor.wait_closed()
        await super().shutdown(sockets)
        if self.server_state.tasks:  # cancelled; they use what is closed next
            await asyncio.wait(self.server_state.tasks, timeout=_CANCELLED_S)

    def _protocol(self) -> asyncio.Protocol:
        given = {"config": self.config, "server_state": self.server_state, "app_state": self.lifespan.state}
        return self.config.http_protocol_class(**given)

    def capture_signals(self) -> Any:
        """Do nothing: the process installs its own signal handlers."""
        return contextlib.nullcontext()
