"""One piece of work with many waiters: a task without a deadline, and waiters with one each.

Race: requests for the same thing arrive while the first of them is still being worked on. Without single
flight each would begin the work again, and a herd of two thousand would be two thousand calls to the owner or
queries. With a lock around the work, a waiter that leaves or is late would take the result from all others.

Invariants: there is at most one flight for a key that can be joined. A waiter that leaves, or whose deadline
passes, ends its own wait only; the last one to leave ends the work, unless the flight says otherwise. Waiters
are released a few per loop turn, in the order of their arrival, so that the end of one creation is not two
thousand responses in one turn. State: the flights and their waiters belong to one `SingleFlight`, the kept
answers to one `SharedLookUps`, each in one event loop.
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable
from functools import partial
from typing import Any, Final, Generic, TypeVar

from pgshapes.errors import NotNow, PgShapesError
from pgshapes.waiting.background import begin, holds_nothing

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")
V = TypeVar("V")

RELEASED_PER_TURN: Final = 50
"""Each then takes a fraction of a millisecond for its response, so a turn stays well under 50 ms."""

STOPPING: Final = "The service is stopping"


def _always() -> bool:
    return True


class Flight(Generic[T]):
    """One piece of work under way, and its waiters in the order of their arrival."""

    def __init__(
        self,
        work: Coroutine[Any, Any, T],
        forget: Callable[[Flight[T]], None],
        on_abandoned: Callable[[], bool],
        at_end: Callable[[asyncio.Task[T]], object],
    ) -> None:
        self._forget = forget
        self._on_abandoned = on_abandoned
        self._at_end = at_end
        self._waiters: OrderedDict[asyncio.Future[T], None] = OrderedDict()
        self.task = begin(work, at_end=self._finish)

    @property
    def waiters(self) -> int:
        """How many wait."""
        return len(self._waiters)

    def join(self, timeout_s: float | None = None) -> asyncio.Future[T]:
        """A waiter, counted from now on; cancelling it is leaving.

        It gets the result, or fails with what the work raised, with TimeoutError, or with NotNow when the
        work was cancelled.
        """
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[T] = loop.create_future()
        timer = None if timeout_s is None else loop.call_later(max(0.0, timeout_s), _expire, waiter)
        waiter.add_done_callback(partial(self._leave, timer))
        self._waiters[waiter] = None
        return waiter

    def _leave(self, timer: asyncio.TimerHandle | None, waiter: asyncio.Future[T]) -> None:
        if timer is not None:
            timer.cancel()
        self._waiters.pop(waiter, None)
        if not waiter.cancelled():
            waiter.exception()  # marked as retrieved, also if no task awaits it
        if not self._waiters and not self.task.done() and self._on_abandoned():
            self._forget(self)
            self.task.cancel()

    def _finish(self, task: asyncio.Task[T]) -> None:
        self._at_end(task)
        self._forget(self)
        if not task.cancelled():
            task.exception()  # marked as retrieved, also without waiters
        self._release()

    def _release(self) -> None:
        for _ in range(min(RELEASED_PER_TURN, len(self._waiters))):
            waiter, _ = self._waiters.popitem(last=False)
            if not waiter.done():
                _hand_over(self.task, waiter)
        if self._waiters:
            asyncio.get_running_loop().call_soon(self._release)


class SingleFlight(Generic[K, T]):
    """At most one flight for each key."""

    def __init__(self) -> None:
        self._flights: dict[K, Flight[T]] = {}
        self._tasks: set[asyncio.Task[T]] = set()
        self.begun = 0
        """Flights so far."""
        self.joined = 0
        """Waiters that found a flight under way."""

    @property
    def under_way(self) -> int:
        """Flights that can be joined now."""
        return len(self._flights)

    @property
    def waiters(self) -> int:
        """How many wait for a flight in progress."""
        return sum(flight.waiters for flight in self._flights.values())

    def get(self, key: K) -> Flight[T] | None:
        """The flight for `key` that is under way."""
        return self._flights.get(key)

    def begin(
        self,
        key: K,
        work: Coroutine[Any, Any, T],
        *,
        on_abandoned: Callable[[], bool] = _always,
        at_end: Callable[[asyncio.Task[T]], object] = holds_nothing,
    ) -> Flight[T]:
        """A new flight, which takes the place of any other for `key`.

        `on_abandoned` is called when the last waiter has left: True if the work is to be cancelled then.
        `at_end` is called when the work has ended, before its waiters are answered.
        """
        self.begun += 1
        flight = self._flights[key] = Flight(work, partial(self._forget, key), on_abandoned, at_end)
        self._tasks.add(flight.task)
        flight.task.add_done_callback(self._tasks.discard)
        return flight

    def wait(
        self, key: K, work: Callable[[], Coroutine[Any, Any, T]], timeout_s: float | None = None
    ) -> asyncio.Future[T]:
        """A waiter on the flight for `key`, which is begun with `work` unless one is under way."""
        flight = self._flights.get(key)
        if flight is None:
            flight = self.begin(key, work())
        else:
            self.joined += 1
        return flight.join(timeout_s)

    def detach(self) -> None:
        """Exclude the flights under way from being joined; their waiters get the result."""
        self._flights.clear()

    async def close(self) -> None:
        """Cancel all work, detached or not; its waiters get NotNow."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

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
"""Keys can be client text: past this many, those that have expired are swept, then the oldest."""


class SharedLookUps(Generic[K, V]):
    """Answers of `look_up` by key, one look-up in flight for each; `keep` says whether a success is kept.

    Race: what is looked up changes while a look-up is in flight. `forget` detaches it: its waiters
    get its answer, but it cannot be joined and its answer is not kept; otherwise the old answer would be kept
    indefinitely. A failure of ours answers every request for a short time, so that a client that repeats a
    wrong request does not cause a query each time.
    """

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
        self._flights: SingleFlight[K, V] = SingleFlight()
        self._generation = 0
        """Grows with each `forget`: an answer of an older generation is not kept."""
        self._kept: dict[K, V] = {}
        self._failures: dict[K, tuple[float, PgShapesError]] = {}

    @property
    def made(self) -> int:
        """Look-ups begun."""
        return self._flights.begun

    @property
    def shared(self) -> int:
        """Requests that joined a look-up in flight."""
        return self._flights.joined

    @property
    def in_flight(self) -> int:
        """How many look-ups are under way and can be joined."""
        return self._flights.under_way

    async def get(self, key: K) -> V:
        """The answer for `key`. Raises what the look-up raised, NotNow when it was cancelled by `close`."""
        if key in self._kept:
            return self._kept[key]
        self._raise_recent_failure(key)
        return await self._flights.wait(key, lambda: self._make(key, self._generation))

    def forget(self, matches: Callable[[K, V], bool] | None = None) -> None:
        """Drop the kept answers that match (default: all), and all failures; detach all look-ups."""
        self._generation += 1
        self._flights.detach()
        self._failures.clear()
        self._kept = {key: value for key, value in self._kept.items() if matches and not matches(key, value)}

    async def close(self) -> None:
        """Cancel what is in flight."""
        await self._flights.close()

    async def _make(self, key: K, generation: int) -> V:
        try:
            answer = await self._look_up(key)
        except PgShapesError as error:
            if generation == self._generation:
                self._remember_failure(key, error)
            raise
        if self._keep and generation == self._generation:
            self._kept[key] = answer
        return answer

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
        while len(self._failures) >= _FAILURES_KEPT:
            del self._failures[next(iter(self._failures))]
        self._failures[key] = (now + self._failure_ttl_s, error)
