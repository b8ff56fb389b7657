"""Connections that want to harm a server: what arrives before a request is known, and requests that cost much
more than they send. Each kind goes on until it is cancelled; connections that are closed are opened again.

Not here: who measures what they do (`bench/hostile.py`, `tests/system/test_hostile.py`).
"""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, NamedTuple

_BLOCK: Final = 64 * 1024
_COLUMNS: Final = 900_000
_NUMBERS = itertools.count()


class Target(NamedTuple):
    """A server and what can be read from it."""

    port: int
    secret: str
    log_query: str
    """A query without an offset, of a shape with a log of some megabytes."""
    offsets: tuple[str, ...]
    """Offsets in that log."""


class Line:
    """One connection."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        self._loop = loop
        self.sock = sock

    async def send(self, data: bytes) -> None:
        """Send all of it."""
        await self._loop.sock_sendall(self.sock, data)

    async def read(self, size: int = 65_536) -> bytes:
        """Read some. Raises ConnectionError at the end."""
        data = await self._loop.sock_recv(self.sock, size)
        if not data:
            raise ConnectionResetError
        return data


@asynccontextmanager
async def line(target: Target, *, receive_buffer: int | None = None) -> AsyncIterator[Line]:
    """A new connection."""
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setblocking(False)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await loop.sock_connect(sock, ("127.0.0.1", target.port))
        yield Line(loop, sock)


async def _endless(target: Target, start: bytes, more: bytes) -> None:
    async with line(target) as one:
        await one.send(start)
        while True:
            await one.send(more)


async def endless_value(target: Target) -> None:
    """One header whose value does not end."""
    await _endless(target, b"GET / HTTP/1.1\r\nx: ", b"a" * _BLOCK)


async def many_headers(target: Target) -> None:
    """Small headers that do not end."""
    await _endless(target, b"GET / HTTP/1.1\r\n", b"x00001: a\r\n" * 5_000)


async def endless_target(target: Target) -> None:
    """A URL that does not end."""
    await _endless(target, b"GET /", b"a" * _BLOCK)


async def pipelining(target: Target) -> None:
    """Requests one after another, whose answers are not read."""
    request = b"GET /v1/health HTTP/1.1\r\n\r\n"
    await _endless(target, request, request * 2_000)


async def slow_loris(target: Target) -> None:
    """A head that comes a byte at a time."""
    async with line(target) as one:
        await one.send(b"GET / HTTP/1.1\r\nx: ")
        while True:
            await one.send(b"a")
            await asyncio.sleep(0.2)


async def silent(target: Target) -> None:
    """A connection that sends nothing."""
    async with line(target) as one:
        await one.read()


async def slow_reader(target: Target) -> None:
    """Reads a large piece of a log byte by byte; each from another offset."""
    offset = target.offsets[next(_NUMBERS) % len(target.offsets)]
    path = f"/v1/shape?{target.log_query}&offset={offset}&secret={target.secret}"
    async with line(target, receive_buffer=4096) as one:
        await one.send(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        while True:
            await one.read(1)
            await asyncio.sleep(0.5)


async def missing_body(target: Target) -> None:
    """A POST whose body does not come."""
    async with line(target) as one:
        path = f"/v1/shape?table=hostile&offset=-1&secret={target.secret}"
        await one.send(f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n".encode())
        await one.read()


def _post(target: Target, body: bytes) -> bytes:
    start = f"POST /v1/shape?secret={target.secret} HTTP/1.1\r\nhost: x\r\n"
    return f"{start}content-length: {len(body)}\r\n\r\n".encode() + body


async def million_columns(target: Target) -> None:
    """A POST with as many columns as fit into a body."""
    body = json.dumps({"table": "log", "offset": "-1", "columns": ["id"] * _COLUMNS}).encode()
    async with line(target) as one:
        while True:
            await one.send(_post(target, body))
            await one.read()


async def different_columns(target: Target) -> None:
    """POSTs with many different columns, each for another clause."""
    names = [f"c{number}" for number in range(200_000)]
    async with line(target) as one:
        while True:
            clause = f"id = {next(_NUMBERS)}"
            body = json.dumps({"table": "log", "offset": "-1", "columns": names, "where": clause}).encode()
            await one.send(_post(target, body))
            await one.read()


async def garbage(target: Target) -> None:
    """Bytes that are no HTTP."""
    async with line(target) as one:
        await one.send(b"\x16\x03\x01" + b"\0" * 500)
        while True:
            await one.read()


Kind = Callable[[Target], Awaitable[None]]
KINDS: Final[dict[str, Kind]] = {
    kind.__name__.replace("_", " "): kind
    for kind in (
        endless_value,
        many_headers,
        endless_target,
        pipelining,
        slow_loris,
        silent,
        slow_reader,
        missing_body,
        million_columns,
        different_columns,
        garbage,
    )
}


async def _again_and_again(kind: Kind, target: Target) -> None:
    while True:
        with suppress(OSError):
            await kind(target)
        await asyncio.sleep(0.01)


@asynccontextmanager
async def at_work(kind: Kind, target: Target, connections: int) -> AsyncIterator[None]:
    """Connections of a kind during the block."""
    work: list[Coroutine[Any, Any, None]] = [_again_and_again(kind, target) for _ in range(connections)]
    tasks = [asyncio.create_task(each) for each in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
