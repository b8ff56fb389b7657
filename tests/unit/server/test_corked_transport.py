"""Small writes are joined, and what is written to a connection that has ended is dropped."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
import uvloop

from pgshapes.server.corked_transport import CorkedTransport

LARGE = b"x" * 100_000


async def connected() -> tuple[CorkedTransport, socket.socket]:
    """A transport and the other end."""
    ours, other = socket.socketpair()
    ours.setblocking(False)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, ours)
    return CorkedTransport(transport), other


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("end", ["abort", "close"])
def test_what_is_written_after_the_end_is_dropped(run: Any, end: str) -> None:
    """Also what is waiting when the connection ends without this transport."""
    errors: list[dict[str, Any]] = []

    async def check() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: errors.append(context))
        for is_ended_by_us in (True, False):
            transport, other = await connected()
            with other:
                transport.write(b"waiting")
                getattr(transport if is_ended_by_us else transport._transport, end)()
                await asyncio.sleep(0)
                transport.write(b"late")
                transport.write(LARGE)
                await asyncio.sleep(0.01)
                other.settimeout(10)
                received = other.recv(100)
                assert received == (b"waiting" if is_ended_by_us and end == "close" else b"")

    run(check())
    assert not errors


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_the_order_of_small_and_large_writes(run: Any) -> None:
    async def check() -> None:
        transport, other = await connected()
        with other:
            for data in (b"a", b"b", LARGE, b"c"):
                transport.write(data)
            transport.close()
            reader = asyncio.get_running_loop().run_in_executor(None, lambda: other.makefile("rb").read())
            assert await reader == b"ab" + LARGE + b"c"
            assert transport.written == len(LARGE) + 3

    run(check())
