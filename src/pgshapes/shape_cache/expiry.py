"""No more than `max_shapes`: the shapes that were not read for the longest time go (semantics §12.5).

Callers only read tables, so each process notes which shapes it served (`UseTracking`) and tells the owner now
and then; the owner (`ShapeExpiry`) keeps the times and removes what is too much. A shape that is being
created has no time yet and is exempt. Times are the owner's own and start anew with it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Final

from pgshapes.errors import PgShapesError
from pgshapes.model.tail import Tail
from pgshapes.shape_cache.cleaner import ShapeCleaner
from pgshapes.shape_cache.shape_cache import ShapeCache
from pgshapes.tables.calls import NoteUse
from pgshapes.tables.link import OwnerLink
from pgshapes.tables.tables import Tables

EXPIRY_INTERVAL_S: Final = 60.0
# Often enough that what is being read is never the oldest when the owner looks.
REPORT_INTERVAL_S: Final = 15.0
_REPORT_TIMEOUT_S: Final = 5.0


class UseTracking(ShapeCache):
    """A shape cache that knows which shapes it served since its last report."""

    def __init__(self, link: OwnerLink) -> None:
        super().__init__(link)
        self._owner = link
        self._used: set[str] = set()
        self._reporting: asyncio.Task[None] | None = None

    def tail(self, handle: str) -> Tail | None:
        """See `ShapeCache.tail`: whoever reads a shape asks for its end first."""
        self._used.add(handle)
        return super().tail(handle)

    def start_reports(self) -> None:
        """Report from now on, for as long as the loop runs."""
        self._reporting = asyncio.get_running_loop().create_task(self.report_for_ever())

    async def report_for_ever(self, interval_s: float = REPORT_INTERVAL_S) -> None:
        """Tell the owner, at intervals; what could not be told is told the next time."""
        while True:
            await asyncio.sleep(interval_s)
            used, self._used = self._used, set()
            try:
                if used:
                    await self._owner.call(NoteUse(tuple(used)), timeout_s=_REPORT_TIMEOUT_S)
            except (PgShapesError, TimeoutError):
                self._used |= used


class ShapeExpiry:
    """The owner's side."""

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

    def note_use(self, handles: Iterable[str]) -> None:
        """These shapes were read."""
        self._last_used.update(dict.fromkeys(handles, self._clock()))

    async def run(self, interval_s: float = EXPIRY_INTERVAL_S) -> None:
        """Remove what is too much, at intervals, for ever."""
        while True:
            await asyncio.sleep(interval_s)
            self.expire()

    def expire(self) -> list[str]:
        """Remove what is too much now; the handles that go."""
        live = [
            handle
            for handle, row in self._tables.shapes.items()
            if row.last_used is not None and not row.is_retiring
        ]
        known = set(live)
        self._last_used = {handle: used for handle, used in self._last_used.items() if handle in known}
        # A shape first met here was created or restored since the last look: that counts as a use.
        for handle in live:
            self._last_used.setdefault(handle, self._clock())
        excess = len(live) - self._max_shapes
        if excess <= 0:
            return []
        oldest = sorted(live, key=lambda handle: self._last_used[handle])[:excess]
        self._cleaner.end(oldest, "more shapes than max_shapes")
        return oldest
