"""The shapes on one table: their index, their shared projections, and the order in which the stream sends
columns. Pure.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from pgshapes.model.change import Change, Operation, Row
from pgshapes.model.relation import Relation
from pgshapes.model.shape import ShapeDefinition
from pgshapes.postgres.pgoutput_messages import RelationMessage
from pgshapes.routing.projection import Origin, Projection, RenderedMessage
from pgshapes.routing.routed_shape import RoutedShape
from pgshapes.routing.shape_index import ShapeIndex
from pgshapes.routing.wire_relation import (
    is_same_layout,
    published_relation,
    rebound_relation,
    row_order,
    survives,
)
from pgshapes.where.clause import Clause

Collected = dict[RoutedShape, list[RenderedMessage]]


class RelationShapes:
    """Members are added and removed by the router; rows are in the order of `relation.columns`."""

    def __init__(self, relation: Relation) -> None:
        self.relation = published_relation(relation)
        self.members: dict[str, RoutedShape] = {}
        self._index: ShapeIndex[RoutedShape] = ShapeIndex()
        self._projections: dict[tuple[tuple[str, ...], str], Projection] = {}
        self._leaf_order: dict[int, tuple[int, ...]] = {}

    def add(self, handle: str, definition: ShapeDefinition, clause: Clause | None) -> RoutedShape:
        """A new member, not yet told from where on it listens."""
        shape = RoutedShape(handle, definition, clause, self._projection(definition), 0)
        self.members[handle] = shape
        self._index.add(shape, clause.compile(self.relation) if clause else None)
        return shape

    def remove(self, handle: str) -> None:
        """Take a member out."""
        self._index.remove(self.members.pop(handle))

    def ended_by(self, message: RelationMessage) -> list[str]:
        """The handles of the shapes that the announced layout ends."""
        if is_same_layout(self.relation, message):
            return []
        return [handle for handle, shape in self.members.items() if not self._survives(shape, message)]

    def bind(self, message: RelationMessage) -> None:
        """Follow the announced layout; the shapes that it ends have been removed before."""
        if is_same_layout(self.relation, message):
            return
        self.relation = rebound_relation(self.relation, message)
        self._leaf_order.clear()
        self._projections.clear()
        self._index = ShapeIndex()
        for shape in self.members.values():
            shape.projection = self._projection(shape.definition)
            self._index.add(shape, shape.clause.compile(self.relation) if shape.clause else None)

    def bind_leaf(self, message: RelationMessage) -> list[str]:
        """Learn the column order of a partition leaf; a leaf that lacks a column ends all shapes."""
        try:
            order = row_order(self.relation, [column.name for column in message.columns])
        except KeyError:
            return list(self.members)
        if order is None:
            self._leaf_order.pop(message.oid, None)
        else:
            self._leaf_order[message.oid] = order
        return []

    def collect(self, change: Change, origin: Origin, into: Collected) -> None:
        """Add what the change means to the messages of each shape that it touches."""
        order = self._leaf_order.get(change.relation_oid)
        old, new = change.old, change.new
        if order is not None:
            old, new = _reorder(old, order), _reorder(new, order)
        if change.operation is Operation.INSERT:
            assert new is not None
            self._write_inserts(self._matching(new), origin, change.op, new, into)
        elif change.operation is Operation.DELETE:
            assert old is not None
            self._write_deletes(self._matching(old), origin, change.op, old, into)
        else:
            assert old is not None and new is not None
            self._write_update(origin, change.op, old, new, into)

    def _write_update(self, origin: Origin, op: int, old: Row, new: Row, into: Collected) -> None:
        before, after = self._matching(old), self._matching(new)
        rendered: dict[Projection, tuple[RenderedMessage, ...]] = {}
        for shape in after:
            if shape not in before:
                continue
            projection = shape.projection
            messages = rendered.get(projection)
            if messages is None:
                messages = rendered[projection] = projection.update(origin, op, old, new)
            if messages:
                into.setdefault(shape, []).extend(messages)
        if before is not after:
            self._write_deletes([s for s in before if s not in after], origin, op, old, into)
            self._write_inserts([s for s in after if s not in before], origin, op, new, into)

    @staticmethod
    def _write_inserts(
        shapes: AbstractSet[RoutedShape] | list[RoutedShape],
        origin: Origin,
        op: int,
        new: Row,
        into: Collected,
    ) -> None:
        rendered: dict[Projection, tuple[RenderedMessage, ...]] = {}
        for shape in shapes:
            messages = rendered.get(shape.projection)
            if messages is None:
                messages = rendered[shape.projection] = shape.projection.insert(origin, op, new)
            into.setdefault(shape, []).extend(messages)

    @staticmethod
    def _write_deletes(
        shapes: AbstractSet[RoutedShape] | list[RoutedShape],
        origin: Origin,
        op: int,
        old: Row,
        into: Collected,
    ) -> None:
        rendered: dict[Projection, tuple[RenderedMessage, ...]] = {}
        for shape in shapes:
            messages = rendered.get(shape.projection)
            if messages is None:
                messages = rendered[shape.projection] = shape.projection.delete(origin, op, old)
            into.setdefault(shape, []).extend(messages)

    def _matching(self, row: Row) -> AbstractSet[RoutedShape]:
        return self._index.matching(row)

    def _survives(self, shape: RoutedShape, message: RelationMessage) -> bool:
        columns = shape.clause.columns if shape.clause else frozenset[str]()
        return survives(shape.definition, columns, self.relation, message)

    def _projection(self, definition: ShapeDefinition) -> Projection:
        key = (definition.columns, definition.replica)
        if key not in self._projections:
            self._projections[key] = Projection(self.relation, definition.columns, definition.replica)
        return self._projections[key]


def _reorder(row: Row | None, order: tuple[int, ...]) -> Row | None:
    return None if row is None else tuple(row[index] for index in order)
