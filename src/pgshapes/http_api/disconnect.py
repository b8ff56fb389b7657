"""Ends requests that wait: when their client disconnects, and when the process stops.

ASGI servers do not cancel the application when a client disconnects: it has to receive `http.disconnect`.
Most requests are answered without waiting, and listening would cost more than answering them. So the listener
starts when a request waits for the first time. After a disconnect the request is cancelled at its next wait,
and its own `finally` blocks release what it holds, for example its permit.

A process that stops answers held requests at once (`live`). Others may wait for an owner that has stopped,
too: those that have sent nothing are refused.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, MutableMapping
from typing import Any, Protocol

from pgshapes.errors import NotNow
from pgshapes.waiting.background import begin, holds_nothing
from pgshapes.waiting.single_flight import STOPPING


class Waits(Protocol):
    """A request, as it is used here."""

    has_begun: bool
    """Whether a part of the response was sent."""

    @property
    def receive(self) -> Callable[[], Awaitable[MutableMapping[str, Any]]]:
        """The function that receives the next message of the server."""


class WaitingRequests:
    """The requests of one application that wait."""

    def __init__(self) -> None:
        self._listeners: set[_Listener] = set()
        self._is_refusing = False

    async def run(self, work: Coroutine[Any, Any, None], exchange: Waits) -> bool:
        """Run `work`; cancel it when the client disconnects. Returns whether it was completed. Raises NotNow
        if it is refused.

        `work` must not call `exchange.receive`.
        """
        try:
            awaited = work.send(None)
        except StopIteration:
            return True
        listener = _Listener(exchange)
        self._listeners.add(listener)
        if self._is_refusing:
            listener.refuse()
        try:
            await _run_to_end(work, awaited)
        except asyncio.CancelledError:
            is_ours = listener.is_disconnected or listener.is_refused
            if not is_ours or listener.request.uncancel() > 0:
                raise  # also if it was cancelled from elsewhere at the same time
            if listener.is_refused and not listener.is_disconnected:
                raise NotNow(STOPPING) from None
            return False
        finally:
            self._listeners.discard(listener)
            listener.stop()
        return True

    def refuse(self) -> None:
        """End the requests that wait and have sent nothing, now and from now on."""
        self._is_refusing = True
        for listener in tuple(self._listeners):
            listener.refuse()


class _Listener:
    """Receives until the client disconnects, then cancels the request: the task that created this."""

    __slots__ = ("_exchange", "_task", "is_disconnected", "is_refused", "request")

    def __init__(self, exchange: Waits) -> None:
        current = asyncio.current_task()
        assert current is not None, "requests run in tasks"
        self.request = current
        self.is_disconnected = self.is_refused = False
        self._exchange = exchange
        self._task = begin(self._listen(), at_end=holds_nothing)

    def stop(self) -> None:
        self._task.cancel()

    def refuse(self) -> None:
        """Cancel the request, unless a part of its response was sent."""
        if not self._exchange.has_begun and not self.is_disconnected:
            self.is_refused = True
            self.request.cancel()

    async def _listen(self) -> None:
        while (await self._exchange.receive())["type"] != "http.disconnect":
            pass
        if not self.is_refused:
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
