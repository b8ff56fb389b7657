"""Removes shapes, on request and when there are more than `max_shapes`.

A removed shape is never served again, also after a crash. Order: the shape is marked as retiring in the
tables → its log is durably removed → its catalogue row is durably deleted → every link has acknowledged → its
table rows are removed and the 409s are sent. The WAL position that caused the removal is not acknowledged
before the removal is durable. A removal that has begun is completed: if its task is cancelled, another one
continues, until the owner closes.

With `max_shapes`, the shapes that were not read for the longest time are removed. HTTP processes report which
shapes they served (`shape_cache.use_tracking`); the times of these reports are kept in the owner's memory and
lost when it restarts. A shape that is being created is never removed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final

from pgshapes.logs import get_logger
from pgshapes.model.shape_state import ShapeState
from pgshapes.owner.shape_status import ShapeStatus
from pgshapes.routing.flush_boundary import FlushBoundary
from pgshapes.routing.router import Router
from pgshapes.shape_log.store import ShapeStore
from pgshapes.tables.tables import Tables
from pgshapes.waiting.notice import Notice

_log = get_logger(__name__)

# Pause before a failed removal is retried; Postgres keeps the WAL that caused it until it is durable.
_RETRY_S = 1.0


class ShapeCleaner:
    """Removes shapes. `after_removal` is called with the oids of the relations whose shapes were removed."""

    def __init__(
        self,
        tables: Tables,
        status: ShapeStatus,
        router: Router,
        store: ShapeStore,
        boundary: FlushBoundary,
        *,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        after_removal: Callable[[set[int]], None],
    ) -> None:
        self._tables = tables
        self._status = status
        self._router = router
        self._store = store
        self._boundary = boundary
        self._spawn = spawn
        self._after_removal = after_removal
        self._removing: set[str] = set()
        """The retired shapes with a task that removes them."""
        self._failing: set[str] = set()
        """The first handle of each removal that could not be made durable so far."""
        self.on_retired: Callable[[str], None] = lambda _: None
        """Called with each handle that is retired, to cancel a snapshot that is still being written."""
        self._is_closed = False

    @property
    def is_failing(self) -> bool:
        """Whether a removal could not be made durable; the WAL that caused it is kept meanwhile."""
        return bool(self._failing)

    def close(self) -> None:
        """Remove nothing from now on: the owner ends. The next one removes what is not complete."""
        self._is_closed = True

    def end(self, handles: Iterable[str], reason: str) -> Notice | None:
        """Retire shapes now and remove them in the background. Returns what is given when they are removed,
        None when the removal of all of them had begun before. May be repeated after an error.
        """
        if self._is_closed:
            return None
        ended = set(handles)
        self._status.retire(ended)
        # By state, not by what was retired now: an earlier call may have been interrupted by an error.
        retired = sorted(handle for handle in ended - self._removing if self._is_retiring(handle))
        if not retired:
            return None
        _log.info("shapes removed", count=len(retired), reason=reason, first=retired[0])
        for handle in retired:
            self._router.unregister(handle)
            self.on_retired(handle)
        removed, hold = Notice(), self._boundary.hold()
        try:
            self._begin(retired, hold, removed)
        except BaseException:
            self._boundary.release(hold)
            raise
        self._removing.update(retired)
        return removed

    def _is_retiring(self, handle: str) -> bool:
        row = self._tables.shapes.get(handle)
        return row is not None and row.state is ShapeState.RETIRING

    def _begin(self, handles: list[str], hold: int, removed: Notice) -> None:
        def complete(task: asyncio.Task[None]) -> None:
            """Begin again, because nothing can be acknowledged before the removal is durable."""
            if task.cancelled():
                self._begin(handles, hold, removed)
            elif task.exception() is not None:
                asyncio.get_running_loop().call_later(_RETRY_S, self._begin, handles, hold, removed)

        if not self._is_closed:
            self._spawn(self._remove(handles, hold, removed)).add_done_callback(complete)

    async def _remove(self, handles: list[str], hold: int, removed: Notice) -> None:
        """May be repeated after an error."""
        rows = {handle: row for handle in handles if (row := self._tables.shapes.get(handle))}
        relations = {oid for row in rows.values() for oid in row.relation_oids}
        await self._remove_durably(handles)
        await self._tables.acknowledged()
        self._status.remove(rows)
        self._removing.difference_update(handles)
        self._boundary.release(hold)
        removed.give()
        self._after_removal(relations)

    async def _remove_durably(self, handles: list[str]) -> None:
        said = ""
        while True:
            try:
                await self._store.remove(handles)
                deleted = self._status.delete_rows(handles)
                if deleted is not None:
                    await deleted
                self._failing.discard(handles[0])
                return
            except Exception as error:  # also a shortage of threads, memory or descriptors
                if said != repr(error):
                    _log.error("shape removal failed; retrying", error=repr(error), shapes=len(handles))
                said = repr(error)
                self._failing.add(handles[0])
                await asyncio.sleep(_RETRY_S)


TRASH_INTERVAL_S: Final = 10.0


async def empty_trash(store: ShapeStore) -> None:
    """Delete the files of removed shapes at intervals, until cancelled."""
    while True:
        await store.empty_trash()
        await asyncio.sleep(TRASH_INTERVAL_S)


EXPIRY_INTERVAL_S: Final = 60.0
_EARLY_EXCESS: Final = 1.1
_EARLY_INTERVAL_S: Final = 1.0
"""With so many times `max_shapes`, excess shapes are removed when one is created, once in this time."""


class ShapeExpiry:
    """Removes the least recently read shapes. Owns the times at which they were read."""

    def __init__(
        self,
        tables: Tables,
        cleaner: ShapeCleaner,
        max_shapes: int,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tables = tables
        self._cleaner = cleaner
        self._max_shapes = max_shapes
        self._clock = clock
        self._last_used: dict[str, float] = {}
        self._ran_at = -_EARLY_INTERVAL_S

    def note_created(self) -> None:
        """A shape was created. Remove excess shapes now if there are many."""
        is_recent = self._clock() - self._ran_at < _EARLY_INTERVAL_S
        if len(self._tables.shapes) > self._max_shapes * _EARLY_EXCESS and not is_recent:
            self.expire()

    def note_use(self, handles: Iterable[str]) -> None:
        """Record that these shapes were read now."""
        self._last_used.update(dict.fromkeys(handles, self._clock()))

    async def run(self, interval_s: float = EXPIRY_INTERVAL_S) -> None:
        """Remove excess shapes at intervals, until cancelled."""
        while True:
            await asyncio.sleep(interval_s)
            self.expire()

    def expire(self) -> list[str]:
        """Remove excess shapes now; returns their handles."""
        self._ran_at = self._clock()
        live = [handle for handle, row in self._tables.shapes.items() if row.state.is_live]
        known = set(live)
        self._last_used = {handle: used for handle, used in self._last_used.items() if handle in known}
        # A shape without a time was created or restored since the last run: that counts as a use.
        for handle in live:
            self._last_used.setdefault(handle, self._clock())
        excess = len(live) - self._max_shapes
        if excess <= 0:
            return []
        oldest = sorted(live, key=lambda handle: self._last_used[handle])[:excess]
        self._cleaner.end(oldest, "more shapes than max_shapes")
        return oldest
