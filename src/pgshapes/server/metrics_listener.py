"""The second listener: `/metrics` on a port of its own (http-api §1).

Not for clients, so it is not part of the application: it answers also while that is starting, busy or being
started again. Anything but GET `/metrics` is 404.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

from pgshapes.config import Settings
from pgshapes.metrics.family import Family
from pgshapes.server.listening import listen

Gather = Callable[[], Awaitable[Mapping[str, Sequence[Family] | None]]]
"""The families of each process by its name, None for one that does not answer."""

_HEAD_TIMEOUT_S: Final = 5.0


def listen_for_metrics(settings: Settings) -> socket.socket | None:
    """The bound socket, None when no port is set. Raises ConfigError."""
    if settings.prometheus_port is None:
        return None
    return listen(settings.host, settings.prometheus_port)


@asynccontextmanager
async def metrics_listener(listener: socket.socket, gather: Gather) -> AsyncIterator[None]:
    """Answer on a socket that is bound already, for as long as the block lasts."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_HEAD_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
            writer.write(await _response(head, gather))
            await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            """Whoever does not send a request, or leaves, gets no answer."""
        finally:
            writer.close()

    server = await asyncio.start_server(answer, sock=listener)
    try:
        yield
    finally:
        server.close()


async def _response(head: bytes, gather: Gather) -> bytes:
    words = head.split(b"\r\n", 1)[0].split(b" ")
    with suppress(IndexError):
        if words[0] == b"GET" and words[1].split(b"?")[0] == b"/metrics":
            # Imported late: the library takes a while, and most servers are never asked.
            from pgshapes.metrics.exposition import CONTENT_TYPE, exposition

            return _http(b"200 OK", CONTENT_TYPE, exposition(await gather()))
    return _http(b"404 Not Found", "text/plain", b"Not found")


def _http(status: bytes, content_type: str, body: bytes) -> bytes:
    return (
        b"HTTP/1.1 %b\r\ncontent-type: %b\r\ncontent-length: %d\r\ncache-control: no-store\r\n"
        b"connection: close\r\n\r\n%b" % (status, content_type.encode(), len(body), body)
    )
