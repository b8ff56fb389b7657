"""What a RELATION message says against what the shapes were made for. Pure.

pgoutput announces a relation before its first change after any DDL or reconnect. Rows come in the announced
order, so shapes that survive are bound to it anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pgshapes.model.relation import Column, Relation


class LayoutColumn(Protocol):
    """A column, as far as rows depend on it."""

    @property
    def name(self) -> str: ...

    @property
    def type_oid(self) -> int: ...

    @property
    def typmod(self) -> int: ...


class Layout(Protocol):
    """A table as the stream announces it, or as the catalogue has it."""

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
    """Whether rows of `layout` fit a published relation column by column."""
    return len(relation.columns) == len(layout.columns) and all(
        _typed(ours) == _typed(theirs) for ours, theirs in zip(relation.columns, layout.columns, strict=True)
    )


def has_same_columns(relation: Relation, layout: Layout) -> bool:
    """Whether rows of `layout` have the columns of a published relation, in whatever order."""
    return {_typed(column) for column in relation.columns} == {_typed(column) for column in layout.columns}


def fits(relation: Relation, needed: frozenset[str], layout: Layout) -> bool:
    """Whether rows of `layout` have the needed columns as `relation` has them."""
    announced = {_typed(column) for column in layout.columns}
    return all(_typed(column) in announced for column in relation.columns if column.name in needed)


def rebound_relation(relation: Relation, layout: Layout) -> Relation:
    """The relation with the columns of `layout`; of those that are new the little is known that it tells."""
    known = {_typed(column): column for column in relation.columns}
    columns = tuple(
        known.get(_typed(told))
        or Column(told.name, told.type_oid, "", "b", told.typmod, 0, None, False, None, False)
        for told in layout.columns
    )
    return Relation(*relation._replace(columns=columns))


def row_order(root: Relation, names: Sequence[str]) -> tuple[int, ...] | None:
    """Where each of the root's columns stands in a leaf's rows; None when the order is the same.

    Raises KeyError when the leaf lacks a column, which Postgres rules out for an attached partition.
    """
    if tuple(names) == tuple(column.name for column in root.columns):
        return None
    place = {name: index for index, name in enumerate(names)}
    return tuple(place[column.name] for column in root.columns)
