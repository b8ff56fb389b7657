"""Ending a request whose client has gone away.

No ASGI server cancels an application when its client leaves: somebody has to listen for `http.disconnect`.
Most requests are answered without ever waiting, and for those listening would cost more than answering. So
the listener starts when the request first has to wait; from then on the request is cancelled at its next wait
when the client goes. Whatever it holds, its permit for one, is released by its own `finally` blocks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator, MutableMapping
from typing import Any

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


async def while_connected(work: Coroutine[Any, Any, None], receive: Receive) -> bool:
    """Run `work`, but not longer than its client stays. Returns whether it ran to its end.

    `receive` must not be called by `work`.
    """
    listener = _Listener(receive)
    try:
        await _OnFirstWait(work, listener.start)
    except asyncio.CancelledError:
        if not listener.is_gone:
            raise
        listener.task_of_request.uncancel()
        return False
    finally:
        listener.stop()
    return True


class _Listener:
    """Waits for the disconnect of one client and cancels its request then."""

    __slots__ = ("_receive", "_task", "is_gone", "task_of_request")

    task_of_request: asyncio.Task[Any]

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._task: asyncio.Task[None] | None = None
        self.is_gone = False

    def start(self) -> None:
        current = asyncio.current_task()
        assert current is not None, "requests run in tasks"
        self.task_of_request = current
        self._task = asyncio.create_task(self._listen())

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _listen(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.is_gone = True
        self.task_of_request.cancel()


class _OnFirstWait:
    """Awaits a coroutine and calls `started_waiting` once, before its first suspension reaches the event
    loop."""

    __slots__ = ("_started_waiting", "_work")

    def __init__(self, work: Coroutine[Any, Any, None], started_waiting: Callable[[], None]) -> None:
        self._work = work
        self._started_waiting = started_waiting

    def __await__(self) -> Generator[Any, Any, None]:
        try:
            waits_for = self._work.send(None)
        except StopIteration:
            return
        self._started_waiting()
        step: Callable[[Any], Any]
        while True:
            try:
                answer = yield waits_for
            except BaseException as error:
                step, argument = self._work.throw, error
            else:
                step, argument = self._work.send, answer
            try:
                waits_for = step(argument)
            except StopIteration:
                return
