"""A client that costs little: keep-alive connections, one request in flight on each, answers counted and not
parsed.
"""

from __future__ import annotations

import asyncio
from typing import cast
from urllib.parse import urlsplit


class _Connection(asyncio.Protocol):
    def __init__(self, request: bytes, total: list[int], done: asyncio.Future[None]) -> None:
        self._request = request
        self._total = total
        self._done = done
        self._received = b""
        self._expected = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no `asyncio.Transport`.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._expected < 0:
            head, separator, _ = self._received.partition(b"\r\n\r\n")
            if not separator:
                return
            assert head.startswith(b"HTTP/1.1 200"), head
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            self._expected = len(head) + 4 + int(length)
        if len(self._received) >= self._expected:
            self._received, self._expected = self._received[self._expected :], -1
            self._next()

    def _next(self) -> None:
        self._total[0] -= 1
        if self._total[0] > 0:
            self._transport.write(self._request)
        elif not self._done.done():
            self._done.set_result(None)


async def get_many(url: str, requests: int, connections: int) -> float:
    """Seconds for this many GETs of one URL."""
    parts = urlsplit(url)
    host, port = parts.hostname, parts.port
    assert host is not None and port is not None
    request = f"GET {parts.path}?{parts.query} HTTP/1.1\r\nhost: {parts.netloc}\r\n\r\n".encode()
    loop = asyncio.get_running_loop()
    total, done = [requests], loop.create_future()
    started = loop.time()
    made = [
        await loop.create_connection(lambda: _Connection(request, total, done), host, port)
        for _ in range(connections)
    ]
    await done
    seconds = loop.time() - started
    for transport, _ in made:
        transport.close()
    return seconds
