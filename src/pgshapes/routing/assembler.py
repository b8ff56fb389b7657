"""Assembles pgoutput messages into fragments of committed transactions. Pure; owned by the replicator's loop.

Each change gets its op number here, counted over all changes of the committed transaction, so that a replay
gives the same offsets. A transaction is split into fragments of bounded size. The last fragment carries the
end of the commit record, even if the transaction changed no published table, so that the position in the WAL
advances.

Invariant: fragments and announcements are returned in the order of the stream; changes of a relation follow
its announcement.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from pgshapes.errors import ReplicaIdentityNotFull, WireError
from pgshapes.model.change import LARGE_CHARACTERS, Change, Fragment, Operation, Row
from pgshapes.model.lsn import Lsn
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
_OUTSIDE: Final = "a change or commit outside of a transaction"


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
        self._next_op = 0
        self._is_first = True
        self._relations: dict[int, RelationMessage] = {}

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
                return self._finish(message)
            case RelationMessage():
                return self._announce(message)
            case Truncate():
                return self._truncate(message, lsn)
            case Origin() | TypeMessage() | LogicalMessage():
                return _NOTHING

    def _start(self, begin: Begin) -> Iterable[Assembled]:
        if self._begin is not None:
            raise WireError(f"transaction {begin.xid} begins inside transaction {self._begin.xid}")
        self._begin = begin
        self._next_op = 0
        self._is_first = True
        return _NOTHING

    def _finish(self, commit: Commit) -> Iterable[Assembled]:
        begin = self._open_transaction()
        if commit.commit_lsn != begin.final_lsn:
            raise WireError(f"transaction {begin.xid} ends with the commit of another transaction")
        last = self._cut(is_last=True, end_lsn=commit.end_lsn)
        self._begin = None
        return (last,)

    def _announce(self, message: RelationMessage) -> Iterable[Assembled]:
        self._relations[message.oid] = message
        begin = self._open_transaction()
        announced = RelationAnnounced(message, begin.xid, begin.final_lsn)
        return (self._cut(), announced) if self._changes else (announced,)

    def _update(self, message: Update, lsn: Lsn) -> Iterable[Assembled]:
        old = message.old
        if old is None or message.identity is not Identity.FULL:
            raise self._without_old_row(message.relation_oid)
        try:
            new = _completed(old, message.new)
        except Exception as error:
            return self.skip_change(message.relation_oid, error)
        return self._add(Operation.UPDATE, message.relation_oid, old, new, lsn)

    def _delete(self, message: Delete, lsn: Lsn) -> Iterable[Assembled]:
        if message.identity is not Identity.FULL:
            raise self._without_old_row(message.relation_oid)
        return self._add(Operation.DELETE, message.relation_oid, message.old, None, lsn)

    def _truncate(self, message: Truncate, lsn: Lsn) -> Iterable[Assembled]:
        pieces: list[Assembled] = []
        for oid in message.relation_oids:
            pieces += self._add(Operation.TRUNCATE, oid, None, None, lsn)
        return pieces

    def _add(
        self, operation: Operation, relation_oid: int, old: Tuple | None, new: Tuple | None, lsn: Lsn
    ) -> Iterable[Assembled]:
        if self._begin is None:
            raise WireError(_OUTSIDE)
        try:
            change = Change(operation, relation_oid, self._next_op, _row(old), _row(new), lsn)
        except Exception as error:
            return self.skip_change(relation_oid, error)
        completed = _NOTHING
        if len(self._changes) >= self._max_changes or self._characters >= self._max_characters:
            completed = (self._cut(),)
        self._changes.append(change)
        self._next_op += _OP_STEP
        for row in (change.old, change.new):
            if row is not None:
                self._characters += len("".join(filter(None, row)))
        return completed

    def skip_change(self, relation_oid: int, error: Exception) -> Iterable[Assembled]:
        """Leave out a change that cannot be processed; it consumes its op number. Raises WireError."""
        self._open_transaction()
        self._next_op += _OP_STEP
        return (RelationFailed(relation_oid, error),)

    def skip_announcement(self, relation_oid: int, error: Exception) -> Iterable[Assembled]:
        """Leave out a RELATION message that cannot be processed. Raises WireError."""
        self._open_transaction()
        return (RelationFailed(relation_oid, error, is_announcement=True),)

    def _cut(self, *, is_last: bool = False, end_lsn: int = 0) -> Fragment:
        begin = self._open_transaction()
        fragment = Fragment(
            begin.xid,
            begin.final_lsn,
            end_lsn,
            tuple(self._changes),
            self._is_first,
            is_last,
            self._characters > LARGE_CHARACTERS,
        )
        self._changes = []
        self._characters = 0
        self._is_first = False
        return fragment

    def _open_transaction(self) -> Begin:
        if self._begin is None:
            raise WireError(_OUTSIDE)
        return self._begin

    def _without_old_row(self, oid: int) -> ReplicaIdentityNotFull:
        """The error to raise; the change consumes its op number."""
        self._open_transaction()
        self._next_op += _OP_STEP
        relation = self._relations.get(oid)
        if relation is None:
            raise WireError(f"change of relation {oid}, for which no RELATION message was received")
        return ReplicaIdentityNotFull(relation.schema, relation.name, relation_oid=oid)


def _completed(old: Tuple, new: Tuple) -> Tuple:
    """A new row with its unchanged TOAST values from the old one."""
    if UNCHANGED not in new:
        return new
    return tuple(before if after is UNCHANGED else after for before, after in zip(old, new, strict=True))


def _row(values: Tuple | None) -> Row | None:
    if values is not None and UNCHANGED in values:
        raise WireError("an unchanged TOAST value is missing in the old row, too")
    return values  # type: ignore[return-value]  # after the check only text and None are left
