"""Waiting connections are accepted many at a time; a shortage of descriptors ends nothing, nor does a
connection that cannot be opened.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import math
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import ExitStack
from typing import Any

import pytest
import uvloop
from structlog.testing import capture_logs

from pgshapes.server import acceptor
from pgshapes.server.acceptor import ACCEPTED_AT_ONCE, Acceptor
from pgshapes.server.http_server import listen

WAITING = 3 * ACCEPTED_AT_ONCE


class Greeter(asyncio.Protocol):
    """Counts the open connections, greets each and closes it."""

    opened = 0

    def connection_made(self, transport: Any) -> None:
        type(self).opened += 1
        has_no_delay = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        transport.write(b"hello" if has_no_delay else b"slow")
        transport.close()


@pytest.fixture
async def listener() -> AsyncIterator[socket.socket]:
    Greeter.opened = 0
    with listen("127.0.0.1", 0) as found:
        yield found


def test_many_are_accepted_in_a_turn() -> None:
    async def run() -> None:
        Greeter.opened, loop = 0, asyncio.get_running_loop()
        with ExitStack() as stack:
            listener = stack.enter_context(listen("127.0.0.1", 0))
            address = listener.getsockname()
            clients = [stack.enter_context(socket.create_connection(address)) for _ in range(WAITING)]
            accepting = Acceptor(listener, Greeter)
            accepting.start()
            turns = 0
            while Greeter.opened < WAITING and turns < WAITING:
                await asyncio.sleep(0)
                turns += 1
            # Each turn that finds some takes as many as it may; each connection is opened in a few more.
            assert turns < math.ceil(WAITING / ACCEPTED_AT_ONCE) + 20
            for client in clients:
                client.settimeout(30)
                assert await loop.run_in_executor(None, client.recv, 100) == b"hello"
            accepting.close()
            await accepting.wait_closed()

    uvloop.run(run())


async def greeting(address: tuple[str, int]) -> bytes:
    reader, writer = await asyncio.open_connection(*address)
    try:
        async with asyncio.timeout(30):
            return await reader.read()
    finally:
        writer.close()


async def test_accepting_goes_on_after_a_shortage(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptor, "_PAUSE_S", 0.01)
    errors = [errno.EMFILE, errno.ENOBUFS, errno.ECONNABORTED, errno.EPROTO]

    class Scarce:
        """The listener, after some errors."""

        def fileno(self) -> int:
            return listener.fileno()

        def setblocking(self, flag: bool) -> None:
            listener.setblocking(flag)

        def accept(self) -> tuple[socket.socket, object]:
            if errors:
                raise OSError(errors.pop(0), "short")
            return listener.accept()

    accepting = Acceptor(Scarce(), Greeter)  # type: ignore[arg-type]
    accepting.start()
    assert await greeting(listener.getsockname()) == b"hello"
    assert not errors
    accepting.close()
    await accepting.wait_closed()


async def test_nothing_is_accepted_after_the_end(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptor, "_PAUSE_S", 0.01)
    accepting = Acceptor(listener, Greeter)
    accepting.start()
    assert await greeting(listener.getsockname()) == b"hello"
    accepting._pause_after(OSError(errno.EMFILE, "short"))
    accepting.close()
    with socket.create_connection(listener.getsockname()):
        await asyncio.sleep(0.05)
    assert Greeter.opened == 1


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_connections_that_cannot_be_opened(run: Callable[[Coroutine[Any, Any, None]], None]) -> None:
    """They are closed, the reason is logged once for all of them, and others are accepted as before."""
    failing = 3
    unretrieved: list[dict[str, Any]] = []

    def make() -> asyncio.Protocol:
        nonlocal failing
        if failing:
            failing -= 1
            raise ValueError("a defect")
        return Greeter()

    async def accept_all() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unretrieved.append(context))
        with listen("127.0.0.1", 0) as listener:
            accepting = Acceptor(listener, make)
            accepting.start()
            for _ in range(3):
                assert await greeting(listener.getsockname()) == b""
            assert await greeting(listener.getsockname()) == b"hello"
            accepting.close()
            await accepting.wait_closed()
        gc.collect()  # an error that was not retrieved is reported when its task is freed

    with capture_logs() as lines:
        run(accept_all())
    assert not unretrieved
    (line,) = lines
    assert (line["event"], line["error"]) == (
        "connection cannot be opened; it is closed",
        "ValueError('a defect')",
    )
    assert isinstance(line["exc_info"], ValueError)


async def test_a_connection_whose_opening_is_cancelled(listener: socket.socket) -> None:
    with capture_logs() as lines, socket.create_connection(listener.getsockname()) as client:
        accepting = Acceptor(listener, Greeter)
        accepting._accept()
        (opening,) = accepting._opening
        opening.cancel()
        await accepting.wait_closed()
        client.settimeout(30)
        assert client.recv(100) == b""
    assert not accepting._opening
    assert not lines


async def test_accepting_does_not_block(listener: socket.socket) -> None:
    """A listener that was made by others may be blocking."""
    listener.setblocking(True)
    accepting = Acceptor(listener, Greeter)
    accepting.start()
    assert not listener.getblocking()
    accepting.close()
