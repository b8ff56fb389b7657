"""Reports which shapes this process served, so that `max_shapes` removes those that nobody reads.

Callers only read tables, so what was read is noted here and sent at intervals. State: the handles read since
the last report, of one process.
"""

from __future__ import annotations

import asyncio
from typing import Final

from pgshapes.errors import PgShapesError
from pgshapes.model.tail import Tail
from pgshapes.shape_cache.shape_cache import ShapeCache
from pgshapes.tables.calls import NoteUse
from pgshapes.tables.link import OwnerLink

REPORT_INTERVAL_S: Final = 15.0
"""Short beside the owner's interval of a minute, so that a shape that is being read is never the oldest."""
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
