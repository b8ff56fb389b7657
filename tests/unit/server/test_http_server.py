"""A response that cannot be completed closes its connection, and nothing else; a stop closes all of them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pgshapes.http_api.response import ResponseAborted
from pgshapes.server.connections import Connections
from pgshapes.server.http_protocol import HttpProtocol
from pgshapes.server.http_server import HttpServer, listen

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


class Aborting:
    """An application whose responses end early, with this error."""

    error: Exception = ResponseAborted()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        head = [(b"content-length", b"100")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": b"hello", "more_body": True})
        raise self.error

    def stop_holding(self) -> None:
        """As the application does."""


@pytest.mark.parametrize(("error", "lines"), [(ResponseAborted(), 0), (ValueError("a defect"), 2)], ids=repr)
async def test_a_response_that_cannot_be_completed(
    error: Exception, lines: int, caplog: pytest.LogCaptureFixture
) -> None:
    app: Any = Aborting()
    app.error = error
    listener = listen("127.0.0.1", 0)
    server = HttpServer(app, listener, Connections(10))
    serving = asyncio.ensure_future(server.run())
    with caplog.at_level(logging.ERROR, "uvicorn.error"):
        for _ in range(2):
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            writer.write(GET)
            async with asyncio.timeout(10):
                assert (await reader.read()).endswith(b"\r\n\r\nhello"), "it is closed after what was sent"
            writer.close()
    server.stop()
    await serving
    assert [bool(record.exc_info) for record in caplog.records] == [True] * lines


class Holding:
    """An application that answers when it stops, and counts requests."""

    def __init__(self) -> None:
        self.requests = 0
        self.has_request, self._stopping = asyncio.Event(), asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.requests += 1
        self.has_request.set()
        await self._stopping.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"hello"})

    def stop_holding(self) -> None:
        """As the application does."""
        self._stopping.set()


async def test_nothing_but_the_requests_in_progress_is_answered_after_a_stop() -> None:
    """Not even at once: a stream that ends as it begins makes clients of streams change to long polls."""
    app: Any = Holding()
    listener = listen("127.0.0.1", 0)
    server = HttpServer(app, listener, Connections(10))
    serving = asyncio.ensure_future(server.run())
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        idle, idle_writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(GET * 2)
        await app.has_request.wait()
        server.stop()
        late, late_writer = await asyncio.open_connection(*listener.getsockname())
        late_writer.write(GET)
        answered = await reader.read()
        assert answered.count(b"HTTP/1.1 200") == 1
        assert await idle.read() == b""
        await serving
        server.stop()
        with contextlib.suppress(ConnectionError):
            assert await late.read() == b""
    assert app.requests == 1
    for each in (writer, idle_writer, late_writer):
        each.close()


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_connection_that_opens_after_a_stop_is_not_answered(
    run: Callable[[Coroutine[Any, Any, None]], None],
) -> None:
    """It was accepted in the turn of the loop in which the server is stopped."""

    async def stop() -> None:
        app: Any = Holding()
        app.stop_holding()
        listener = listen("127.0.0.1", 0)
        server = HttpServer(app, listener, Connections(10))
        serving = asyncio.ensure_future(server.run())
        while not server._server.servers:
            await asyncio.sleep(0)
        with socket.create_connection(listener.getsockname()) as client:
            client.setblocking(False)
            client.send(GET)
            while not server._server.servers[0]._opening:
                await asyncio.sleep(0)
            server.stop()
            with contextlib.suppress(ConnectionError):
                async with asyncio.timeout(10):
                    assert await asyncio.get_running_loop().sock_recv(client, 100) == b""
        await serving
        assert app.requests == 0

    run(stop())


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_stop_while_a_connection_is_being_opened(
    run: Callable[[Coroutine[Any, Any, None]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is closed as those that are open, and none is accepted after it."""
    asked: list[HttpProtocol] = []

    def shutdown(protocol: HttpProtocol) -> None:
        asked.append(protocol)
        HttpToolsProtocol.shutdown(protocol)

    async def stop() -> None:
        app: Any = Aborting()
        listener = listen("127.0.0.1", 0)
        server = HttpServer(app, listener, Connections(10))._server
        server.config.load()
        server.lifespan = server.config.lifespan_class(server.config)
        await server.startup(sockets=[listener])
        (acceptor,) = server.servers
        with socket.create_connection(listener.getsockname()) as client:
            acceptor._accept()
            assert len(acceptor._opening) == 1
            assert not server.server_state.connections
            with socket.create_connection(listener.getsockname()):
                async with asyncio.timeout(10):
                    await server.shutdown(sockets=[listener])
            client.settimeout(10)
            assert client.recv(100) == b""

    monkeypatch.setattr(HttpProtocol, "shutdown", shutdown)
    run(stop())
    assert len(asked) == 1
