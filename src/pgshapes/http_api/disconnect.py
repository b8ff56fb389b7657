"""Ending a request whose client has gone away.

No ASGI server cancels an application when its client leaves: somebody has to listen for `http.disconnect`.
Most requests are answered without ever waiting, and for those listening would cost more than answering. So
the listener starts when the request first has to wait; from then on the request is cancelled at its next wait
when the client goes. Whatever it holds, its permit for one, is released by its own `finally` blocks.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, MutableMapping
from typing import Any

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


async def while_connected(work: Coroutine[Any, Any, None], receive: Receive) -> bool:
    """Run `work`, but not longer than its client stays. Returns whether it ran to its end.

    `receive` must not be called by `work`.
    """
    try:
        waits_for = work.send(None)
    except StopIteration:
        return True
    listener = _Listener(receive)
    try:
        await _go_on(work, waits_for)
    except asyncio.CancelledError:
        if not listener.is_gone:
            raise
        listener.request.uncancel()
        return False
    finally:
        listener.stop()
    return True


class _Listener:
    """Waits for the disconnect of one client and cancels its request, the current task, then."""

    __slots__ = ("_receive", "_task", "is_gone", "request")

    def __init__(self, receive: Receive) -> None:
        current = asyncio.current_task()
        assert current is not None, "requests run in tasks"
        self.request = current
        self.is_gone = False
        self._receive = receive
        self._task = asyncio.create_task(self._listen())

    def stop(self) -> None:
        self._task.cancel()

    async def _listen(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.is_gone = True
        self.request.cancel()


@types.coroutine
def _go_on(work: Coroutine[Any, Any, None], waits_for: Any) -> Generator[Any, Any, None]:
    """Run a coroutine that waits for `waits_for` to its end."""
    step: Callable[[Any], Any]
    while True:
        try:
            answer = yield waits_for
        except BaseException as error:
            step, argument = work.throw, error
        else:
            step, argument = work.send, answer
        try:
            waits_for = step(argument)
        except StopIteration:
            return
