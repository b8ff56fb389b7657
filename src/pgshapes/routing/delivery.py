"""Delivers the messages of fragments to the shapes: appended to a log, buffered, or left out. Pure; owned by
the router.

State: up to which change fragments were delivered, and the shapes with messages of a transaction that is not
complete. Invariant: what was delivered is not delivered again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pgshapes.model.change import Change, Fragment
from pgshapes.model.lsn import Lsn
from pgshapes.model.visibility import SnapshotVisibility
from pgshapes.routing.failures import ShapeFailure
from pgshapes.routing.projection import RenderedMessage
from pgshapes.routing.routed import Append, Routed
from pgshapes.routing.routed_shape import Collected, Decision, RoutedShape


class Progress(NamedTuple):
    """A transaction, its last change that was delivered, and whether that was its last one."""

    commit_lsn: Lsn
    op: int
    is_complete: bool


class Delivery:
    """The delivery of fragments in the order of the stream."""

    def __init__(self) -> None:
        self._open: dict[str, RoutedShape] = {}
        self._progress = Progress(0, -1, is_complete=True)

    def forget(self, handle: str) -> None:
        """Deliver nothing more to a shape."""
        self._open.pop(handle, None)

    def new_changes(self, fragment: Fragment) -> tuple[Sequence[Change], Progress] | None:
        """The changes that are not delivered yet, and the progress once they are; None if all were."""
        commit_lsn, last_op, is_complete = self._progress
        if fragment.commit_lsn < commit_lsn or (fragment.commit_lsn == commit_lsn and is_complete):
            return None
        changes: Sequence[Change] = fragment.changes
        if fragment.commit_lsn == commit_lsn:
            changes = [change for change in changes if change.op > last_op]
        else:
            last_op = -1
        return changes, Progress(
            fragment.commit_lsn, changes[-1].op if changes else last_op, fragment.is_last
        )

    def deliver(
        self, fragment: Fragment, collected: Collected, progress: Progress, failures: list[ShapeFailure]
    ) -> Routed:
        """Deliver what was collected; what is raised for a shape is added to the failures."""
        routed = Routed()
        if fragment.commit_lsn != self._progress.commit_lsn:
            self._open.clear()
        if fragment.is_last:
            for shape in self._open.values():
                collected.setdefault(shape, [])
        self._progress = progress  # from here on nothing is raised: the fragment is not routed again
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
