"""Reports which shapes this process served, so that `max_shapes` removes those that are not read.

Callers do not write tables, so the handles are collected here and sent at intervals, with those for whose
next change a client waits. State: the handles read since the last report, of one process.
"""

from __future__ import annotations

import asyncio
from typing import Final

from pgshapes.errors import PgShapesError
from pgshapes.shape_cache.shape_cache import ShapeCache
from pgshapes.tables.calls import NoteUse
from pgshapes.tables.link import OwnerLink
from pgshapes.waiting.background import begin, holds_nothing
from pgshapes.waiting.keep_running import keep_running

REPORT_INTERVAL_S: Final = 15.0
"""Less than the owner's interval of a minute, so that a shape that is being read is never the oldest."""
_REPORT_TIMEOUT_S: Final = 5.0


class UseTracking(ShapeCache):
    """A shape cache that reports the handles that it has served, and forgets them."""

    def __init__(self, link: OwnerLink) -> None:
        super().__init__(link)
        self._owner = link
        self._reporting: asyncio.Task[None] | None = None

    def start_reports(self) -> None:
        """Begin to report at intervals."""
        reports = keep_running("reporting the use of shapes", self.report_periodically)
        self._reporting = begin(reports, at_end=holds_nothing)

    async def report_periodically(self, interval_s: float = REPORT_INTERVAL_S) -> None:
        """Report to the owner at intervals, until cancelled; a failed report is repeated with the next
        one.
        """
        while True:
            await asyncio.sleep(interval_s)
            used, self._used = self._used, set()
            used.update(handle for handle in self._tables.tails.awaited() if self.is_known(handle))
            try:
                if used:
                    await self._owner.call(NoteUse(tuple(used)), timeout_s=_REPORT_TIMEOUT_S)
            except PgShapesError:
                self._used |= used
