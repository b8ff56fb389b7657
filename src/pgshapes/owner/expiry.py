"""Keeps at most `max_shapes` shapes: removes those that were not read for the longest time.

HTTP processes report which shapes they served (`shape_cache.use_tracking`); the times of these reports are
kept in the owner's memory and lost when it restarts. A shape that is being created is never removed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Final

from pgshapes.owner.cleaner import ShapeCleaner
from pgshapes.tables.tables import Tables

EXPIRY_INTERVAL_S: Final = 60.0


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
