"""The shapes on one table: index, shared projections, and the column order of the stream. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from typing import Final

from pgshapes.model.change import Change, Operation, Row
from pgshapes.model.relation import Part, Relation
from pgshapes.model.shape import ShapeDefinition
from pgshapes.postgres.pgoutput_messages import RelationMessage
from pgshapes.routing.failures import Evaluate, ShapeFailure, UnknownLayout
from pgshapes.routing.metering import Meter
from pgshapes.routing.one_by_one import Judged, Verdicts, write_each
from pgshapes.routing.projection import Origin, Projection, RenderedMessage
from pgshapes.routing.routed_shape import Collected, Decision, RoutedShape, decision_for
from pgshapes.routing.shape_index import ShapeIndex
from pgshapes.routing.wire_relation import (
    Layout,
    fits,
    has_same_columns,
    is_same_layout,
    moved_columns,
    names_of,
    published_relation,
    rebound_relation,
    row_order,
)
from pgshapes.where.clause import Clause

Render = Callable[[Projection], tuple[RenderedMessage, ...]]

_Kind = tuple[tuple[str, str], tuple[tuple[str, ...], tuple[str, ...], str]]

_OBSOLETE_ORDER: Final[tuple[int, ...]] = (-1,)
"""In place of a column order: rows of this relation are skipped."""
_UNKNOWN_ORDER: Final[tuple[int, ...]] = (-2,)
"""In place of a column order: rows of this relation cannot be read."""


def run_as_it_is(matches: Callable[[Row], bool], row: Row) -> bool:
    """An `Evaluate` that has no more room than there was."""
    return matches(row)


class RelationShapes:
    """The shapes on one relation; the router adds and removes them.

    Rows are brought into the order of `relation.columns`, the order of the latest announcement. A shape with
    columns that are not announced yet waits for the announcement: rows that arrive before it were written
    before the columns existed, so the shape's snapshot sees them.
    """

    def __init__(self, relation: Relation, evaluate: Evaluate, meter: Meter) -> None:
        self.relation = published_relation(relation)
        self._evaluate = evaluate
        self._meter = meter
        self.members: dict[str, RoutedShape] = {}
        self.newest_number = 0
        """`RoutedShape.number` of the shape that was added last."""
        self._waiting: set[str] = set()
        self._index: ShapeIndex[RoutedShape] = ShapeIndex(self._meter)
        self._projections: dict[_Kind, Projection] = {}
        self._orders: dict[int, tuple[int, ...]] = {}

    def add(
        self, handle: str, relation: Relation, definition: ShapeDefinition, clause: Clause | None
    ) -> RoutedShape:
        """Add a shape; the caller sets `skip_until`. Raises RequestError if its clause cannot be evaluated on
        the announced columns.
        """
        own = published_relation(relation)
        projection = Projection(own, definition.columns, definition.key_columns, definition.replica)
        shape = RoutedShape(handle, definition, clause, own, relation, projection, 0)
        try:
            self._add_to_index(shape)
        except BaseException:
            self._waiting.discard(handle)
            raise
        self.members[handle] = shape
        return shape

    def remove(self, handle: str) -> list[ShapeFailure]:
        """Remove a shape. Unknown handles are ignored, so that it can be repeated.

        Returns other shapes that are in no index any more: they cannot continue.
        """
        shape = self.members.pop(handle, None)
        if shape is None:
            return []
        if handle in self._waiting:
            self._waiting.discard(handle)
            return []
        try:
            self._index.remove(shape)
        except Exception:
            return self._index_all()  # it may be left in a part of the index
        return []

    def _index_all(self) -> list[ShapeFailure]:
        """Make the index anew. Returns the shapes that could not be added, with what was raised."""
        self._waiting.clear()
        self._index = ShapeIndex(self._meter)
        failures = []
        for shape in self.members.values():
            try:
                self._add_to_index(shape)
            except Exception as error:
                failures.append(ShapeFailure((shape,), error))
        return failures

    def ended_by(
        self,
        message: RelationMessage,
        previous: RelationMessage | None,
        applies: Callable[[RoutedShape], bool],
    ) -> tuple[list[str], list[ShapeFailure]]:
        """The handles of the shapes that cannot continue with an announced layout of the table or of a leaf,
        and those of which it cannot be said.

        `previous` is the announcement before. A shape to which the transaction does not apply has seen the
        table as it was after it, and waits for the next announcement if it does not fit.
        """
        verdicts: dict[object, bool] = {}
        ended, failures = [], []
        for handle, shape in self.members.items():
            try:
                if not applies(shape):
                    continue
                kind = (shape.known.generation, shape.needed_columns, shape.definition.selects_all_columns)
                if kind not in verdicts:
                    verdicts[kind] = self._continues(shape, message, previous)
                if not verdicts[kind]:
                    ended.append(handle)
            except Exception as error:
                failures.append(ShapeFailure((shape,), error))
        return ended, failures

    def _continues(
        self, shape: RoutedShape, message: RelationMessage, previous: RelationMessage | None
    ) -> bool:
        """Whether a shape can continue with an announced layout.

        Columns in another order have exchanged their names. Those of a leaf may have another order than in
        its root; of one that the shape was not compared with, the announcement before tells it.
        """
        is_leaf = message.oid != self.relation.oid
        if not is_leaf and (shape.known.schema, shape.known.name) != (message.schema, message.name):
            return False
        before = _order(shape.known, message.oid) or names_of(previous or message)
        moved = moved_columns(before, names_of(message))
        return not shape.needed_columns & moved and _survives(shape, message)

    def bind(self, message: RelationMessage, *, is_leaf: bool = False) -> list[ShapeFailure]:
        """Read rows as announced. The caller has removed the shapes that cannot continue.

        Returns the shapes whose clause cannot be evaluated on the announced columns, which is a RequestError,
        or that cannot be added for another reason.
        """
        is_known = has_same_columns if is_leaf else is_same_layout
        failures = []
        if not is_known(self.relation, message):
            self.relation = rebound_relation(self.relation, message)
            self._orders.clear()
            self._projections.clear()
            failures = self._index_all()
        self._note_order(message)
        return failures

    def find_changed(
        self,
        current: Relation,
        handles: AbstractSet[str],
        is_empty: Callable[[Part], bool],
        *,
        is_listed: bool,
    ) -> dict[str, str]:
        """Those of these shapes that end on the table as it is now, each with the reason."""
        found: dict[str, str] = {}
        reasons: dict[object, str | None] = {}
        for handle in handles & self.members.keys():
            shape = self.members[handle]
            kind = (shape.known.generation, shape.needed_columns, shape.definition.selects_all_columns)
            if kind not in reasons:
                reasons[kind] = shape.find_change(current, is_empty, is_listed=is_listed)
            reason = reasons[kind]
            if reason is not None:
                found[handle] = reason
        return found

    def renew(self, current: Relation, handles: AbstractSet[str]) -> list[str]:
        """Note that these shapes continue on the table as it is now; returns those for which that is new."""
        renewed = []
        for handle in handles & self.members.keys():
            shape = self.members[handle]
            if shape.known.generation != current.generation:
                renewed.append(handle)
                shape.known = current
        return renewed

    def known_relations(self) -> list[Relation]:
        """The table as it was when the shapes were last compared with it, in each of its versions once."""
        return list({shape.known.stamp: shape.known for shape in self.members.values()}.values())

    def has_moved_parts(self, current: Relation) -> bool:
        """Whether a part was attached or detached since a shape was created; not if it was only created."""
        now = {(part.oid, part.attachment) for part in current.parts}
        return bool(self.attached_parts(current)) or any(
            (part.oid, part.attachment) not in now for parts in self._known_parts() for part in parts
        )

    def attached_parts(self, current: Relation) -> list[Part]:
        """The parts that were attached since a shape was created, and may have had rows."""
        common = set.intersection(*({part.oid for part in parts} for parts in self._known_parts()))
        return [part for part in current.parts if part.oid not in common and not part.is_created_attached]

    def _known_parts(self) -> Iterable[tuple[Part, ...]]:
        return {shape.known.generation: shape.known.parts for shape in self.members.values()}.values()

    def lose_layout(self, wire_oid: int) -> None:
        """Read no row of a relation any more: its announcement could not be processed."""
        self._orders[wire_oid] = _UNKNOWN_ORDER

    def forget_leaf(self, wire_oid: int) -> None:
        """Forget the column order of a relation that is a leaf no longer."""
        self._orders.pop(wire_oid, None)

    def bind_previous(self, message: RelationMessage) -> None:
        """Read rows as announced before the first shape was added.

        Rows of a layout that differs from the system catalogs are skipped: they were written before the
        table changed, so the shapes' snapshots see them.
        """
        if has_same_columns(self.relation, message):
            self._note_order(message)
        else:
            self._orders[message.oid] = _OBSOLETE_ORDER

    def _note_order(self, message: RelationMessage) -> None:
        order = row_order(self.relation, [column.name for column in message.columns])
        if order is None:
            self._orders.pop(message.oid, None)
        else:
            self._orders[message.oid] = order

    def _add_to_index(self, shape: RoutedShape) -> None:
        """Add the shape, or note that it waits. Raises RequestError if its clause cannot be compiled; it
        waits then, too, so that it can be removed.
        """
        self._waiting.add(shape.handle)
        if fits(shape.relation, shape.needed_columns, self.relation):
            shape.projection = self._projection(shape.definition)
            predicate = shape.clause.compile(self._layout_for(shape)) if shape.clause else None
            self._index.add(shape, predicate)
            self._waiting.discard(shape.handle)

    def _layout_for(self, shape: RoutedShape) -> Relation:
        """The shape's relation with the column order of the stream."""
        if shape.relation.columns == self.relation.columns:
            return shape.relation
        return rebound_relation(shape.relation, self.relation)

    def collect(self, change: Change, origin: Origin, into: Collected) -> None:
        """Append the messages for a change to those of each shape that it affects.

        After an error some shapes may have their messages; `collect_each` says for which shape it was raised.
        Raises OutOfTime before any has.
        """
        order = self._orders.get(change.relation_oid)
        old, new = change.old, change.new
        if order is not None:
            if order is _OBSOLETE_ORDER:
                return
            old, new = _ordered(old, new, order)
        if change.operation is Operation.INSERT:
            assert new is not None
            _write(self._index.matching(new), into, _insert(origin, change.op, new))
        elif change.operation is Operation.DELETE:
            assert old is not None
            _write(self._index.matching(old), into, _delete(origin, change.op, old))
        else:
            assert old is not None and new is not None
            self._write_update(origin, change.op, old, new, into)

    def truncate(self, origin: Origin, collected: Collected) -> list[str]:
        """The handles of the shapes whose snapshots do not contain a truncate of the table; those without a
        snapshot note it.
        """
        ended = []
        for shape in self.members.values():
            decision = decision_for(shape, origin.xid, origin.commit_lsn)
            if decision is Decision.SKIP:
                continue
            collected.pop(shape, None)
            if decision is Decision.BUFFER:
                shape.buffer_truncate(origin.xid, origin.commit_lsn)
            else:
                ended.append(shape.handle)
        return ended

    def collect_each(self, change: Change, origin: Origin, into: Collected) -> list[ShapeFailure]:
        """As `collect`, for each shape alone: the failures, of shapes that have no messages of this change.

        Raises what concerns all shapes of the table.
        """
        order = self._orders.get(change.relation_oid)
        if order is _OBSOLETE_ORDER:
            return []
        old, new = _ordered(change.old, change.new, order)
        before = self._verdicts(old)
        after = before if new == old else self._verdicts(new)
        return write_each(Judged(old, new, before, after), change.op, origin, into)

    def _verdicts(self, row: Row | None) -> Verdicts:
        return {} if row is None else self._index.verdicts(row, self._evaluate)

    def _write_update(self, origin: Origin, op: int, old: Row, new: Row, into: Collected) -> None:
        before, after = self._index.matching(old), self._index.matching(new)
        stayed = after if before is after else [shape for shape in after if shape in before]
        _write(stayed, into, lambda projection: projection.update(origin, op, old, new))
        if before is not after:
            _write([shape for shape in before if shape not in after], into, _delete(origin, op, old))
            _write([shape for shape in after if shape not in before], into, _insert(origin, op, new))

    def _projection(self, definition: ShapeDefinition) -> Projection:
        """The projection of a definition, which has the names of its own table: after a rename, shapes of the
        old name are ended only once it was noticed.
        """
        names = (definition.schema, definition.table)
        kind = (definition.columns, definition.key_columns, definition.replica)
        if (names, kind) not in self._projections:
            relation = Relation(*self.relation._replace(schema=names[0], name=names[1]))
            self._projections[names, kind] = Projection(relation, *kind)
        return self._projections[names, kind]


def _order(known: Relation, oid: int) -> tuple[str, ...]:
    """The names of the columns of a table or of its leaf, in order; empty if it is not known."""
    columns = next((part.columns or names_of(known) for part in known.parts if part.oid == oid), ())
    return names_of(known) if oid == known.oid else columns


def _survives(shape: RoutedShape, layout: Layout) -> bool:
    if shape.definition.selects_all_columns and len(shape.relation.columns) != len(layout.columns):
        return False
    return fits(shape.relation, shape.needed_columns, layout)


def _ordered(
    old: Row | None, new: Row | None, order: tuple[int, ...] | None
) -> tuple[Row | None, Row | None]:
    """The rows in the order of the table's columns. Raises UnknownLayout."""
    if order is None:
        return old, new
    if order is _UNKNOWN_ORDER:
        raise UnknownLayout("the columns of the relation are not known")
    return _reorder(old, order), _reorder(new, order)


def _reorder(row: Row | None, order: tuple[int, ...]) -> Row | None:
    return None if row is None else tuple(row[index] for index in order)


def _insert(origin: Origin, op: int, new: Row) -> Render:
    return lambda projection: projection.insert(origin, op, new)


def _delete(origin: Origin, op: int, old: Row) -> Render:
    return lambda projection: projection.delete(origin, op, old)


def _write(shapes: Iterable[RoutedShape], into: Collected, render: Render) -> None:
    """Append a change to the messages of these shapes; render it once per projection."""
    rendered: dict[Projection, tuple[RenderedMessage, ...]] = {}
    for shape in shapes:
        messages = rendered.get(shape.projection)
        if messages is None:
            messages = rendered[shape.projection] = render(shape.projection)
        if messages:
            into.setdefault(shape, []).extend(messages)
