"""What routing knows of one shape, and which transactions it lets through. Pure.

A shape is *buffering* until its snapshot has been taken, *filtering* while transactions may still be part of
that snapshot, and *live* from the first transaction committed past the snapshot's insert LSN on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final

from pgshapes.model.lsn import Lsn
from pgshapes.model.visibility import SnapshotVisibility
from pgshapes.routing.projection import Projection, RenderedMessage

if TYPE_CHECKING:
    from pgshapes.model.relation import Relation
    from pgshapes.model.shape import ShapeDefinition
    from pgshapes.where.clause import Clause

# A creation that waits long for a table lock must not collect the table's changes in memory for as long. What
# is dropped from the buffer counts as delivered before registration: the snapshot has to see it (retake).
BUFFER_LIMIT_BYTES: Final = 16 * 1024 * 1024


class Phase(Enum):
    """Where a shape stands between registration and live."""

    BUFFERING = "buffering"
    FILTERING = "filtering"
    LIVE = "live"


class Decision(Enum):
    """What is done with a transaction's messages for one shape."""

    SKIP = "skip"
    BUFFER = "buffer"
    APPLY = "apply"


@dataclass(slots=True)
class BufferedTransaction:
    """A transaction that arrived before the snapshot's visibility was known."""

    xid: int
    commit_lsn: Lsn
    messages: list[RenderedMessage]
    is_complete: bool = False


@dataclass(slots=True, eq=False)
class RoutedShape:
    """A shape as routing sees it. Owned and changed by the router alone."""

    handle: str
    definition: ShapeDefinition
    clause: Clause | None
    relation: Relation
    """As the shape was made for it; what the stream announces may have other columns beside those."""
    projection: Projection
    skip_until: Lsn
    """Transactions committed at or before this are not for this shape: they were delivered before it was
    registered, or its log has them already."""
    phase: Phase = Phase.BUFFERING
    visibility: SnapshotVisibility | None = None
    buffer: list[BufferedTransaction] = field(default_factory=list)
    buffered_bytes: int = 0
    last_message: RenderedMessage | None = None
    """The latest message of a transaction that is not complete: only its end tells whether it is the last."""

    @property
    def needed_columns(self) -> frozenset[str]:
        """The columns without which its rows cannot be told."""
        of_clause = self.clause.columns if self.clause else frozenset[str]()
        return of_clause.union(self.definition.columns, self.definition.key_columns)

    def decide(self, xid: int, commit_lsn: Lsn) -> Decision:
        """Whether a transaction concerns this shape. Moves the shape from filtering to live on its way."""
        if commit_lsn <= self.skip_until:
            return Decision.SKIP
        if self.phase is Phase.LIVE:
            return Decision.APPLY
        if self.visibility is None:
            return Decision.BUFFER
        if commit_lsn > self.visibility.insert_lsn:
            self.phase = Phase.LIVE
            return Decision.APPLY
        return Decision.SKIP if self.visibility.sees_xid(xid) else Decision.APPLY

    def add_to_buffer(
        self, xid: int, commit_lsn: Lsn, messages: list[RenderedMessage], *, is_complete: bool
    ) -> None:
        """Buffer a piece of a transaction."""
        if not self.buffer or self.buffer[-1].commit_lsn != commit_lsn:
            self.buffer.append(BufferedTransaction(xid, commit_lsn, []))
        current = self.buffer[-1]
        current.messages.extend(messages)
        current.is_complete = is_complete
        self.buffered_bytes += sum(message.size_bytes for message in messages)
        if self.buffered_bytes > BUFFER_LIMIT_BYTES:
            self._move_registration()

    def _move_registration(self) -> None:
        self.skip_until = self.buffer[-1].commit_lsn
        self.buffer.clear()
        self.buffered_bytes = 0
