"""Compares the columns of a RELATION message with the relation for which shapes were created. Pure.

pgoutput announces a relation before its first change after DDL or a reconnect. Rows have the announced column
order, so shapes that continue are bound to the announced columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pgshapes.model.relation import Column, Relation


class LayoutColumn(Protocol):
    """The properties of a column that decide how its values are read."""

    @property
    def name(self) -> str: ...

    @property
    def type_oid(self) -> int: ...

    @property
    def typmod(self) -> int: ...


class Layout(Protocol):
    """A table as announced in the stream, or as described by the system catalogs."""

    @property
    def schema(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def columns(self) -> Sequence[LayoutColumn]: ...


def _typed(column: LayoutColumn) -> tuple[str, int, int]:
    return column.name, column.type_oid, column.typmod


def published_relation(relation: Relation) -> Relation:
    """The relation with only those columns that the stream carries."""
    columns = tuple(column for column in relation.columns if is_published(column, relation))
    return relation if columns == relation.columns else Relation(*relation._replace(columns=columns))


def is_published(column: Column, relation: Relation) -> bool:
    """Whether the stream can carry a column: stored ones from Postgres 18 on, virtual ones never."""
    return not column.is_generated or (relation.publishes_generated and not column.is_virtual)


def is_same_layout(relation: Relation, layout: Layout) -> bool:
    """Whether `layout` has the columns of a published relation, in the same order."""
    return len(relation.columns) == len(layout.columns) and all(
        _typed(ours) == _typed(theirs) for ours, theirs in zip(relation.columns, layout.columns, strict=True)
    )


def has_same_columns(relation: Relation, layout: Layout) -> bool:
    """Whether `layout` has the columns of a published relation, in any order."""
    return {_typed(column) for column in relation.columns} == {_typed(column) for column in layout.columns}


def fits(relation: Relation, needed: frozenset[str], layout: Layout) -> bool:
    """Whether `layout` has the needed columns with the types that they have in `relation`."""
    announced = {_typed(column) for column in layout.columns}
    return all(_typed(column) in announced for column in relation.columns if column.name in needed)


def rebound_relation(relation: Relation, layout: Layout) -> Relation:
    """The relation with the columns of `layout`; new ones have only name, type and modifier."""
    known = {_typed(column): column for column in relation.columns}
    columns = tuple(
        known.get(_typed(announced))
        or Column(announced.name, announced.type_oid, "", "b", announced.typmod, 0, None, False, None, False)
        for announced in layout.columns
    )
    return Relation(*relation._replace(columns=columns))


def row_order(root: Relation, names: Sequence[str]) -> tuple[int, ...] | None:
    """The index of each of the root's columns in a leaf's rows; None if the order is the same.

    Raises KeyError if the leaf lacks a column, which Postgres does not allow for an attached partition.
    """
    if tuple(names) == tuple(column.name for column in root.columns):
        return None
    place = {name: index for index, name in enumerate(names)}
    return tuple(place[column.name] for column in root.columns)


def names_of(layout: Layout) -> tuple[str, ...]:
    """The names of the columns, in order."""
    return tuple(column.name for column in layout.columns)


def moved_columns(before: Sequence[str], after: Sequence[str]) -> frozenset[str]:
    """The names that stand in another order than before.

    A column keeps its place for life, so these are names that columns have exchanged.
    """
    kept_before = [name for name in before if name in after]
    kept_after = [name for name in after if name in before]
    return frozenset(one for one, other in zip(kept_before, kept_after, strict=True) if one != other)
