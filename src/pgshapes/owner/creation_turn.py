"""One creation's place among those that make progress.

Given up while the creation waits for a table's old writers, which may take minutes and costs nothing here,
and taken again before it goes on: a locked table must not use up the places of others (design §6, 7).
"""

from __future__ import annotations

from pgshapes.model.shape import ResolvedShape
from pgshapes.owner.creation_lock import CreationLocks
from pgshapes.waiting.fair_places import FairPlaces


class CreationTurn:
    """Use as `async with`. What it tells of the creation is seen in its lock row."""

    def __init__(
        self, places: FairPlaces[int], locks: CreationLocks, shape: ResolvedShape, token: int
    ) -> None:
        self._places = places
        self._locks = locks
        self._comparable = shape.comparable
        self._token = token
        self._table = shape.definition.relation_oid
        self._has_place = False

    async def __aenter__(self) -> CreationTurn:
        await self._take()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._give_back()

    def wait_for_table(self) -> None:
        """The creation waits for somebody's lock on the table."""
        self._locks.wait_for_table(self._comparable, self._token)
        self._give_back()

    async def go_on(self) -> None:
        """It has the table; to be awaited before more is done."""
        await self._take()
        self._locks.go_on(self._comparable, self._token)

    async def _take(self) -> None:
        if not self._has_place:
            await self._places.take(self._table)
            self._has_place = True

    def _give_back(self) -> None:
        if self._has_place:
            self._has_place = False
            self._places.give_back(self._table)
