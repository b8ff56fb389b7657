"""The HTTP protocol of the server with a plain ASGI application, and connections that send raw bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from pgshapes.server.connections import Connections
from pgshapes.server.http_protocol import HttpProtocol

LIMIT_S = 10.0
GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


class App:
    """Counts requests; answers with `body`, after `hold` is set if there is one."""

    def __init__(self) -> None:
        self.begun = 0
        self.ended = 0
        self.at_once = 0
        self.most_at_once = 0
        self.targets: list[str] = []
        self.body = b"hello"
        self.hold: asyncio.Event | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.begun += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.targets.append(scope["path"])
        try:
            if self.hold is not None:
                await self.hold.wait()
            head = [(b"content-length", b"%d" % len(self.body))]
            await send({"type": "http.response.start", "status": 200, "headers": head})
            await send({"type": "http.response.body", "body": self.body})
        finally:
            self.at_once -= 1
            self.ended += 1


class FrontDoor:
    """A listening server in this event loop."""

    def __init__(self, port: int, app: App, state: ServerState, connections: Connections) -> None:
        self.port = port
        self.app = app
        self.state = state
        self.connections = connections
        self._clients: list[RawConnection] = []

    def check(self, after_s: float) -> None:
        """Check all connections as if so much time had passed."""
        now = asyncio.get_running_loop().time() + after_s
        for connection in list(self.state.connections):
            assert isinstance(connection, HttpProtocol)
            connection.check(now)

    def protocols(self) -> list[HttpProtocol]:
        """The server's ends of the open connections."""
        return [each for each in self.state.connections if isinstance(each, HttpProtocol)]

    async def connect(self, **options: Any) -> RawConnection:
        """A new connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, **options)
        self._clients.append(RawConnection(reader, writer))
        return self._clients[-1]

    def close_clients(self) -> None:
        """Close the clients' ends of all connections."""
        for client in self._clients:
            client.close()

    async def until(self, condition: Any) -> None:
        """Wait until something is so."""
        async with asyncio.timeout(LIMIT_S):
            while not condition():
                await asyncio.sleep(0.001)


class RawConnection:
    """A connection of a client that sends what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        """Send bytes, without waiting."""
        self.writer.write(data)

    async def answer(self) -> tuple[int, bytes]:
        """Status and body of the next answer; status 0 if the connection is closed instead."""
        async with asyncio.timeout(LIMIT_S):
            try:
                head = await self.reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError):
                return 0, b""
            lines = head.lower().split(b"\r\n")
            size = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length"))
            return int(head.split()[1]), await self.reader.readexactly(size)

    async def is_closed(self) -> bool:
        """Read to the end; whether nothing more came."""
        async with asyncio.timeout(LIMIT_S):
            try:
                return not await self.reader.read()
            except ConnectionError:
                return True

    def close(self) -> None:
        """Close it."""
        self.writer.close()


@asynccontextmanager
async def front_door(
    app: App | None = None, *, limit: int = 100, trusts: bool = True
) -> AsyncIterator[FrontDoor]:
    """A server; `trusts` is whether its clients come from a trusted proxy."""
    app = app or App()
    connections, state = Connections(limit), ServerState()
    config = uvicorn.Config(
        app, ws="none", lifespan="off", interface="asgi3", log_config=None, access_log=False
    )
    config.load()

    def client_key(address: str) -> str | None:
        return None if trusts else address

    make = partial(HttpProtocol, connections, client_key, config=config, server_state=state, app_state={})
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: make(_loop=loop), "127.0.0.1", 0)
    try:
        door = FrontDoor(server.sockets[0].getsockname()[1], app, state, connections)
        yield door
    finally:
        door.close_clients()
        server.close()
        for connection in list(state.connections):
            connection.transport.abort()
        for task in list(state.tasks):
            task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
