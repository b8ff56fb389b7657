"""The messages of pgoutput as values (manual: Logical Replication Message Formats, protocol version 1). Pure.

Not here: decoding (`pgoutput`), and assembling transactions (`routing.assembler`). A message between `Begin`
and `Commit` belongs to the transaction of that `Begin`.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from pgshapes.model.lsn import Lsn


class Unchanged(Enum):
    """Stands for an unchanged TOASTed value, which pgoutput does not send."""

    TOAST = "unchanged TOAST"


UNCHANGED: Final = Unchanged.TOAST

Tuple = tuple[str | Unchanged | None, ...]
"""A row: the output text of each column, None for NULL."""


class Identity(Enum):
    """The kind of an old tuple; the value is its byte in the message."""

    KEY = "K"
    """The columns of the replica identity; the others are NULL."""
    FULL = "O"
    """All columns."""


class Begin(NamedTuple):
    """Start of a committed transaction."""

    final_lsn: Lsn
    """LSN of the commit record."""
    commit_time: int
    """Microseconds since 2000-01-01 00:00 UTC."""
    xid: int


class Commit(NamedTuple):
    """End of a committed transaction."""

    commit_lsn: Lsn
    end_lsn: Lsn
    commit_time: int


class Origin(NamedTuple):
    """The transaction was replicated from another server."""

    origin_lsn: Lsn
    name: str


class RelationColumn(NamedTuple):
    """A column of a relation, in the order of the following rows."""

    name: str
    type_oid: int
    typmod: int
    is_key: bool
    """Whether the column is part of the replica identity."""


class RelationMessage(NamedTuple):
    """The columns of the following rows; sent before the first change after a connect or DDL."""

    oid: int
    schema: str
    name: str
    replica_identity: str
    """`pg_class.relreplident`: d default, n nothing, f full, i index."""
    columns: tuple[RelationColumn, ...]


class TypeMessage(NamedTuple):
    """A type that is not built in."""

    oid: int
    schema: str
    name: str


class Insert(NamedTuple):
    """A new row."""

    relation_oid: int
    new: Tuple


class Update(NamedTuple):
    """A changed row. Without an old tuple neither the key nor any column of the identity has changed."""

    relation_oid: int
    identity: Identity | None
    old: Tuple | None
    new: Tuple


class Delete(NamedTuple):
    """A deleted row."""

    relation_oid: int
    identity: Identity
    old: Tuple


class Truncate(NamedTuple):
    """Tables truncated by one statement."""

    relation_oids: tuple[int, ...]
    is_cascade: bool
    restarts_identity: bool


class LogicalMessage(NamedTuple):
    """A message of `pg_logical_emit_message`; sent only if requested."""

    is_transactional: bool
    lsn: Lsn
    prefix: str
    content: bytes


Message = (
    Begin
    | Commit
    | Origin
    | RelationMessage
    | TypeMessage
    | Insert
    | Update
    | Delete
    | Truncate
    | LogicalMessage
)
