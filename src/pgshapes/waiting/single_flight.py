"""One piece of work that many wait for: a task without a deadline, and waiters that have one each.

Cancelling a waiter ends its wait and nothing else; when the last one leaves, the work is cancelled. Waiters
are released a few per loop turn, so that the end of one creation is not two thousand answers in one turn.
State: the flights and their waiters belong to one `Flights`, in one event loop.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Final, Generic, TypeVar

from pgshapes.errors import NotNow

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

RELEASED_PER_TURN: Final = 50
"""Each goes on with an answer, a fraction of a millisecond: a turn stays well under 50 ms."""

STOPPING: Final = "The service is stopping"


class Flight(Generic[T]):
    """One piece of work under way, and its waiters in the order of their arrival."""

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self.task = asyncio.ensure_future(work)
        self._waiters: OrderedDict[asyncio.Future[T], None] = OrderedDict()
        self.task.add_done_callback(self._land)

    @property
    def waiters(self) -> int:
        """How many wait."""
        return len(self._waiters)

    async def wait(self, timeout_s: float) -> T:
        """The result. Raises what the work raised, TimeoutError, NotNow when the work was cancelled."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[T] = loop.create_future()
        timer = loop.call_later(timeout_s, _expire, waiter)
        self._waiters[waiter] = None
        try:
            return await waiter
        finally:
            timer.cancel()
            self._leave(waiter)

    def _leave(self, waiter: asyncio.Future[T]) -> None:
        self._waiters.pop(waiter, None)
        if waiter.done() and not waiter.cancelled():
            waiter.exception()
        if not self._waiters and not self.task.done():
            self.task.cancel()

    def _land(self, task: asyncio.Task[T]) -> None:
        if not task.cancelled():
            task.exception()
        self._release()

    def _release(self) -> None:
        for _ in range(min(RELEASED_PER_TURN, len(self._waiters))):
            waiter, _ = self._waiters.popitem(last=False)
            if not waiter.done():
                _hand_over(self.task, waiter)
        if self._waiters:
            asyncio.get_running_loop().call_soon(self._release)


class Flights(Generic[K, T]):
    """At most one flight for each key."""

    def __init__(self) -> None:
        self._flights: dict[K, Flight[T]] = {}
        self.begun = 0
        """Flights so far."""
        self.joined = 0
        """Waiters that found a flight under way."""

    @property
    def under_way(self) -> int:
        """Flights now."""
        return len(self._flights)

    @property
    def waiters(self) -> int:
        """How many wait for a flight that has not landed."""
        return sum(flight.waiters for flight in self._flights.values())

    async def wait(self, key: K, work: Callable[[], Coroutine[Any, Any, T]], timeout_s: float) -> T:
        """The result of the flight for `key`, which is begun with `work` unless one is under way."""
        flight = self._flights.get(key)
        if flight is None:
            flight = self._begin(key, work())
        else:
            self.joined += 1
        try:
            return await flight.wait(timeout_s)
        finally:
            if not flight.waiters:
                self._forget(key, flight)

    def _begin(self, key: K, work: Coroutine[Any, Any, T]) -> Flight[T]:
        self.begun += 1
        flight = self._flights[key] = Flight(work)
        flight.task.add_done_callback(lambda _: self._forget(key, flight))
        return flight

    def _forget(self, key: K, flight: Flight[T]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]


def _hand_over(task: asyncio.Task[T], waiter: asyncio.Future[T]) -> None:
    if task.cancelled():
        waiter.set_exception(NotNow(STOPPING))
        return
    error = task.exception()
    if error is None:
        waiter.set_result(task.result())
    else:
        waiter.set_exception(error)


def _expire(waiter: asyncio.Future[Any]) -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError())
