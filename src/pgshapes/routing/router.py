"""Routes committed transactions to the logs of the shapes that they affect. Pure; owned by the replicator's
loop.

Not here: which shapes a row belongs to (`shape_index`), how a change is rendered (`projection`). A row that
starts to match a clause is an insert, one that ceases to match is a delete. A transaction of several
fragments gets its `last` mark once, on its last message for the shape. A truncate ends every shape on its
table that has its snapshot. For a shape that waits for its snapshot it is buffered like any change: usually
the snapshot sees it.

Whatever is raised for one shape or one relation ends that alone (`failures`). Invariant: `route` returns the
messages of every shape that it did not end, or raises before it has done more than to end shapes, so that the
fragment can be routed again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import replace
from typing import Final

from pgshapes.errors import RequestError
from pgshapes.model.change import Change, Fragment, Operation
from pgshapes.model.lsn import Lsn
from pgshapes.model.relation import Relation
from pgshapes.model.shape import ShapeDefinition
from pgshapes.model.visibility import SnapshotVisibility
from pgshapes.postgres.pgoutput_messages import RelationMessage
from pgshapes.routing.announcements import Announcement, Announcements
from pgshapes.routing.delivered import DeliveredTransaction, DeliveredTransactions
from pgshapes.routing.delivery import Delivery, release, split
from pgshapes.routing.failures import Evaluate, ShapeFailure, withdraw
from pgshapes.routing.metering import Meter, OutOfTime
from pgshapes.routing.one_by_one import key_of
from pgshapes.routing.outdated import OutdatedChanges
from pgshapes.routing.projection import Origin
from pgshapes.routing.relation_shapes import RelationShapes, run_as_it_is
from pgshapes.routing.routed import Routed
from pgshapes.routing.routed_shape import Collected, Decision, RoutedShape, decision_for
from pgshapes.routing.routed_tables import RoutedTables
from pgshapes.routing.type_history import TypeHistory
from pgshapes.where.clause import Clause
from pgshapes.where.types import large_values

_LOOK_AT: Final = 0b1110
"""The bits of a change's op number that are set for every eighth change, after which the clock is read."""


class Router(RoutedTables):
    """All registered shapes, by table."""

    def __init__(
        self,
        delivered: DeliveredTransactions,
        evaluate: Evaluate = run_as_it_is,
        meter: Meter | None = None,
    ) -> None:
        super().__init__()
        self.delivered = delivered
        self.failures: list[ShapeFailure] = []
        """What was raised for shapes, which end by it, since the last fragment."""
        self._evaluate = evaluate
        self.meter = meter or Meter()
        """Limits how long `route` takes."""
        large_values.keep()
        self._truncated: list[str] = []
        self._outdated_shapes: list[str] = []
        self.types = TypeHistory()
        self._outdated = OutdatedChanges()
        self._roots: dict[int, set[int]] = {}
        self._targets: dict[int, tuple[RelationShapes, ...]] = {}
        self.announcements = Announcements()
        self._delivery = Delivery()
        self.last_number = 0
        """`RoutedShape.number` of the shape that was registered last."""

    def has_relation(self, wire_oid: int) -> bool:
        """Whether any shape depends on rows of this relation, which may be a leaf."""
        return bool(self._targets_of(wire_oid))

    def target_tables(self, wire_oid: int) -> tuple[int, ...]:
        """The tables with shapes to which rows of this relation are routed: itself and its roots."""
        return tuple(members.relation.oid for members in self._targets_of(wire_oid))

    def _targets_of(self, wire_oid: int) -> tuple[RelationShapes, ...]:
        targets = self._targets.get(wire_oid)
        if targets is None:
            tables = (wire_oid, *self._roots.get(wire_oid, ()))
            found = (self._relations.get(oid) for oid in tables)
            targets = self._targets[wire_oid] = tuple(members for members in found if members is not None)
        return targets

    def skip_until(self, handle: str) -> Lsn:
        """Transactions committed at or before this LSN are in the shape's snapshot, not in its log."""
        return self._shapes[handle].skip_until

    def register(
        self,
        handle: str,
        relation: Relation,
        definition: ShapeDefinition,
        clause: Clause | None,
        *,
        leaves: Iterable[int] = (),
    ) -> RoutedShape:
        """Start to buffer changes for a new shape. Its snapshot must see what was delivered before."""
        shape = self._add(handle, relation, definition, clause, leaves)
        shape.skip_until = self.delivered.last_commit_lsn
        return shape

    def restore(
        self,
        handle: str,
        relation: Relation,
        definition: ShapeDefinition,
        clause: Clause | None,
        visibility: SnapshotVisibility,
        log_end: Lsn,
        *,
        leaves: Iterable[int] = (),
    ) -> RoutedShape:
        """Register a shape after a restart; its log is complete up to the transaction `log_end`."""
        shape = self._add(handle, relation, definition, clause, leaves)
        shape.skip_until = log_end
        shape.visibility = visibility
        # How old the types were at its snapshot is not stored.
        self._outdated.release(shape, visibility.insert_lsn if shape.has_alterable_types else 0)
        return shape

    def _add(
        self,
        handle: str,
        relation: Relation,
        definition: ShapeDefinition,
        clause: Clause | None,
        leaves: Iterable[int],
    ) -> RoutedShape:
        members = self._relations.get(relation.oid)
        if members is None:
            members = self._relations[relation.oid] = RelationShapes(relation, self._evaluate, self.meter)
            self._targets.clear()
            self._named.setdefault((relation.schema, relation.name), set()).add(relation.oid)
            self._bind_previous(relation.oid, members)
        self.add_leaves(relation.oid, leaves)
        try:
            shape = members.add(handle, relation, definition, clause)
        finally:
            if not members.members:
                self._forget_table(relation.oid)
        self._shapes[handle] = shape
        self._outdated.add(shape)
        self.last_number += 1
        shape.number = members.newest_number = self.last_number
        return shape

    def _bind_previous(self, wire_oid: int, members: RelationShapes) -> None:
        """Bind the relation's shapes to the announcement that preceded them."""
        announcement = self.announcements.get(wire_oid)
        if announcement is None:
            return
        if announcement.message is not None:
            members.bind_previous(announcement.message)
        else:
            members.lose_layout(wire_oid)

    def add_leaves(self, root_oid: int, leaves: Iterable[int]) -> None:
        """Route changes of these leaves to the shapes of their root, too, if it has any."""
        if root_oid not in self._relations:
            return
        for leaf in leaves:
            roots = self._roots.setdefault(leaf, set())
            if root_oid not in roots:
                roots.add(root_oid)
                self._targets.pop(leaf, None)
                self._bind_previous(leaf, self._relations[root_oid])

    def set_ancestors(self, wire_oid: int, ancestors: Iterable[int]) -> list[str]:
        """Make a relation a leaf of these tables and of no others; end the shapes of its former roots.

        Returns the handles of the shapes that were ended.
        """
        above = set(ancestors)
        ended = [
            handle for root in self._roots.get(wire_oid, set()) - above for handle in self.handles_of(root)
        ]
        for root in above.intersection(self._relations):
            self.add_leaves(root, [wire_oid])
        return self._end(ended)

    def leaves_of(self, root_oid: int) -> set[int]:
        """The known leaves of a table."""
        return {leaf for leaf, roots in self._roots.items() if root_oid in roots}

    def unregister(self, handle: str) -> None:
        """Remove a shape. Unknown handles are ignored, so that it can be repeated after an error."""
        shape = self._shapes.get(handle)
        if shape is None:
            return
        self._outdated.remove(handle)
        oid = shape.definition.table_oid
        members = self._relations.get(oid)
        for failure in members.remove(handle) if members else ():
            self._fail(failure)
        if oid in self._relations and not self._relations[oid].members:
            self._forget_table(oid)
        self._delivery.forget(handle)
        del self._shapes[handle]

    def _forget_table(self, oid: int) -> None:
        relation = self._relations.pop(oid).relation
        self._targets.clear()
        self._set_leaves(oid, set())
        named = self._named[relation.schema, relation.name]
        named.discard(oid)
        if not named:
            del self._named[relation.schema, relation.name]

    def announce(self, message: RelationMessage, transaction: tuple[int, Lsn] | None = None) -> list[str]:
        """Bind the shapes of a relation to a RELATION message of a transaction (xid, commit LSN).

        Returns the handles of the shapes that were ended because they cannot continue with its columns.
        """

        def applies(shape: RoutedShape) -> bool:
            return transaction is None or shape.decide(*transaction) is Decision.APPLY

        previous = self.announcements.note(message, transaction[0] if transaction else None)
        ended: list[str] = []
        for members in self._targets_of(message.oid):
            try:
                others, failures = members.ended_by(message, previous, applies)
                ended += others
                self._end(others)
                for failure in failures:
                    self._fail(failure)
                ended += self._end_unbound(members.bind(message, is_leaf=message.oid != members.relation.oid))
            except Exception as error:
                self._fail(ShapeFailure(tuple(members.members.values()), error))
                members.lose_layout(message.oid)
        return ended

    def _end_unbound(self, failures: Iterable[ShapeFailure]) -> list[str]:
        """End shapes that cannot be bound. Returns those whose clause cannot be evaluated any more."""
        ended = []
        for failure in failures:
            if isinstance(failure.error, RequestError):
                ended += self._end(failure.handles)
            else:
                self._fail(failure)
        return ended

    def fail_relation(self, wire_oid: int, error: Exception, *, is_announcement: bool = False) -> None:
        """End every shape that depends on rows of a relation, as a message about it could not be processed.

        After an announcement its rows are not read until the next one.
        """
        if is_announcement:
            self.announcements.fail(wire_oid)
        for members in self._targets_of(wire_oid):
            self._fail(ShapeFailure(tuple(members.members.values()), error))

    def stream_began(self) -> None:
        """Each relation will be announced before its first change. The announcements of relations with shapes
        are kept, to be compared with those.
        """
        self.announcements.keep(self.has_relation)
        self._targets.clear()

    def unused_announcements(self) -> dict[int, Announcement]:
        """The announcements of relations on which no shape depends, by oid."""
        return self.announcements.without(self.has_relation)

    def forget_announcements(self, dropped: Mapping[int, Announcement]) -> None:
        """Forget relations that do not exist any more, unless they are used or were announced again."""
        for oid, announcement in dropped.items():
            if not self.has_relation(oid):
                self.announcements.forget(oid, announcement)
            self._targets.pop(oid, None)

    def renew(self, current: Relation, handles: AbstractSet[str]) -> list[str]:
        """Note that these shapes continue on the table as it is now; returns those for which that is new."""
        members = self._relations.get(current.oid)
        renewed = members.renew(current, handles) if members else []
        self._set_leaves(current.oid, {part.oid for part in current.parts} - {current.oid})
        return renewed

    def _set_leaves(self, root_oid: int, leaves: set[int]) -> None:
        """Route changes of exactly these leaves to the shapes of their root."""
        members = self._relations.get(root_oid)
        for leaf in self.leaves_of(root_oid) - leaves:
            self._roots[leaf].discard(root_oid)
            if not self._roots[leaf]:
                del self._roots[leaf]
            self._targets.pop(leaf, None)
            if members is not None:
                members.forget_leaf(leaf)
        self.add_leaves(root_oid, leaves)

    def end_relation(self, wire_oid: int) -> list[str]:
        """End every shape that depends on rows of a relation; returns their handles."""
        return self._end([handle for oid in self.target_tables(wire_oid) for handle in self.handles_of(oid)])

    def _end(self, handles: Iterable[str]) -> list[str]:
        """Remove shapes; returns their handles in any case, so that the owner removes them everywhere."""
        ended = list(handles)
        for handle in ended:
            with suppress(Exception):  # the owner removes it here once more, until that succeeds
                self.unregister(handle)
        return ended

    def is_complete(
        self, handle: str, visibility: SnapshotVisibility, before: Iterable[DeliveredTransaction]
    ) -> bool:
        """Whether a snapshot sees all that will not be delivered to the shape. `before` is what no snapshot
        had seen before this one was taken.
        """
        shape = self._shapes[handle]
        missing = self.delivered.missing_from(visibility, shape.skip_until, before)
        self.delivered.prune(visibility)
        if missing is None:
            shape.has_dropped = False
        return missing is None

    def has_dropped(self, handle: str) -> bool:
        """Whether the snapshot of a shape may not be complete any more: its buffer was full since
        `is_complete`.
        """
        return self._shapes[handle].has_dropped

    def release(self, handle: str, visibility: SnapshotVisibility) -> Routed:
        """Set the snapshot's visibility; route the buffered transactions that the snapshot does not see.

        If one of them truncates the table, or has texts of older types, the shape ends. Raises ValueError if
        transactions were dropped since the snapshot was found to be complete: its shape would lack them.
        """
        shape = self._shapes[handle]
        if shape.has_dropped:
            raise ValueError("the snapshot may not see what was dropped from the buffer")
        since = self.types.since(shape.known, shape.needed_columns, visibility.insert_lsn)
        self._outdated.release(shape, since)
        routed = release(shape, visibility)
        self._end([*routed.ended, *routed.outdated])
        return routed

    def route(self, fragment: Fragment) -> Routed:
        """The log entries of a fragment, per shape. Changes already routed before a reconnect are skipped.

        When the meter's step is over, what is left of the fragment is returned as `rest`. What happens until
        that is routed happens between two fragments of a transaction.
        """
        changes = self._delivery.new_changes(fragment)
        if changes is None:
            return self.take_failures()
        collected: Collected = {}
        origin = Origin(fragment.commit_lsn, fragment.xid)
        meter, targets_of = self.meter, self._targets_of
        meter.may_be_large = fragment.may_be_large
        may_be_outdated = bool(changes) and changes[0].lsn < self._outdated.before
        if may_be_outdated:
            self._outdated.begin()
        for change in changes:
            if may_be_outdated:
                self._end_unreadable(change, origin, collected)
            try:
                for members in targets_of(change.relation_oid):
                    if change.operation is Operation.TRUNCATE:
                        self._truncated += self._end(members.truncate(origin, collected))
                    else:
                        members.collect(change, origin, collected)
            except OutOfTime:
                withdraw(collected, change.op)
                return self._route_before(change.op, fragment, changes, collected)
            except Exception as error:
                if not self._collect_each(change, origin, collected, error):
                    return self._route_before(change.op, fragment, changes, collected)
            if meter.is_used:
                self._end_metered(origin, collected)
            if (
                (meter.is_late or change.op & _LOOK_AT == _LOOK_AT)
                and change is not changes[-1]
                and meter.is_step_over()
            ):
                return self._route_before(change.op + 1, fragment, changes, collected)
        return self._deliver(fragment, collected, is_whole=True)

    def _end_unreadable(self, change: Change, origin: Origin, collected: Collected) -> None:
        """End the shapes on the table of a change whose clause may not read the texts of older types."""
        for members in self._targets_of(change.relation_oid):
            try:
                shapes, failures = self._outdated.unreadable_for(change, members, origin)
            except Exception as error:
                shapes, failures = [], [ShapeFailure(tuple(members.members.values()), error)]
            for failure in failures:
                self._fail(failure, origin, collected)
            self._end_outdated(shapes, collected)

    def _end_outdated(self, shapes: Iterable[RoutedShape], collected: Collected) -> None:
        for shape in shapes:
            collected.pop(shape, None)
            self._outdated_shapes += self._end([shape.handle])

    def _route_before(
        self, op: int, fragment: Fragment, changes: Sequence[Change], collected: Collected
    ) -> Routed:
        """Deliver the changes before number `op` as a fragment of their own; the others are the rest."""
        first, rest = split(fragment, changes, op)
        routed = self.take_failures() if first is None else self._deliver(first, collected, is_whole=False)
        routed.rest = rest
        return routed

    def _end_metered(self, origin: Origin, collected: Collected) -> None:
        """End the change for the meter, and the shapes that are over their budget."""
        large_values.limit()
        for over in self.meter.end_change():
            shapes = tuple(shape for shape in over.shapes if shape.handle in self._shapes)
            if shapes:
                self._fail(ShapeFailure(shapes, over.error, key_of(shapes[0], over.row)), origin, collected)

    def _collect_each(self, change: Change, origin: Origin, collected: Collected, error: Exception) -> bool:
        """Process a change that raised an error again, for each shape alone; end those that fail. False if
        the step is over before that.
        """
        withdraw(collected, change.op)
        for members in self._targets_of(change.relation_oid):
            try:
                if change.operation is Operation.TRUNCATE:
                    raise error
                failures = members.collect_each(change, origin, collected)
            except OutOfTime:
                withdraw(collected, change.op)
                return False
            except Exception as common:
                failures = [ShapeFailure(tuple(members.members.values()), common)]
            for failure in failures:
                self._fail(failure, origin, collected)
        return True

    def _fail(
        self, failure: ShapeFailure, origin: Origin | None = None, collected: Collected | None = None
    ) -> None:
        """End shapes by an error, unless their snapshots contain the transaction of the change."""
        ended = tuple(
            shape
            for shape in failure.shapes
            if origin is None or decision_for(shape, origin.xid, origin.commit_lsn) is not Decision.SKIP
        )
        if not ended:
            return
        self.failures.append(replace(failure, shapes=ended))
        for shape in ended:
            if collected is not None:
                collected.pop(shape, None)
        self._end(shape.handle for shape in ended)

    def _deliver(self, fragment: Fragment, collected: Collected, *, is_whole: bool) -> Routed:
        """Deliver what was collected for a fragment, or for the part of it before its rest."""
        if is_whole and large_values.kept.is_used:
            large_values.forget()
        self.delivered.add(fragment.xid, fragment.commit_lsn)
        if fragment.changes and fragment.changes[0].lsn < self._outdated.before:
            self._end_outdated(self._outdated.with_old_messages(fragment, collected), collected)
        routed = self._delivery.deliver(fragment, collected, self.failures)
        if self.failures or self._truncated or self._outdated_shapes:
            routed.ended, self._truncated = self._truncated, []
            routed.outdated, self._outdated_shapes = self._outdated_shapes, []
            routed.failures, self.failures = self.failures, []
        return routed

    def take_failures(self) -> Routed:
        """The failures since the last fragment, to be published like one."""
        failures, self.failures = self.failures, []
        return Routed(failures=failures)
