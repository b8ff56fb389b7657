"""A bounded number of slots of which no key can hold all.

Race: many tasks of one key, for example of a locked table, arrive before those of other keys and
do not finish. With a plain semaphore they would hold every slot, and tasks of all other keys would wait for a
lock that does not concern them.

A key may hold no more slots than it leaves free: of 64 the first gets 32, a second that wants as many 16, and
so on (the dynamic threshold of Choudhury and Hahne, as switches share their buffers). Keys that wait are
served in turn.

Invariant: held and free slots add up to `limit`; a task that is cancelled while it waits holds no slot.
State: the held slots and the waiting tasks belong to one `FairSemaphore`, in one event loop.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class FairSemaphore(Generic[K]):
    """At most `limit` slots; a key holds no more of them than it leaves free."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._free = limit
        self._held: Counter[K] = Counter()
        self._waiting: OrderedDict[K, deque[asyncio.Future[None]]] = OrderedDict()

    @property
    def in_use(self) -> int:
        """Slots that are held."""
        return self.limit - self._free

    @property
    def waiting(self) -> int:
        """How many tasks wait for one."""
        return sum(map(len, self._waiting.values()))

    @asynccontextmanager
    async def slot(self, key: K) -> AsyncIterator[None]:
        """A slot for as long as the block lasts."""
        await self.acquire(key)
        try:
            yield
        finally:
            self.release(key)

    async def acquire(self, key: K) -> None:
        """Wait for a slot; it is the caller's until `release`."""
        if self._is_allowed(key) and key not in self._waiting:
            self._grant(key)
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, deque()).append(granted)
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self.release(key)
            else:
                self._leave(key, granted)
            raise

    def release(self, key: K) -> None:
        """Return a slot and grant free slots to waiting tasks."""
        self._free += 1
        self._held[key] -= 1
        if not self._held[key]:
            del self._held[key]
        self._grant_free()

    def _is_allowed(self, key: K) -> bool:
        return self._held[key] < self._free

    def _grant(self, key: K) -> None:
        self._free -= 1
        self._held[key] += 1

    def _leave(self, key: K, granted: asyncio.Future[None]) -> None:
        queue = self._waiting.get(key)
        if queue is not None and granted in queue:
            queue.remove(granted)
            if not queue:
                del self._waiting[key]

    def _grant_free(self) -> None:
        """Grant free slots to the keys that may have one, in turn."""
        while (key := next(filter(self._is_allowed, self._waiting), None)) is not None:
            queue = self._waiting[key]
            granted = queue.popleft()
            if queue:
                self._waiting.move_to_end(key)
            else:
                del self._waiting[key]
            if not granted.done():
                self._grant(key)
                granted.set_result(None)
