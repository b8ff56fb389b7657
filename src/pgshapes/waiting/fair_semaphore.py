"""A bounded number of places that one key cannot use up.

A key may hold no more places than it leaves free: of 64 the first gets 32, a second that wants as many 16,
and so on (the dynamic threshold of Choudhury and Hahne, as switches share their buffers). So whoever is held
up, by a locked table for one, holds up itself and leaves room for others. Keys that wait are served in turn.
State: who holds and who waits, in one event loop.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class FairPlaces(Generic[K]):
    """At most `limit` holders."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._free = limit
        self._held: Counter[K] = Counter()
        self._waiting: OrderedDict[K, deque[asyncio.Future[None]]] = OrderedDict()

    @property
    def in_use(self) -> int:
        """Places that are taken."""
        return self.limit - self._free

    @property
    def waiting(self) -> int:
        """How many wait for one."""
        return sum(map(len, self._waiting.values()))

    @asynccontextmanager
    async def place(self, key: K) -> AsyncIterator[None]:
        """A place for as long as the block lasts."""
        await self.take(key)
        try:
            yield
        finally:
            self.give_back(key)

    async def take(self, key: K) -> None:
        """Wait for a place; it is the caller's until `give_back`."""
        if self._may_enter(key) and key not in self._waiting:
            self._enter(key)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back(key)
            else:
                self._leave(key, turn)
            raise

    def give_back(self, key: K) -> None:
        """Leave a place to others."""
        self._free += 1
        self._held[key] -= 1
        if not self._held[key]:
            del self._held[key]
        self._admit()

    def _may_enter(self, key: K) -> bool:
        return self._held[key] < self._free

    def _enter(self, key: K) -> None:
        self._free -= 1
        self._held[key] += 1

    def _leave(self, key: K, turn: asyncio.Future[None]) -> None:
        queue = self._waiting.get(key)
        if queue is not None and turn in queue:
            queue.remove(turn)
            if not queue:
                del self._waiting[key]

    def _admit(self) -> None:
        """Let in who may, one of each key in turn."""
        while (key := next(filter(self._may_enter, self._waiting), None)) is not None:
            queue = self._waiting[key]
            turn = queue.popleft()
            if queue:
                self._waiting.move_to_end(key)
            else:
                del self._waiting[key]
            if not turn.done():
                self._enter(key)
                turn.set_result(None)
