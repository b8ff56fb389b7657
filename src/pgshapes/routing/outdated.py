"""Finds the shapes that a change would give values in the text of older types than their rows have. Pure.

DDL on a type does not wait for transactions that have written values of it. Postgres decodes each change with
the system catalogs as they were at the change's own position in the WAL, although its transaction is
delivered when it commits. So a shape whose snapshot was taken after such DDL, and that does not see an older
transaction which was still running, would get the old texts from it, and keep them.

State: the shapes without a snapshot, the newest position that matters to any shape, and, for the present
fragment, the shapes whose clause may not read it; owned by the router. While a fragment concerns no shape,
all that it costs are comparisons with `before`.
"""

from __future__ import annotations

from typing import Final

from pgshapes.model.change import Change, Fragment, Operation
from pgshapes.model.lsn import Lsn
from pgshapes.routing.failures import ShapeFailure
from pgshapes.routing.projection import Origin
from pgshapes.routing.relation_shapes import RelationShapes
from pgshapes.routing.routed_shape import Collected, Decision, RoutedShape, decision_for

_UNKNOWN: Final = 2**64

Outdated = tuple[list[RoutedShape], list[ShapeFailure]]
"""The shapes that end by a change, and those of which it cannot be said."""


class OutdatedChanges:
    """Compares the positions of changes with `RoutedShape.rendered_since`, which it sets."""

    def __init__(self) -> None:
        self._unreleased: dict[str, RoutedShape] = {}
        self._newest: Lsn = 0
        self.before: Lsn = 0
        """A fragment whose changes are all at this position or later concerns no shape."""
        self._doubtful: dict[RelationShapes, list[RoutedShape]] = {}

    def add(self, shape: RoutedShape) -> None:
        """Watch a shape that has no snapshot yet, if types can matter to it."""
        if shape.has_alterable_types:
            shape.rendered_since = _UNKNOWN
            self._unreleased[shape.handle] = shape
            self.before = _UNKNOWN

    def release(self, shape: RoutedShape, since: Lsn) -> None:
        """The shape has a snapshot; changes before `since` may be rendered by older types."""
        self._unreleased.pop(shape.handle, None)
        shape.rendered_since = since
        self._newest = max(self._newest, since)
        self.before = _UNKNOWN if self._unreleased else self._newest

    def remove(self, handle: str) -> None:
        """Forget a shape."""
        self._unreleased.pop(handle, None)
        self.before = _UNKNOWN if self._unreleased else self._newest

    def begin(self) -> None:
        """Begin a fragment that may concern shapes. Its changes are in the order of their positions."""
        self._doubtful.clear()

    def unreadable_for(self, change: Change, members: RelationShapes, origin: Origin) -> Outdated:
        """Shapes whose clause reads a text that may be an older one, so that it does not tell whether the row
        matches. To be called before the change is collected.

        For shapes without a snapshot it is noted how old the change is, in `BufferedTransaction.first_lsn`.
        """
        if change.operation is Operation.TRUNCATE:
            return [], []
        failures: list[ShapeFailure] = []
        if members not in self._doubtful:
            self._doubtful[members], failures = self._find_doubtful(members, origin, change.lsn)
        return self._newer(change, members), failures

    def with_old_messages(self, fragment: Fragment, collected: Collected) -> list[RoutedShape]:
        """Shapes that have messages of changes at smaller positions."""
        positions = {change.op: change.lsn for change in fragment.changes}
        # The first message has the smallest position. An odd number is the second half of a change.
        return [
            shape
            for shape, messages in collected.items()
            if messages
            and positions[messages[0].offset.op & ~1] < shape.rendered_since
            and decision_for(shape, fragment.xid, fragment.commit_lsn) is Decision.APPLY
        ]

    def _newer(self, change: Change, members: RelationShapes) -> list[RoutedShape]:
        return [
            shape
            for shape in self._doubtful.get(members, ())
            if change.lsn < shape.rendered_since and shape.handle in members.members
        ]

    def _find_doubtful(self, members: RelationShapes, origin: Origin, first_lsn: Lsn) -> Outdated:
        """The shapes with such a clause to which a transaction applies, and that are newer than its first
        change of the table.
        """
        shapes = members.members if first_lsn < self._newest else self._unreleased
        found, failures = [], []
        for handle, shape in shapes.items():
            if first_lsn >= shape.rendered_since or handle not in members.members:
                continue
            try:
                decision = shape.decide(origin.xid, origin.commit_lsn)
                if decision is Decision.BUFFER:
                    shape.note_buffered(origin.xid, origin.commit_lsn, first_lsn)
                elif decision is Decision.APPLY and shape.has_alterable_clause:
                    found.append(shape)
            except Exception as error:
                failures.append(ShapeFailure((shape,), error))
        return found, failures
