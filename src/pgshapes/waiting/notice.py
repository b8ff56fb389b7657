"""A one-shot event that any number of tasks may await and leave.

Race: a change happens between the moment in which a task looks and the one in which it begins to wait. A task
takes the notice before it looks; a notice that was given in between ends the wait at once. With an event that
is set and cleared again, or a condition that wakes only those who wait already, that change would be lost and
the task would wait until its deadline.

It is not an `asyncio.Future`: cancelling one waiter cancels that wait alone, leaving costs the same however
many wait, and an unreferenced notice is freed. Invariant: once given it stays given. State: the
waiters belong to the notice, in one event loop; the code that makes a notice gives it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator


class Notice:
    """Awaiting it returns when `give` is called; immediately if it was called before."""

    __slots__ = ("__weakref__", "_futures", "_is_given")

    def __init__(self) -> None:
        self._is_given = False
        self._futures: set[asyncio.Future[None]] = set()

    @property
    def waiters(self) -> int:
        """How many tasks wait now."""
        return len(self._futures)

    def give(self) -> None:
        """Wake every waiter; later ones do not wait."""
        self._is_given = True
        futures, self._futures = self._futures, set()
        for future in futures:
            if not future.done():
                future.set_result(None)

    def __await__(self) -> Generator[asyncio.Future[None], None, None]:
        if self._is_given:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._futures.add(future)
        try:
            yield from future
        finally:
            self._futures.discard(future)
