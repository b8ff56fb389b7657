"""A TCP proxy in front of a Postgres, which can cut, hold up, half-close and refuse connections.

It runs in a thread of its own, so that a busy test delays nothing. All methods may be called from any thread.
State: the loop of that thread owns the links.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Final

_PIECE_BYTES: Final = 65536
_RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing sends RST."""


class Direction(Enum):
    """One of the two halves of a connection."""

    TO_POSTGRES = "to Postgres"
    FROM_POSTGRES = "from Postgres"


class _Link:
    """One connection of a client, and the one to Postgres that belongs to it."""

    def __init__(self, client: asyncio.StreamWriter, postgres: asyncio.StreamWriter) -> None:
        self.ends = {Direction.FROM_POSTGRES: client, Direction.TO_POSTGRES: postgres}
        self.flows = asyncio.Event()
        self.flows.set()
        self.ended: set[Direction] = set()

    def cut(self, *, resets: bool) -> None:
        for writer in self.ends.values():
            if resets:
                found = writer.get_extra_info("socket")
                with contextlib.suppress(OSError):
                    found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                writer.transport.abort()
            else:
                writer.close()

    def end(self, direction: Direction) -> None:
        self.ended.add(direction)
        with contextlib.suppress(OSError, RuntimeError):
            self.ends[direction].write_eof()


class Proxy:
    """Made by `proxy_to`."""

    def __init__(self, port: int) -> None:
        self.port = 0
        """The port of 127.0.0.1 to connect to."""
        self._target = port
        self._loop = asyncio.new_event_loop()
        self._links: set[_Link] = set()
        self._abandoned: set[_Link] = set()
        """Those that nothing is passed on of any more. Kept, as nothing else refers to their tasks."""
        self._delay_s = 0.0
        self._refuses = False
        self._is_ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Listen."""
        self._thread.start()
        self._is_ready.wait()

    def close(self) -> None:
        """Cut all connections and end the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def cut(self, *, resets: bool) -> None:
        """End all connections, with RST or with FIN."""
        self._each(lambda link: link.cut(resets=resets))

    def end(self, direction: Direction) -> None:
        """End one half of all connections: what comes there later is lost; the other half goes on."""
        self._each(lambda link: link.end(direction))

    def hold(self) -> None:
        """Pass on nothing of the present connections, not even their end; new ones work."""
        self._each(lambda link: link.flows.clear())

    def abandon(self) -> None:
        """Pass on nothing of the present connections ever again, and keep them open."""
        self._each(self._abandon)

    def _abandon(self, link: _Link) -> None:
        link.flows.clear()
        self._links.discard(link)
        self._abandoned.add(link)

    def let_flow(self) -> None:
        """Pass on what was held."""
        self._each(lambda link: link.flows.set())

    def delay(self, delay_s: float) -> None:
        """Pass each piece on later by that much."""
        self._delay_s = delay_s

    def refuse(self, *, refuses: bool) -> None:
        """Reset new connections, or accept them again."""
        self._refuses = refuses

    def _each(self, act: Callable[[_Link], None]) -> None:
        def act_on_all() -> None:
            for link in tuple(self._links):
                act(link)

        self._loop.call_soon_threadsafe(act_on_all)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
            self.port = server.sockets[0].getsockname()[1]
            self._is_ready.set()
            self._loop.run_forever()
            server.close()
            self._loop.run_until_complete(self._end_tasks())
        finally:
            self._loop.close()

    async def _end_tasks(self) -> None:
        for link in self._links | self._abandoned:
            link.cut(resets=True)
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        if self._refuses:
            _Link(client, client).cut(resets=True)
            return
        try:
            from_postgres, postgres = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            _Link(client, client).cut(resets=True)
            return
        link = _Link(client, postgres)
        self._links.add(link)
        try:
            await asyncio.gather(
                self._pump(reader, link, Direction.TO_POSTGRES),
                self._pump(from_postgres, link, Direction.FROM_POSTGRES),
            )
        except asyncio.CancelledError:
            """The proxy is closed; asyncio's callback for a client would tell it as an error."""
        finally:
            self._links.discard(link)
            link.cut(resets=False)

    async def _pump(self, reader: asyncio.StreamReader, link: _Link, direction: Direction) -> None:
        writer = link.ends[direction]
        with contextlib.suppress(OSError):
            while data := await reader.read(_PIECE_BYTES):
                await link.flows.wait()
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                if direction not in link.ended:
                    writer.write(data)
                    await writer.drain()
        await link.flows.wait()
        link.end(direction)


@contextlib.contextmanager
def proxy_to(port: int) -> Iterator[Proxy]:
    """A proxy to the Postgres at `port` of 127.0.0.1."""
    proxy = Proxy(port)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.close()
