"""How a shape goes, so that nobody ever meets it again.

Order: out of use in every table → its log durably removed → its row durably deleted → every link knows → the
rows go and the 409s with them. A WAL position that caused a removal is held back from acknowledgement until
the removal is durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import structlog

from pgshapes.errors import StorageError
from pgshapes.owner.shape_status import ShapeStatus
from pgshapes.routing.flush_boundary import FlushBoundary
from pgshapes.routing.router import Router
from pgshapes.shape_log.store import ShapeStore
from pgshapes.tables.tables import Tables

_log = structlog.get_logger(__name__)

# A removal that the disk refuses is tried again; the WAL that caused it stays with Postgres until then.
_RETRY_S = 1.0


class ShapeCleaner:
    """Removes shapes. `after_removal` is told the relations that lost one."""

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
        self.on_retired: Callable[[str], None] = lambda _: None
        """Told of each handle as it goes out of use, so that a snapshot that is still being written ends."""

    def end(self, handles: Iterable[str], reason: str) -> asyncio.Task[None] | None:
        """Take shapes out of use now and remove them in the background; the task is done when they are
        gone.
        """
        retired = self._status.retire(handles)
        if not retired:
            return None
        _log.info("shapes removed", count=len(retired), reason=reason, first=retired[0])
        for handle in retired:
            self._router.unregister(handle)
            self.on_retired(handle)
        return self._spawn(self._remove(retired, self._boundary.hold()))

    async def _remove(self, handles: list[str], hold: int) -> None:
        rows = [row for handle in handles if (row := self._tables.shapes.get(handle))]
        relations = {oid for row in rows for oid in row.relation_oids}
        await self._remove_durably(handles)
        await self._tables.acknowledged()
        self._status.remove(handles)
        self._boundary.release(hold)
        self._after_removal(relations)

    async def _remove_durably(self, handles: list[str]) -> None:
        while True:
            try:
                await self._store.remove(handles)
                deleted = self._status.delete_rows(handles)
                if deleted is not None:
                    await deleted
                return
            except StorageError as error:
                _log.error("a removal waits for the disk", error=error.message, shapes=len(handles))
                await asyncio.sleep(_RETRY_S)
