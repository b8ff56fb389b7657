"""The messages of pgoutput as values (manual: Logical Replication Message Formats, protocol version 1). Pure.

Not here: how the bytes are read (`pgoutput`) and how messages become transactions (`routing.assembler`).
A message between `Begin` and `Commit` belongs to the transaction of that `Begin`.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from pgshapes.model.lsn import Lsn


class Unchanged(Enum):
    """The mark of a TOASTed value that an update did not touch, and that pgoutput therefore leaves out."""

    TOAST = "unchanged TOAST"


UNCHANGED: Final = Unchanged.TOAST

Tuple = tuple[str | Unchanged | None, ...]
"""A row on the wire: text in the output format of each column's type, None for NULL."""


class Identity(Enum):
    """What an old tuple holds; the value is its byte on the wire."""

    KEY = "K"
    """The columns of the replica identity; the others are NULL."""
    FULL = "O"
    """All columns."""


class Begin(NamedTuple):
    """A committed transaction starts."""

    final_lsn: Lsn
    """LSN of the commit record."""
    commit_time: int
    """Microseconds since 2000-01-01 00:00 UTC, as all times here."""
    xid: int


class Commit(NamedTuple):
    """The transaction that began is complete."""

    commit_lsn: Lsn
    end_lsn: Lsn
    commit_time: int


class Origin(NamedTuple):
    """The transaction came from another server."""

    origin_lsn: Lsn
    name: str


class RelationColumn(NamedTuple):
    """One column of the rows that follow, in their order."""

    name: str
    type_oid: int
    typmod: int
    is_key: bool
    """Whether it is part of the replica identity."""


class RelationMessage(NamedTuple):
    """A table as its following rows are laid out: sent before its first change after a connect or DDL."""

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
    """A row that is gone."""

    relation_oid: int
    identity: Identity
    old: Tuple


class Truncate(NamedTuple):
    """Tables that were emptied by one statement."""

    relation_oids: tuple[int, ...]
    is_cascade: bool
    restarts_identity: bool


class LogicalMessage(NamedTuple):
    """What `pg_logical_emit_message` wrote; sent only when asked for."""

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
