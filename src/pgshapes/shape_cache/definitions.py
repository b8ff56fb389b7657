"""Resolves definitions at the owner and caches the results in this process.

The first requests for a definition share one call to the owner; later ones need a table read only. While the
owner cannot be reached, a definition is compared with the shapes that this process knows: one of the same
comparable was checked when its shape was created. Invariant: a cached result is used only while the
generations of its relations are unchanged. State: the cached
definitions and the calls in progress, of one process.
"""

from __future__ import annotations

import asyncio
from typing import Final

from pgshapes.errors import UNVERIFIED_TEXT, NotNow, OwnerTimeout, OwnerUnavailable, RequestError
from pgshapes.gates.time_limits import READY_TIMEOUT_S
from pgshapes.model.relation import Relation
from pgshapes.model.shape import RawShape, RelationVersion, ResolvedShape
from pgshapes.postgres.definition import resolved_shape, selected_columns
from pgshapes.tables.calls import ResolveShape
from pgshapes.tables.link import OwnerLink
from pgshapes.tables.table import TableReader
from pgshapes.tables.tables_reader import TablesReader
from pgshapes.waiting.single_flight import SingleFlight
from pgshapes.where.clause import prepare_clause

RESOLVE_TIMEOUT_S: Final = 10.0
_KEPT_BYTES: Final = 32 * 2**20
"""Ten thousand definitions with clauses of a kilobyte."""
_ITEM_BYTES: Final = 100
"""Memory of a string or a pair in addition to its characters."""


class Definitions:
    """A cache of resolved definitions."""

    def __init__(self, link: OwnerLink) -> None:
        self._link = link
        self._relations = link.tables.relations
        self._known: dict[RawShape, ResolvedShape] = {}
        self.kept_bytes = 0
        """An estimate of the memory of the cached definitions."""
        self.flights: SingleFlight[RawShape, ResolvedShape] = SingleFlight()
        self.calls = 0
        """Calls to the owner to resolve a definition."""

    async def resolve(self, raw: RawShape) -> ResolvedShape:
        """The resolved shape. Raises RequestError, NotNow, OwnerUnavailable."""
        known = self._known.get(raw)
        if known is not None and find_changed(known, self._relations) is None:
            return known
        try:
            return await self.flights.wait(raw, lambda: self._resolve(raw), RESOLVE_TIMEOUT_S)
        except TimeoutError:
            raise NotNow(UNVERIFIED_TEXT, retry_after_s=1) from None

    async def _resolve(self, raw: RawShape) -> ResolvedShape:
        shape = None if self._link.is_connected else find_known(raw, self._link.tables)
        try:
            shape = shape or await self._ask(raw)
        except OwnerTimeout:
            raise NotNow(UNVERIFIED_TEXT, retry_after_s=1) from None
        except OwnerUnavailable:
            await self._wait_for_owner()
            shape = await self._ask(raw)
        self._forget(raw)
        self._known[raw] = shape
        self.kept_bytes += size_of(raw, shape)
        while self.kept_bytes > _KEPT_BYTES:
            self._forget(next(iter(self._known)))
        return shape

    def _forget(self, raw: RawShape) -> None:
        known = self._known.pop(raw, None)
        if known is not None:
            self.kept_bytes -= size_of(raw, known)

    async def _ask(self, raw: RawShape) -> ResolvedShape:
        self.calls += 1
        shape = await self._link.call(ResolveShape(raw), timeout_s=RESOLVE_TIMEOUT_S)
        assert isinstance(shape, ResolvedShape)
        return shape

    async def _wait_for_owner(self) -> None:
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                await self._link.connected()
        except TimeoutError:
            raise OwnerUnavailable("the owner cannot be reached") from None


def find_known(raw: RawShape, tables: TablesReader) -> ResolvedShape | None:
    """The checked definition of a shape that is in these tables; None if there is none of this definition."""
    relation = tables.relations.get((raw.schema, raw.table))
    if relation is None or not tables.is_current():
        return None
    try:
        columns = selected_columns(raw, relation)
        where = None if raw.where is None else prepare_clause(raw.where, dict(raw.params), relation).sql
    except RequestError:
        return None  # the owner says what is wrong with it
    shape = resolved_shape(raw, relation, columns, where)
    return shape if shape.comparable in tables.handles else None


def size_of(raw: RawShape, shape: ResolvedShape) -> int:
    """An estimate of the memory of a checked definition, in bytes."""
    texts = [raw.where or "", shape.definition.where or "", *(raw.columns or ()), *shape.definition.columns]
    texts += raw.queryable_columns or ()
    texts += (text for pair in raw.params for text in pair)
    size = sum(map(len, texts)) + _ITEM_BYTES * (len(texts) + len(raw.params))
    return size + len(shape.comparable) + len(shape.schema_header) + _ITEM_BYTES * 20


def find_changed(
    shape: ResolvedShape, relations: TableReader[tuple[str, str], Relation]
) -> RelationVersion | None:
    """The first relation of a shape whose row is missing or has another generation than was checked."""
    for used in shape.relations:
        relation = relations.get((used.schema, used.name))
        if relation is None or relation.generation != used.generation:
            return used
    return None
