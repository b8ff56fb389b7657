"""Removes tables from the publication: those without shapes, and those whose owner's statements fail because
they are in it.

A table that stays in it costs its owner WAL that nobody reads, or the owner's statements, so an attempt that
fails is repeated: after a lock, and after an error. State: the tables that are being removed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final, Protocol

from pgshapes.errors import PgShapesError
from pgshapes.logs import get_logger
from pgshapes.model.relation import Relation
from pgshapes.waiting.backoff import Backoff

_log = get_logger(__name__)

_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 30.0


class Inspects(Protocol):
    """The inspector, as it is used here."""

    async def relation_by_oid(self, oid: int) -> Relation | None:
        """The table; None if there is none."""


class Publishes(Protocol):
    """The publication, as it is used here."""

    async def drop_table(self, relation: Relation, *, is_wanted: Callable[[], bool], is_forced: bool) -> bool:
        """Remove the table unless it is wanted; True if nothing is left to do."""


class Unpublisher:
    """Begins removals, one at a time for each table and reason. `has_shapes` is asked with an oid;
    `breaks_writes` whether statements of a table's owner fail because it is published.
    """

    def __init__(
        self,
        inspector: Inspects,
        publication: Publishes,
        *,
        has_shapes: Callable[[int], bool],
        breaks_writes: Callable[[Relation], bool],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._inspector = inspector
        self._publication = publication
        self._has_shapes = has_shapes
        self._breaks_writes = breaks_writes
        self._spawn = spawn
        self._leaving: set[tuple[int, bool]] = set()
        """By oid, and whether it is for the owner's statements."""

    def remove_unused(self, oids: Iterable[int]) -> None:
        """Remove those of these tables that have no shapes."""
        for oid in oids:
            if not self._has_shapes(oid):
                self._begin(oid, breaks_writes=False)

    def remove_breaking(self, relation: Relation) -> None:
        """Remove a table whose owner's statements fail, although it may have shapes, and whoever added it."""
        self._begin(relation.oid, breaks_writes=True)

    def _begin(self, oid: int, *, breaks_writes: bool) -> None:
        if (oid, breaks_writes) not in self._leaving:
            self._leaving.add((oid, breaks_writes))
            self._spawn(self._remove(oid, breaks_writes=breaks_writes))

    async def _remove(self, oid: int, *, breaks_writes: bool) -> None:
        backoff, said = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S), ""
        try:
            while True:
                try:
                    if await self._try_to_remove(oid, breaks_writes=breaks_writes):
                        return
                except PgShapesError as error:
                    if error.message != said:
                        said = error.message
                        _log.warning(
                            "table could not be removed from the publication", relation_oid=oid, error=said
                        )
                await asyncio.sleep(backoff.next_s())
        finally:
            self._leaving.discard((oid, breaks_writes))

    async def _try_to_remove(self, oid: int, *, breaks_writes: bool) -> bool:
        """True if nothing is left to do."""
        relation = await self._inspector.relation_by_oid(oid)
        if relation is None:
            return True

        def is_wanted() -> bool:
            return not self._breaks_writes(relation) if breaks_writes else self._has_shapes(oid)

        if is_wanted():
            return True
        return await self._publication.drop_table(relation, is_wanted=is_wanted, is_forced=breaks_writes)
