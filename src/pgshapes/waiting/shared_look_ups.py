"""Look-ups that many ask for at once and one makes. Knows nothing of Postgres.

One look-up per key is in flight; who asks meanwhile shares it. A waiter that is cancelled leaves; when all
have left, the look-up is cancelled, too, so one that still waits for its turn is never made. A failure
answers everybody for a short time. `forget` detaches what is in flight: its waiters get their answer, nobody
joins it any more, and it is not kept. State: flights and kept answers belong to this object.
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Final, Generic, TypeVar

from pgshapes.errors import NotNow, PgShapesError

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_FAILURES_KEPT: Final = 1000
"""Keys can be client text: past this many, those that have expired are swept."""


class _Flight(Generic[V]):
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
        self._flights: dict[K, _Flight[V]] = {}
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
            flight = self._flights[key] = _Flight(self._look_up(key))
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

    async def _wait_for(self, key: K, flight: _Flight[V]) -> V:
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

    def _land(self, key: K, flight: _Flight[V]) -> None:
        self._detach(key, flight)
        if flight.task.cancelled() or flight.is_stale:
            return
        error = flight.task.exception()
        if error is None and self._keep:
            self._kept[key] = flight.task.result()
        elif isinstance(error, PgShapesError):
            self._remember_failure(key, error)

    def _detach(self, key: K, flight: _Flight[V]) -> None:
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
