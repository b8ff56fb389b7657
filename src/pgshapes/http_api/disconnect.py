"""Cancels a request when its client disconnects.

ASGI servers do not cancel the application then: it has to receive `http.disconnect`. Most requests are
answered without waiting, and listening would cost more than answering them. So the listener starts when a
request waits for the first time. After a disconnect the request is cancelled at its next wait, and its own
`finally` blocks release what it holds, for example its permit.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, MutableMapping
from typing import Any

from pgshapes.waiting.background import begin, holds_nothing

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


async def while_connected(work: Coroutine[Any, Any, None], receive: Receive) -> bool:
    """Run `work`; cancel it when the client disconnects. Returns whether it was completed.

    `work` must not call `receive`.
    """
    try:
        awaited = work.send(None)
    except StopIteration:
        return True
    listener = _Listener(receive)
    try:
        await _run_to_end(work, awaited)
    except asyncio.CancelledError:
        if not listener.is_disconnected:
            raise
        listener.request.uncancel()
        return False
    finally:
        listener.stop()
    return True


class _Listener:
    """Receives until the client disconnects, then cancels the request: the task that created this."""

    __slots__ = ("_receive", "_task", "is_disconnected", "request")

    def __init__(self, receive: Receive) -> None:
        current = asyncio.current_task()
        assert current is not None, "requests run in tasks"
        self.request = current
        self.is_disconnected = False
        self._receive = receive
        self._task = begin(self._listen(), at_end=holds_nothing)

    def stop(self) -> None:
        self._task.cancel()

    async def _listen(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.is_disconnected = True
        self.request.cancel()


@types.coroutine
def _run_to_end(work: Coroutine[Any, Any, None], awaited: Any) -> Generator[Any, Any, None]:
    """Complete a coroutine that is suspended on `awaited`."""
    step: Callable[[Any], Any]
    while True:
        try:
            answer = yield awaited
        except BaseException as error:
            step, argument = work.throw, error
        else:
            step, argument = work.send, answer
        try:
            awaited = step(argument)
        except StopIteration:
            return
