"""Assembles pgoutput messages into fragments of committed transactions. Pure; owned by the replicator's loop.

Each change gets its op number here, counted over all changes of the committed transaction, so that a replay
gives the same offsets. A transaction is split into fragments of bounded size. The last fragment carries the
end of the commit record, even if the transaction changed no published table, so that the position in the WAL
advances.

Invariant: fragments and announcements are returned in the order of the stream; changes of a relation follow
its announcement, and have its columns. Within a connection, transactions have increasing positions, and none
ends after the position of its COMMIT message. A stream that does otherwise has lost or altered messages, so
it is left.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from pgshapes.errors import ReplicaIdentityNotFull, WireError
from pgshapes.model.change import LARGE_CHARACTERS, Change, Fragment, Operation
from pgshapes.model.lsn import Lsn, format_lsn
from pgshapes.postgres.pgoutput_messages import (
    UNCHANGED,
    Begin,
    Commit,
    Delete,
    Identity,
    Insert,
    LogicalMessage,
    Message,
    Origin,
    RelationMessage,
    Truncate,
    Tuple,
    TypeMessage,
    Update,
)

FRAGMENT_CHANGES: Final = 500
FRAGMENT_CHARACTERS: Final = 1_000_000
"""Where a transaction is split: the cost per fragment is negligible, and a few fit in memory."""

_OP_STEP: Final = 2
"""Odd numbers are for the insert of a change that is written as delete and insert (`projection`)."""


class RelationAnnounced(NamedTuple):
    """From here on, rows of this relation have the announced columns."""

    message: RelationMessage
    xid: int
    """The transaction that has the first of these rows."""
    commit_lsn: Lsn


class RelationFailed(NamedTuple):
    """A message about this relation could not be processed: a change of it is missing, or what columns it
    has.
    """

    relation_oid: int
    error: Exception
    is_announcement: bool = False


Assembled = Fragment | RelationAnnounced | RelationFailed

_NOTHING: Final[tuple[Assembled, ...]] = ()
_UNKNOWN_WIDTH: Final = -1
"""In place of the number of columns of a relation whose announcement could not be processed."""


class TransactionAssembler:
    """Holds the transaction that is being received, and the relations announced on this connection."""

    def __init__(
        self, *, max_changes: int = FRAGMENT_CHANGES, max_characters: int = FRAGMENT_CHARACTERS
    ) -> None:
        self._max_changes = max_changes
        self._max_characters = max_characters
        self._begin: Begin | None = None
        self._changes: list[Change] = []
        self._characters = 0
        self._has_large = False
        """Whether a change of the fragment has more than `LARGE_CHARACTERS`."""
        self._next_op = 0
        self._is_first = True
        self._last_lsn: Lsn = 0
        """Of the last COMMIT."""
        self._relations: dict[int, RelationMessage] = {}
        self._widths: dict[int, int] = {}
        """The number of columns of each relation that was announced."""

    @property
    def is_in_transaction(self) -> bool:
        """Whether a transaction has begun and its commit has not arrived."""
        return self._begin is not None

    def feed(self, message: Message, lsn: Lsn) -> Iterable[Assembled]:
        """The fragments and announcements that this message completes; usually none. `lsn` is the position of
        the message.

        Raises WireError for a message that is not valid at this point, and ReplicaIdentityNotFull for a
        change without its old row. Such a change consumes its op number and is left out, so that the caller
        can continue after it has removed the table's shapes. So does a change for which anything else is
        raised: instead of it, a RelationFailed is returned.
        """
        match message:
            case Insert():
                return self._add(Operation.INSERT, message.relation_oid, None, message.new, lsn)
            case Update():
                return self._update(message, lsn)
            case Delete():
                return self._delete(message, lsn)
            case Begin():
                return self._start(message)
            case Commit():
                return self._finish(message, lsn)
            case RelationMessage():
                return self._announce(message, lsn)
            case Truncate():
                return self._truncate(message, lsn)
            case Origin() | TypeMessage() | LogicalMessage():
                return _NOTHING

    def _start(self, begin: Begin) -> Iterable[Assembled]:
        at = format_lsn(begin.final_lsn)
        if self._begin is not None:
            raise WireError(f"BEGIN of transaction {begin.xid} at {at} inside transaction {self._begin.xid}")
        if begin.final_lsn <= self._last_lsn:
            before = format_lsn(self._last_lsn)
            raise WireError(f"BEGIN of transaction {begin.xid} at {at}, after the COMMIT at {before}")
        self._begin = begin
        self._next_op = 0
        self._is_first = True
        return _NOTHING

    def _finish(self, commit: Commit, lsn: Lsn) -> Iterable[Assembled]:
        begin, at = self._open_transaction("COMMIT", commit.commit_lsn), commit.commit_lsn
        if at != begin.final_lsn:
            raise WireError(
                f"COMMIT at {format_lsn(at)} in transaction {begin.xid}, which ends at"
                f" {format_lsn(begin.final_lsn)}"
            )
        if not at < commit.end_lsn <= lsn:
            # It would be acknowledged although what was before it may not have been sent.
            end = format_lsn(commit.end_lsn)
            raise WireError(f"COMMIT at {format_lsn(at)} that ends at {end}, sent at {format_lsn(lsn)}")
        last = self._cut(begin, is_last=True, end_lsn=commit.end_lsn)
        self._begin, self._last_lsn = None, at
        return (last,)

    def _announce(self, message: RelationMessage, lsn: Lsn) -> Iterable[Assembled]:
        begin = self._open_transaction("RELATION", lsn)
        self._relations[message.oid] = message
        self._widths[message.oid] = len(message.columns)
        announced = RelationAnnounced(message, begin.xid, begin.final_lsn)
        return (self._cut(begin), announced) if self._changes else (announced,)

    def _update(self, message: Update, lsn: Lsn) -> Iterable[Assembled]:
        old, oid = message.old, message.relation_oid
        if old is None or message.identity is not Identity.FULL:
            return self._without_old_row(oid, lsn)
        try:
            new = _completed(old, message.new)
        except Exception as error:
            return self.skip_change(oid, error, lsn)
        return self._add(Operation.UPDATE, oid, old, new, lsn)

    def _delete(self, message: Delete, lsn: Lsn) -> Iterable[Assembled]:
        if message.identity is not Identity.FULL:
            return self._without_old_row(message.relation_oid, lsn)
        return self._add(Operation.DELETE, message.relation_oid, message.old, None, lsn)

    def _truncate(self, message: Truncate, lsn: Lsn) -> Iterable[Assembled]:
        pieces: list[Assembled] = []
        for oid in message.relation_oids:
            pieces += self._add(Operation.TRUNCATE, oid, None, None, lsn)
        return pieces

    def _add(
        self, operation: Operation, relation_oid: int, old: Tuple | None, new: Tuple | None, lsn: Lsn
    ) -> Iterable[Assembled]:
        width = self._widths.get(relation_oid)
        if width is None or self._begin is None:
            raise self._out_of_place(relation_oid, lsn)
        characters = 0
        try:
            for row in (old, new):
                if row is not None:
                    if len(row) != width:
                        raise _wrong_width(row, width)
                    if UNCHANGED in row:
                        raise WireError("an unchanged TOAST value is missing in the old row, too")
                    characters += len("".join(filter(None, row)))  # type: ignore[arg-type]
            change = Change(operation, relation_oid, self._next_op, old, new, lsn)  # type: ignore[arg-type]
        except Exception as error:
            return self.skip_change(relation_oid, error, lsn)
        completed = _NOTHING
        if len(self._changes) >= self._max_changes or self._characters >= self._max_characters:
            completed = (self._cut(self._begin),)
        self._changes.append(change)
        self._next_op += _OP_STEP
        self._characters += characters
        if characters > LARGE_CHARACTERS:
            self._has_large = True
        return completed

    def skip_change(self, relation_oid: int, error: Exception, lsn: Lsn) -> Iterable[Assembled]:
        """Leave out a change that cannot be processed; it consumes its op number. Raises WireError if it is
        not about a relation of this stream: then nobody knows whose change is missing.
        """
        if relation_oid not in self._widths or self._begin is None:
            raise self._out_of_place(relation_oid, lsn) from error
        self._next_op += _OP_STEP
        return (RelationFailed(relation_oid, error),)

    def skip_announcement(self, relation_oid: int, error: Exception, lsn: Lsn) -> Iterable[Assembled]:
        """Leave out a RELATION message that cannot be processed. Raises WireError."""
        self._open_transaction("RELATION", lsn)
        self._widths[relation_oid] = _UNKNOWN_WIDTH
        return (RelationFailed(relation_oid, error, is_announcement=True),)

    def forget(self, message: RelationMessage) -> None:
        """Forget a relation that has no more changes, unless it was announced again."""
        if self._relations.get(message.oid) is message:
            del self._relations[message.oid]
            del self._widths[message.oid]

    def _cut(self, begin: Begin, *, is_last: bool = False, end_lsn: int = 0) -> Fragment:
        fragment = Fragment(
            begin.xid,
            begin.final_lsn,
            end_lsn,
            tuple(self._changes),
            self._is_first,
            is_last,
            self._has_large,
        )
        self._changes = []
        self._characters = 0
        self._has_large = False
        self._is_first = False
        return fragment

    def _open_transaction(self, kind: str, lsn: Lsn) -> Begin:
        if self._begin is None:
            raise WireError(f"{kind} at {format_lsn(lsn)} outside of a transaction")
        return self._begin

    def _out_of_place(self, oid: int, lsn: Lsn) -> WireError:
        """The error of a change that is in no transaction, or of no relation of this stream."""
        where = f"change of relation {oid} at {format_lsn(lsn)}"
        if self._begin is None:
            return WireError(f"{where} outside of a transaction")
        return WireError(f"{where}, for which no RELATION message was received")

    def _without_old_row(self, oid: int, lsn: Lsn) -> Iterable[Assembled]:
        """Leave out a change; it consumes its op number. Raises ReplicaIdentityNotFull, WireError."""
        failed = self.skip_change(oid, WireError(f"change at {format_lsn(lsn)} without its old row"), lsn)
        relation = self._relations.get(oid)
        if relation is not None:
            raise ReplicaIdentityNotFull(relation.schema, relation.name, relation_oid=oid)
        return failed


def _completed(old: Tuple, new: Tuple) -> Tuple:
    """A new row with its unchanged TOAST values from the old one."""
    if UNCHANGED not in new:
        return new
    return tuple(before if after is UNCHANGED else after for before, after in zip(old, new, strict=True))


def _wrong_width(values: Tuple, width: int) -> WireError:
    expected = "unknown columns" if width == _UNKNOWN_WIDTH else f"{width} columns"
    return WireError(f"row of {len(values)} columns for a relation that has {expected}")
