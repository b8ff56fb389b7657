"""Delivers the messages of fragments to the shapes: appended to a log, buffered, or left out. Pure; owned by
the router.

State: up to which change fragments were delivered, and the shapes with messages of a transaction that is not
complete. Invariant: what was delivered is not delivered again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pgshapes.model.change import Change, Fragment
from pgshapes.model.lsn import Lsn
from pgshapes.model.visibility import SnapshotVisibility
from pgshapes.routing.failures import ShapeFailure
from pgshapes.routing.projection import RenderedMessage
from pgshapes.routing.routed import Append, Routed
from pgshapes.routing.routed_shape import Collected, Decision, RoutedShape


class Delivery:
    """The delivery of fragments in the order of the stream."""

    def __init__(self) -> None:
        self._open: dict[str, RoutedShape] = {}
        self._progress: tuple[Lsn, int, bool] = (0, -1, True)
        """A transaction by its commit LSN, its last change that was delivered, and whether that was its last
        one.
        """

    def forget(self, handle: str) -> None:
        """Deliver nothing more to a shape."""
        self._open.pop(handle, None)

    def new_changes(self, fragment: Fragment) -> Sequence[Change] | None:
        """The changes that are not delivered yet; None if the whole transaction was."""
        commit_lsn, last_op, is_complete = self._progress
        if fragment.commit_lsn > commit_lsn:
            return fragment.changes
        if fragment.commit_lsn < commit_lsn or is_complete:
            return None
        return [change for change in fragment.changes if change.op > last_op]

    def deliver(self, fragment: Fragment, collected: Collected, failures: list[ShapeFailure]) -> Routed:
        """Deliver what was collected; what is raised for a shape is added to the failures."""
        routed = Routed()
        commit_lsn, last_op, _ = self._progress
        op = fragment.changes[-1].op if fragment.changes else -1
        if fragment.commit_lsn == commit_lsn:
            op = max(op, last_op)
        else:
            self._open.clear()
        if fragment.is_last:
            for shape in self._open.values():
                collected.setdefault(shape, [])
        # From here on nothing is raised: the fragment is not routed again.
        self._progress = (fragment.commit_lsn, op, fragment.is_last)
        for shape, messages in collected.items():
            try:
                self._deliver(routed, shape, fragment, messages)
            except Exception as error:
                failures.append(ShapeFailure((shape,), error))
        if fragment.is_last:
            self._open.clear()
        return routed

    def _deliver(
        self, routed: Routed, shape: RoutedShape, fragment: Fragment, messages: list[RenderedMessage]
    ) -> None:
        decision = shape.decide(fragment.xid, fragment.commit_lsn)
        if decision is Decision.APPLY:
            append(routed, shape, messages, is_last=fragment.is_last)
        elif decision is Decision.BUFFER:
            shape.add_to_buffer(fragment.xid, fragment.commit_lsn, messages, is_complete=fragment.is_last)
        if not fragment.is_last and decision is not Decision.SKIP:
            self._open[shape.handle] = shape


def split(fragment: Fragment, changes: Sequence[Change], op: int) -> tuple[Fragment | None, Fragment]:
    """These changes of a fragment in two: those before number `op`, if there are any, and the others."""
    before = tuple(change for change in changes if change.op < op)
    after = tuple(change for change in changes if change.op >= op)
    first = replace(fragment, changes=before, is_last=False) if before else None
    return first, replace(fragment, changes=after, is_first=fragment.is_first and first is None)


def release(shape: RoutedShape, visibility: SnapshotVisibility) -> Routed:
    """Set the snapshot's visibility, and deliver the buffered transactions that the snapshot does not see.

    The shape is among those that end if one of them truncates the table, or has texts of older types.
    """
    shape.visibility = visibility
    routed = Routed()
    for one in shape.take_buffer():
        if one.has_truncate:
            return Routed(ended=[shape.handle])
        if one.first_lsn < shape.rendered_since:
            return Routed(outdated=[shape.handle])
        append(routed, shape, one.messages, is_last=one.is_complete)
    return routed


def append(routed: Routed, shape: RoutedShape, messages: Sequence[RenderedMessage], *, is_last: bool) -> None:
    """Add the entries of messages, the last of which waits until it is known whether the transaction ends."""
    pending = [shape.last_message, *messages] if shape.last_message is not None else list(messages)
    if not pending:
        return
    final = pending.pop()
    entries = [message.entry() for message in pending]
    shape.last_message = None if is_last else final
    if is_last:
        entries.append(final.last_entry())
    if entries:
        routed.appends.append(Append(shape.handle, entries, is_last, shape))
