"""Removes tables without shapes from the publication.

A table that stays in it costs its owner replica identity FULL and WAL that nobody reads, so an attempt that
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

    async def drop_table(self, relation: Relation, *, is_wanted: Callable[[], bool]) -> bool:
        """Remove the table unless it is wanted; True if nothing is left to do."""


class Unpublisher:
    """Begins a removal for each table without shapes, one at a time for each."""

    def __init__(
        self,
        inspector: Inspects,
        publication: Publishes,
        has_shapes: Callable[[int], bool],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._inspector = inspector
        self._publication = publication
        self._has_shapes = has_shapes
        self._spawn = spawn
        self._leaving: set[int] = set()

    def begin(self, oids: Iterable[int]) -> None:
        """Remove those of these tables that have no shapes."""
        for oid in oids:
            if oid not in self._leaving and not self._has_shapes(oid):
                self._leaving.add(oid)
                self._spawn(self._remove(oid))

    async def _remove(self, oid: int) -> None:
        backoff, said = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S), ""
        try:
            while not self._has_shapes(oid):
                try:
                    relation = await self._inspector.relation_by_oid(oid)
                    if relation is None or await self._publication.drop_table(
                        relation, is_wanted=lambda: self._has_shapes(oid)
                    ):
                        return
                except PgShapesError as error:
                    if error.message != said:
                        said = error.message
                        _log.warning(
                            "table could not be removed from the publication", relation_oid=oid, error=said
                        )
                await asyncio.sleep(backoff.next_s())
        finally:
            self._leaving.discard(oid)
