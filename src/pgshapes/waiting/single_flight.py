"""One piece of work that many wait for: a task without a deadline, and waiters that have one each.

Cancelling a waiter ends its wait and nothing else; when the last one leaves, the work is cancelled. Waiters
are released a few per loop turn, so that the end of one creation is not two thousand answers in one turn.
State: the flights and their waiters belong to one `Flights`, in one event loop.

Look-ups that many ask for at once and one makes. Knows nothing of Postgres.

One look-up per key is in flight; who asks meanwhile shares it. A waiter that is cancelled leaves; when all
have left, the look-up is cancelled, too, so one that still waits for its turn is never made. A failure
answers everybody for a short time. `forget` detaches what is in flight: its waiters get their answer, nobody
joins it any more, and it is not kept. State: flights and kept answers belong to this object.
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Final, Generic, TypeVar

from pgshapes.errors import NotNow, PgShapesError

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")
V = TypeVar("V")

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


_FAILURES_KEPT: Final = 1000
"""Keys can be client text: past this many, those that have expired are swept."""


class _LookUp(Generic[V]):
    """One look-up under way."""

    def __init__(self, look_up: Coroutine[Any, Any, V]) -> None:
        self.task = asyncio.create_task(look_up)
        self.task.add_done_callback(_note_error)
        self.waiters = 0
        self.is_stale = False


class SharedLookUps(Generic[K, V]):
    """Answers of `look_up` by key; `keep` says whether a success is remembered until it is forgotten."""

    def __init__(
        self,
        look_up: Callable[[K], Coroutine[Any, Any, V]],
        *,
        keep: bool = True,
        failure_ttl_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look_up = look_up
        self._keep = keep
        self._failure_ttl_s = failure_ttl_s
        self._clock = clock
        self._flights: dict[K, _LookUp[V]] = {}
        self._kept: dict[K, V] = {}
        self._failures: dict[K, tuple[float, PgShapesError]] = {}
        self.made = 0
        """Look-ups begun."""
        self.shared = 0
        """Requests that joined a look-up in flight."""

    @property
    def in_flight(self) -> int:
        """How many look-ups are under way and can be joined."""
        return len(self._flights)

    def known(self, key: K) -> V | None:
        """The kept answer, without any look-up."""
        return self._kept.get(key)

    async def get(self, key: K) -> V:
        """The answer for `key`. Raises what the look-up raised."""
        if key in self._kept:
            return self._kept[key]
        self._raise_recent_failure(key)
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _LookUp(self._look_up(key))
            flight.task.add_done_callback(lambda _task: self._land(key, flight))
            self.made += 1
        else:
            self.shared += 1
        return await self._wait_for(key, flight)

    def forget(self, matches: Callable[[K, V], bool] | None = None) -> None:
        """Drop the kept answers that match (default: all), and all failures; detach all flights."""
        for flight in self._flights.values():
            flight.is_stale = True
        self._flights.clear()
        self._failures.clear()
        self._kept = {key: value for key, value in self._kept.items() if matches and not matches(key, value)}

    async def close(self) -> None:
        """Cancel what is in flight."""
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _wait_for(self, key: K, flight: _LookUp[V]) -> V:
        flight.waiters += 1
        try:
            await asyncio.wait([flight.task])
        finally:
            flight.waiters -= 1
            if not flight.waiters and not flight.task.done():
                self._detach(key, flight)
                flight.task.cancel()
        if flight.task.cancelled():
            raise NotNow("The service is stopping")
        return flight.task.result()

    def _land(self, key: K, flight: _LookUp[V]) -> None:
        self._detach(key, flight)
        if flight.task.cancelled() or flight.is_stale:
            return
        error = flight.task.exception()
        if error is None and self._keep:
            self._kept[key] = flight.task.result()
        elif isinstance(error, PgShapesError):
            self._remember_failure(key, error)

    def _detach(self, key: K, flight: _LookUp[V]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]

    def _raise_recent_failure(self, key: K) -> None:
        until, error = self._failures.get(key, (0.0, None))
        if error is None:
            return
        if self._clock() < until:
            raise copy.copy(error)
        del self._failures[key]

    def _remember_failure(self, key: K, error: PgShapesError) -> None:
        now = self._clock()
        if len(self._failures) >= _FAILURES_KEPT:
            self._failures = {key: kept for key, kept in self._failures.items() if kept[0] > now}
        self._failures[key] = (now + self._failure_ttl_s, error)


def _note_error(task: asyncio.Task[Any]) -> None:
    """Mark the outcome as seen: waiters may all have left before it came."""
    if not task.cancelled():
        task.exception()
