"""What the owner looks after from time to time: trash, tables that changed without a word, the publication.

pgoutput tells of a changed table with its next change only, and of a table that was dropped, or taken out of
the publication and put back, not at all (semantics §8.1, design §7). So the catalogue is asked, at start and
then regularly.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

import structlog

from pgshapes.errors import PgShapesError
from pgshapes.model.relation import Relation
from pgshapes.processes.owner import Owner, Sources
from pgshapes.shape_cache.catalogue import StoredShape
from pgshapes.tables.tables import Tables

_log = structlog.get_logger(__name__)

TRASH_INTERVAL_S: Final = 10.0
CATALOGUE_INTERVAL_S: Final = 60.0


class Housekeeping:
    """The owner's rounds. Remembers which publication membership each shape was made under."""

    def __init__(self, owner: Owner, sources: Sources, tables: Tables, stored: Iterable[StoredShape]) -> None:
        self._owner = owner
        self._sources = sources
        self._tables = tables
        for shape in stored:
            if shape.membership_oid is not None:
                owner.creator.memberships[shape.handle] = shape.membership_oid

    async def run(self) -> None:
        """Go round for ever. A database that does not answer is asked again on the next round."""
        await asyncio.gather(self._empty_trash(), self._check_catalogue())

    async def _empty_trash(self) -> None:
        while True:
            await self._owner.store.empty_trash()
            await asyncio.sleep(TRASH_INTERVAL_S)

    async def _check_catalogue(self) -> None:
        while True:
            try:
                await self.check()
            except PgShapesError as error:
                _log.warning("the catalogue could not be checked", error=error.message)
            await asyncio.sleep(CATALOGUE_INTERVAL_S)

    async def check(self) -> None:
        """End the shapes whose table is not any more what they were made for. Raises SourceError, NotNow."""
        relations = self._relations()
        members = await self._sources.publication.membership_row_oids(relations)
        for oid in relations:
            known = self._owner.router.relation(oid)
            if known is None:
                continue
            self._sources.inspector.clean(oid)
            current = await self._sources.inspector.relation_by_oid(oid)
            if current is None or not is_same_table(known, current):
                self._owner.cleaner.end(
                    self._owner.router.handles_of(oid), "the table was changed or dropped"
                )
            else:
                self._check_membership(oid, members.get(oid))

    def _check_membership(self, oid: int, row_oid: int | None) -> None:
        """A table that left the publication has lost changes, even if it is back."""
        memberships = self._owner.creator.memberships
        stale = [
            handle
            for handle in self._owner.router.handles_of(oid)
            if handle in memberships and memberships[handle] != row_oid
        ]
        self._owner.cleaner.end(stale, "the table has left the publication in between")

    def _relations(self) -> set[int]:
        return {row.relation_oid for _, row in self._tables.shapes.items() if not row.is_retiring}


def is_same_table(known: Relation, current: Relation) -> bool:
    """Whether the rows of `current` are written as those of `known` were."""
    if (known.schema, known.name) != (current.schema, current.name):
        return False
    now = {column.name: (column.type_oid, column.typmod) for column in current.columns}
    return all(now.get(column.name) == (column.type_oid, column.typmod) for column in known.columns)
