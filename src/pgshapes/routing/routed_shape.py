"""The state of one shape in routing, and which transactions are appended to its log. Pure.

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
from pgshapes.routing.relation_change import find_change
from pgshapes.routing.type_history import has_alterable_type

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgshapes.model.relation import Part, Relation
    from pgshapes.model.shape import ShapeDefinition
    from pgshapes.where.clause import Clause

# Limits memory while a creation waits for a table lock. Transactions dropped from the buffer count as
# delivered before registration: the snapshot has to see them (retake).
BUFFER_LIMIT_BYTES: Final = 16 * 1024 * 1024
_TRANSACTION_BYTES: Final = 200
"""What a buffered transaction takes without its messages."""


class Phase(Enum):
    """The phases of a shape from registration to live."""

    BUFFERING = "buffering"
    FILTERING = "filtering"
    LIVE = "live"


class Decision(Enum):
    """What to do with a transaction's messages for one shape."""

    SKIP = "skip"
    BUFFER = "buffer"
    APPLY = "apply"


@dataclass(slots=True)
class BufferedTransaction:
    """A transaction that arrived before the visibility of the snapshot was known."""

    xid: int
    commit_lsn: Lsn
    messages: list[RenderedMessage]
    is_complete: bool = False
    has_truncate: bool = False
    """Whether it truncates the table. The shape ends with it, unless the snapshot sees it."""
    first_lsn: Lsn = 2**64
    """Position of its first change of the table; only known for shapes with `has_alterable_types`."""


@dataclass(slots=True, eq=False)
class RoutedShape:
    """A registered shape. Only the router changes it."""

    handle: str
    definition: ShapeDefinition
    clause: Clause | None
    relation: Relation
    """The relation for which the shape was created; an announced layout may have additional columns."""
    known: Relation
    """The table as it was last compared with the shape, columns that are not published included."""
    projection: Projection
    skip_until: Lsn
    """Transactions committed at or before this LSN are skipped: they were delivered before the shape was
    registered, or are in its log already."""
    number: int = 0
    """Shapes that are registered later have larger numbers."""
    phase: Phase = Phase.BUFFERING
    visibility: SnapshotVisibility | None = None
    needed_columns: frozenset[str] = frozenset()
    """The columns that its clause, its key and its messages need."""
    buffer: list[BufferedTransaction] = field(default_factory=list)
    buffered_bytes: int = 0
    has_alterable_types: bool = False
    """Whether DDL that is none of its table may change the texts of its values."""
    has_alterable_clause: bool = False
    """Whether it may change the texts that its clause reads."""
    rendered_since: Lsn = 0
    """Changes at smaller positions may have texts of older types than the snapshot has."""
    has_dropped: bool = False
    """Whether transactions were dropped from the buffer since a snapshot was found to see all it must see."""
    last_message: RenderedMessage | None = None
    """The latest message of an incomplete transaction; appended once it is known whether it is the last."""

    def __post_init__(self) -> None:
        of_clause = self.clause.columns if self.clause else frozenset[str]()
        self.needed_columns = of_clause.union(self.definition.columns, self.definition.key_columns)
        self.has_alterable_types = has_alterable_type(self.known, self.needed_columns)
        self.has_alterable_clause = has_alterable_type(self.known, of_clause)

    def find_change(
        self, current: Relation, is_empty: Callable[[Part], bool], *, is_listed: bool
    ) -> str | None:
        """Why the shape ends on the table as it is now; None if it continues."""
        return find_change(
            self.known,
            current,
            self.needed_columns,
            selects_all_columns=self.definition.selects_all_columns,
            is_empty=is_empty,
            is_listed=is_listed,
        )

    def decide(self, xid: int, commit_lsn: Lsn) -> Decision:
        """What to do with a transaction. Moves the shape from filtering to live."""
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
        """Buffer the messages of a fragment."""
        current = self._buffered(xid, commit_lsn)
        current.messages.extend(messages)
        current.is_complete = is_complete
        self._count(sum(message.size_bytes for message in messages))

    def buffer_truncate(self, xid: int, commit_lsn: Lsn) -> None:
        """Note that a transaction truncates the table, in place of what it wrote to it before."""
        current = self._buffered(xid, commit_lsn)
        current.has_truncate = True
        current.messages.clear()
        self._count()

    def note_buffered(self, xid: int, commit_lsn: Lsn, first_lsn: Lsn) -> None:
        """Note the position of a change of the table, whether the shape has messages for it or not."""
        current = self._buffered(xid, commit_lsn)
        current.first_lsn = min(current.first_lsn, first_lsn)
        self._count()

    def take_buffer(self) -> list[BufferedTransaction]:
        """The buffered transactions that the snapshot does not see; the buffer is empty then."""
        taken, self.buffer, self.buffered_bytes = self.buffer, [], 0
        return [one for one in taken if self.decide(one.xid, one.commit_lsn) is Decision.APPLY]

    def _buffered(self, xid: int, commit_lsn: Lsn) -> BufferedTransaction:
        if not self.buffer or self.buffer[-1].commit_lsn != commit_lsn:
            self.buffer.append(BufferedTransaction(xid, commit_lsn, []))
            self.buffered_bytes += _TRANSACTION_BYTES
        return self.buffer[-1]

    def _count(self, size_bytes: int = 0) -> None:
        self.buffered_bytes += size_bytes
        if self.buffered_bytes > BUFFER_LIMIT_BYTES:
            self._move_registration()

    def _move_registration(self) -> None:
        self.skip_until = self.buffer[-1].commit_lsn
        self.has_dropped = True
        self.buffer.clear()
        self.buffered_bytes = 0


def decision_for(shape: RoutedShape, xid: int, commit_lsn: Lsn) -> Decision:
    """What a transaction is for a shape. To one that cannot tell it applies, and ends it."""
    try:
        return shape.decide(xid, commit_lsn)
    except Exception:
        return Decision.APPLY


Collected = dict[RoutedShape, list[RenderedMessage]]
"""The messages of a fragment for each shape that it affects."""
