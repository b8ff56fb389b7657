"""Resolves a definition as the client wrote it: checks it, makes it canonical, computes its comparable; and
writes the table `relations`.

Runs at the owner, which can query Postgres; callers cache the result until the generation of a relation
changes. The table is checked against the system catalogs, the types of the clause by Postgres itself. Code
that finds out that a relation has changed invalidates it in `KnownRelations`, for callers and for the
inspector's cache; the next request looks it up again. State: the rows of `relations`, owned by the
replicator's loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Protocol

from pgshapes.errors import RequestError, SchemaChanged
from pgshapes.model.followable import Obstacle
from pgshapes.model.relation import Relation
from pgshapes.model.shape import RawShape, ResolvedShape
from pgshapes.owner.refusal_log import RefusalLog
from pgshapes.postgres.definition import listed, resolved_shape, selected_columns
from pgshapes.postgres.refusals import refuse_table
from pgshapes.routing.wire_relation import is_published
from pgshapes.tables.tables import Tables
from pgshapes.waiting.fair_semaphore import FairSemaphore
from pgshapes.waiting.single_flight import SharedLookUps
from pgshapes.where.clause import Clause, prepare_clause


class InvalidatesRelations(Protocol):
    """The inspector, as far as it is used here."""

    def clean(self, oid: int | None) -> None:
        """Drop what is cached about a relation; None stands for all relations."""


_KEPT: Final = 4


class KnownRelations:
    """The only writer of `relations`."""

    def __init__(self, inspector: InvalidatesRelations, tables: Tables) -> None:
        self._inspector = inspector
        self._tables = tables
        self._recent: dict[int, tuple[Relation, ...]] = {}
        """The last states of each relation that definitions were checked against, by oid."""

    def publish(self, relation: Relation) -> None:
        """Add a relation or replace its row."""
        name = (relation.schema, relation.name)
        recent = self._recent.get(relation.oid, ())
        if not recent or recent[-1].generation != relation.generation:
            self._recent[relation.oid] = (*recent, relation)[-_KEPT:]
        if self._tables.relations.get(name) != relation:
            self._tables.relations.put(name, relation)

    def recall(self, oid: int, generation: int) -> Relation | None:
        """The relation as a definition was checked against it, if that was not long ago.

        A creation may begin with it although the table was changed since: its snapshot compares them. The
        first creation on a table changes it, too, when it sets the replica identity.
        """
        return next((one for one in self._recent.get(oid, ()) if one.generation == generation), None)

    def oids(self) -> set[int]:
        """The relations that callers know."""
        return {relation.oid for _, relation in self._tables.relations.items()}

    def invalidate(self, oid: int) -> None:
        """Remove a relation that may have changed, here and from the inspector's cache."""
        self.withdraw_other(oid, None)

    def invalidate_all(self) -> None:
        """Remove all relations."""
        self._inspector.clean(None)
        self._recent.clear()
        for name, _ in list(self._tables.relations.items()):
            self._tables.relations.remove(name)

    def withdraw_other(self, oid: int, stamp: str | None) -> None:
        """Remove a relation that was read with another stamp than this one, here and from the inspector's
        cache.
        """
        other = [
            name
            for name, relation in self._tables.relations.items()
            if relation.oid == oid and relation.stamp != stamp
        ]
        if other or stamp is None:
            self._inspector.clean(oid)
        for name in other:
            self._tables.relations.remove(name)


# undefined_column, undefined_table
_UNDEFINED: Final = frozenset({"42703", "42P01"})


class Inspects(Protocol):
    """The inspector, as the resolver uses it."""

    @property
    def connections(self) -> int:
        """How many look-ups can run concurrently."""

    async def relation(self, schema: str, name: str) -> Relation:
        """The table, or RequestError about `table`."""

    async def is_current(self, relation: Relation) -> bool:
        """Whether the table is still as it was read."""

    async def describe(self, sql: str) -> tuple[int, ...]:
        """Result types of a statement, as Postgres describes it; RequestError about `where`."""


class ShapeResolver:
    """Checks definitions and publishes their relations. `obstacle_of` returns why a table cannot be followed.

    Describing a clause waits while its table is locked, so each table uses at most half of the connections.
    """

    def __init__(
        self,
        inspector: Inspects,
        known: KnownRelations,
        refusals: RefusalLog,
        obstacle_of: Callable[[Relation], Obstacle | None],
    ) -> None:
        self._inspector = inspector
        self._known = known
        self._refusals = refusals
        self._obstacle_of = obstacle_of
        self._slots: FairSemaphore[int] = FairSemaphore(inspector.connections)
        # A refusal answers for a short time, so that a herd for a table that cannot be followed is one query.
        self._followable = SharedLookUps(self._look_up, keep=False)

    async def resolve(self, raw: RawShape) -> ResolvedShape:
        """The resolved shape. Raises RequestError, SchemaChanged, NotNow without a database.

        A definition is refused only if its table is still as it was read: a migration may have added what is
        missing.
        """
        name = (raw.schema, raw.table)
        relation = await self._followable.get(name)
        try:
            return await self._check(raw, relation)
        except (RequestError, SchemaChanged):
            if await self._inspector.is_current(relation):
                raise
        self._known.invalidate(relation.oid)
        return await self._check(raw, await self._followable.get(name))

    async def close(self) -> None:
        """Cancel running look-ups."""
        await self._followable.close()

    async def _look_up(self, name: tuple[str, str]) -> Relation:
        """The table. Raises RequestError if it cannot be followed.

        Such a table is not kept: not all that decides about it is in its stamp.
        """
        relation = await self._inspector.relation(*name)
        obstacle = self._obstacle_of(relation)
        if obstacle is not None and not await self._inspector.is_current(relation):
            self._known.invalidate(relation.oid)
            relation = await self._inspector.relation(*name)
            obstacle = self._obstacle_of(relation)
        if obstacle is not None:
            self._known.invalidate(relation.oid)
            refused = refuse_table(relation, obstacle)
            self._refusals.note(refused)
            raise refused
        return relation

    async def _check(self, raw: RawShape, relation: Relation) -> ResolvedShape:
        self._known.publish(relation)
        columns = selected_columns(raw, relation)
        _refuse_generated(columns, relation, is_explicit=raw.columns is not None)
        clause = await self._clause(raw, relation)
        _refuse_unreadable({*columns, *(clause.columns if clause else ())}, relation)
        shape = resolved_shape(raw, relation, columns, clause.sql if clause else None)
        self._refusals.note_header(relation, len(shape.schema_header))
        return shape

    async def _clause(self, raw: RawShape, relation: Relation) -> Clause | None:
        if raw.where is None:
            return None
        prepared = prepare_clause(raw.where, dict(raw.params), relation)
        try:
            async with self._slots.slot(relation.oid):
                described = await self._inspector.describe(prepared.authority_sql)
        except RequestError as error:
            if error.details.get("sqlstate") not in _UNDEFINED:
                raise
            # The clause was checked against the cached relation, so the table has changed since.
            self._known.invalidate(relation.oid)
            raise SchemaChanged(f'table "{raw.schema}"."{raw.table}" was changed') from error
        return prepared.confirm(described)


def _refuse_generated(wanted: tuple[str, ...], relation: Relation, *, is_explicit: bool) -> None:
    generated = [
        column.name
        for column in relation.columns
        if column.name in wanted and not is_published(column, relation)
    ]
    if not generated:
        return
    names = listed(sorted(generated))
    text = f"The following columns are generated and cannot be included in the shape: {names}"
    if not is_explicit:
        text += (
            ". You can exclude them from the shape by explicitly listing which columns to fetch"
            " in the 'columns' query param"
        )
    raise RequestError.field("columns", text)


def _refuse_unreadable(names: Iterable[str], relation: Relation) -> None:
    """The role has grants for some columns only. The key is needed in any case."""
    index = relation.column_index
    unreadable = sorted(name for name in names if not relation.columns[index[name]].is_readable)
    if unreadable:
        text = f"The role of the server may not read the following columns: {listed(unreadable)}"
        raise RequestError.field("columns", text)
