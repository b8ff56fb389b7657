"""Runs a process of the server in an event loop whose end does not wait for name servers."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import uvloop


def run_in_loop(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` to its end in a new event loop."""
    uvloop.run(work, loop_factory=_Loop)


class _Loop(uvloop.Loop):
    """Looks up names in threads that the process may leave behind.

    A name server that does not answer occupies a thread for up to a minute, and libuv waits for its threads
    before a loop can be closed.
    """

    async def getaddrinfo(self, host: Any, port: Any, **hints: int) -> Any:
        """The addresses of a host, as `socket.getaddrinfo` returns them. Raises OSError."""
        found: asyncio.Future[Any] = self.create_future()

        def look_up() -> None:
            try:
                addresses, error = socket.getaddrinfo(host, port, **hints), None
            except OSError as failure:
                addresses, error = [], failure
            with suppress(RuntimeError):  # the loop is closed
                self.call_soon_threadsafe(_settle, found, addresses, error)

        threading.Thread(target=look_up, name="name look-up", daemon=True).start()
        return await found


def _settle(found: asyncio.Future[Any], addresses: Any, error: OSError | None) -> None:
    if found.done():
        return
    if error is None:
        found.set_result(addresses)
    else:
        found.set_exception(error)
