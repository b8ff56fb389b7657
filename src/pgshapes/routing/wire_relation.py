"""What a RELATION message says against what the shapes were made for (semantics §8.1). Pure.

pgoutput announces a relation before its first change after any DDL or reconnect. Rows come in the announced
order, so shapes that survive are bound to it anew.
"""

from __future__ import annotations

from collections.abc import Sequence

from pgshapes.model.relation import Column, Relation
from pgshapes.model.shape import ShapeDefinition
from pgshapes.postgres.pgoutput_messages import RelationMessage


def published_relation(relation: Relation) -> Relation:
    """The relation with only those columns that the stream carries."""
    columns = tuple(column for column in relation.columns if is_published(column, relation))
    return relation if columns == relation.columns else Relation(*relation._replace(columns=columns))


def is_published(column: Column, relation: Relation) -> bool:
    """Whether the stream can carry a column: stored ones from Postgres 18 on, virtual ones never."""
    return not column.is_generated or (relation.publishes_generated and not column.is_virtual)


def is_same_layout(relation: Relation, message: RelationMessage) -> bool:
    """Whether rows announced by `message` fit a published relation column by column."""
    return (
        relation.schema == message.schema
        and relation.name == message.name
        and len(relation.columns) == len(message.columns)
        and all(
            ours.name == theirs.name and ours.type_oid == theirs.type_oid and ours.typmod == theirs.typmod
            for ours, theirs in zip(relation.columns, message.columns, strict=True)
        )
    )


def survives(
    definition: ShapeDefinition, clause_columns: frozenset[str], relation: Relation, message: RelationMessage
) -> bool:
    """Whether a shape on `relation` lives on after the announced change."""
    if (relation.schema, relation.name) != (message.schema, message.name):
        return False
    if definition.selects_all_columns and len(relation.columns) != len(message.columns):
        return False
    announced = {column.name: (column.type_oid, column.typmod) for column in message.columns}
    needed = {*definition.columns, *definition.key_columns, *clause_columns}
    return all(
        announced.get(column.name) == (column.type_oid, column.typmod)
        for column in relation.columns
        if column.name in needed
    )


def rebound_relation(relation: Relation, message: RelationMessage) -> Relation:
    """The relation with its columns in the announced order; columns that are new get the little that is
    known.
    """
    known = relation.column_index
    columns = tuple(
        relation.columns[known[announced.name]]
        if announced.name in known
        else Column(
            announced.name, announced.type_oid, "", "b", announced.typmod, 0, None, False, None, False
        )
        for announced in message.columns
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
