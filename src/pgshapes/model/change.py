"""The changes of one transaction to published tables.

A `Row` is the text of each column in Postgres's output format, None for NULL, in the attribute order of the
relation that the message named (a partition leaf may order its columns differently from its root).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple

from pgshapes.model.lsn import Lsn

Row = tuple[str | None, ...]

LARGE_CHARACTERS: Final = 20_000
"""Characters of a row from which each clause that is evaluated for it is measured."""


class Operation(Enum):
    """What happened to a row; the value is the word on the wire."""

    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"
    TRUNCATE = "truncate"


class Change(NamedTuple):
    """One row change. `op` numbers the changes of a committed transaction 0, 2, 4, ….

    A tuple, because one is made per row: 0.5 µs, where a frozen dataclass takes 1.05.
    """

    operation: Operation
    relation_oid: int
    op: int
    old: Row | None = None
    new: Row | None = None
    lsn: Lsn = 0
    """Its own position in the WAL. The values have the texts of types as they were there, which may be
    before DDL that its transaction did not wait for.
    """


@dataclass(slots=True)
class Fragment:
    """A piece of one committed transaction, in order; the last piece has `is_last`.

    Most transactions are one fragment. Large ones come in several so that memory does not grow with them.
    Nothing changes one; it is not frozen because making it would take four times as long.
    """

    xid: int
    """32-bit transaction id, as pgoutput gives it."""
    commit_lsn: Lsn
    end_lsn: Lsn
    """End of the commit record; what may be acknowledged once all is durable. Only valid when `is_last`."""
    changes: tuple[Change, ...]
    is_first: bool
    is_last: bool
    may_be_large: bool = field(default=True, compare=False)
    """Whether a row may have more than `LARGE_CHARACTERS`."""
