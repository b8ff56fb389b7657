"""Periodic work of the owner: deletes the files of removed shapes, and checks tables and publication.

pgoutput reports a changed table only with its next change. It does not report that a table was dropped, or
was removed from the publication and added again. So the system catalogs are read at start and every minute.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Final

import structlog

from pgshapes.errors import PgShapesError
from pgshapes.owner.catalogue import StoredShape
from pgshapes.owner.owner import Owner, Sources
from pgshapes.tables.tables import Tables

_log = structlog.get_logger(__name__)

TRASH_INTERVAL_S: Final = 10.0
CHECK_INTERVAL_S: Final = 60.0


class Housekeeping:
    """The periodic work. Restores the publication memberships under which the stored shapes were created."""

    def __init__(self, owner: Owner, sources: Sources, tables: Tables, stored: Iterable[StoredShape]) -> None:
        self._owner = owner
        self._sources = sources
        self._tables = tables
        owner.creator.memberships.update((shape.handle, shape.memberships) for shape in stored)

    async def run(self) -> None:
        """Run until cancelled. A check that fails is retried after the interval."""
        await asyncio.gather(self._empty_trash(), self._check_system_catalogs())

    async def _empty_trash(self) -> None:
        while True:
            await self._owner.store.empty_trash()
            await asyncio.sleep(TRASH_INTERVAL_S)

    async def _check_system_catalogs(self) -> None:
        while True:
            try:
                await self.check()
            except PgShapesError as error:
                _log.warning("check of the system catalogs failed; retrying", error=error.message)
            await asyncio.sleep(CHECK_INTERVAL_S)

    async def check(self) -> None:
        """Remove the shapes whose table has changed. Raises SourceError, NotNow.

        Only shapes that existed before the system catalogs were read: newer ones may have seen a later state.
        """
        shapes = self._shapes_by_relation()
        memberships = dict(self._owner.creator.memberships)
        members = await self._sources.publication.membership_row_oids(shapes)
        for oid, handles in shapes.items():
            row_oid = members.get(oid)
            left = [one for one in handles if memberships.get(one, {}).get(oid, row_oid) != row_oid]
            self._end(oid, left, "the table was removed from the publication")
            await self._check_table(oid, handles)

    async def _check_table(self, oid: int, handles: Sequence[str]) -> None:
        router, inspector = self._owner.router, self._sources.inspector
        known_leaves = router.leaves_of(oid)
        inspector.clean(oid)
        current = await inspector.relation_by_oid(oid)
        if current is None:
            self._end(oid, handles, "the table was dropped")
            return
        self._end(oid, set(handles).intersection(router.outdated_by(current)), "the table was changed")
        if known_leaves.difference(await inspector.leaves(oid)):
            self._end(oid, handles, "a partition was dropped or detached")

    def _end(self, oid: int, handles: Collection[str], reason: str) -> None:
        if handles:
            self._owner.known_relations.invalidate(oid)
            self._owner.cleaner.end(handles, reason)

    def _shapes_by_relation(self) -> dict[int, list[str]]:
        """Without those that are not registered yet: their creations have yet to read the catalogue."""
        shapes: defaultdict[int, list[str]] = defaultdict(list)
        for handle, row in self._tables.shapes.items():
            if row.state.is_in_use and handle in self._owner.router:
                for oid in row.relation_oids:
                    shapes[oid].append(handle)
        return shapes
