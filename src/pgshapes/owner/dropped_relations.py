"""Forgets what the stream has announced about relations that were dropped, so that partitions that are
created and dropped for years take no memory.

A relation without shapes may get one at any time, and Postgres does not announce it again for that. So it is
forgotten only when no change of it can come any more: it was visible once, it is not there any more, and
everything that was committed before it was seen to be missing is processed. Its last writers have ended
before the transaction that dropped it could lock it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Final, NamedTuple, Protocol

from pgshapes.errors import PgShapesError
from pgshapes.model.lsn import Lsn
from pgshapes.model.visibility import SnapshotVisibility
from pgshapes.routing.announcements import Announcement
from pgshapes.routing.flush_boundary import FlushBoundary
from pgshapes.routing.router import Router

INTERVAL_S: Final = 60.0
CHECK_FROM: Final = 1_000
"""Relations without shapes before anything is checked: some 2 MB."""


class FindsRelations(Protocol):
    """The inspector, as far as it is used here."""

    async def visibility(self) -> SnapshotVisibility:
        """What a new snapshot sees."""

    async def existing(self, oids: Collection[int]) -> set[int]:
        """Those of these relations that exist."""


class _Found(NamedTuple):
    """Relations that do not exist any more."""

    dropped_before: Lsn
    """All their changes were committed before this position."""
    dropped: dict[int, Announcement]


class DroppedRelations:
    """Looks for announced relations that do not exist any more. `forget` forgets them for the running
    stream.
    """

    def __init__(
        self,
        inspector: FindsRelations,
        router: Router,
        boundary: FlushBoundary,
        forget: Callable[[Mapping[int, Announcement]], None],
        *,
        interval_s: float = INTERVAL_S,
        check_from: int = CHECK_FROM,
    ) -> None:
        self._inspector = inspector
        self._router = router
        self._boundary = boundary
        self._forget = forget
        self._interval_s = interval_s
        self._least = self._check_from = check_from
        self._found: _Found | None = None

    async def run(self) -> None:
        """Check at intervals, until cancelled. What fails is done by a later check."""
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                await self.check()
            except PgShapesError:
                continue  # the catalog watch logs it

    async def check(self) -> None:
        """Forget what was found to be dropped, once that is safe; else look for more, if many relations have
        no shapes. Raises NotNow, SourceError.
        """
        if self._found is not None:
            self._settle(self._found)
            return
        unused = self._router.unused_announcements()
        if len(unused) < self._check_from:
            return
        seen = await self._inspector.visibility()
        visible = {oid: one for oid, one in unused.items() if one.xid is not None and seen.sees_xid(one.xid)}
        existing = await self._inspector.existing(visible)
        dropped = {oid: one for oid, one in visible.items() if oid not in existing}
        self._check_from = max(self._least, 2 * (len(unused) - len(dropped)))
        if dropped:
            self._found = _Found((await self._inspector.visibility()).insert_lsn, dropped)

    def _settle(self, found: _Found) -> None:
        if self._boundary.processed >= found.dropped_before:
            self._router.forget_announcements(found.dropped)
            self._forget(found.dropped)
            self._found = None
