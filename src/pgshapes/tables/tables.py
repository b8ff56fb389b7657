"""The tables of design §5, the owner's (`Tables`) and everybody's reading side (`TablesReader`).

Not a store: they live as long as the owner's process. Invariant: only the owner writes, and each start of it
has an `epoch` of its own, so that readers can tell a new owner from an old one.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable
from contextlib import AbstractContextManager
from typing import Any, Final, TypeVar

from pgshapes.model.relation import Relation
from pgshapes.model.tail import Tail
from pgshapes.tables.broadcast import Broadcast
from pgshapes.tables.rows import ConditionRow, CreationLock, ShapeRow
from pgshapes.tables.table import Table, TableReader

LAST_SEEN_LSN: Final = "last_seen_lsn"
"""Key of `progress`: commit LSN of the last transaction that the owner has made readable."""

K = TypeVar("K")
V = TypeVar("V")


class TablesReader:
    """What every process can read. Attributes are the tables, by the names of design §5."""

    epoch: str
    """Random per start of the owner; empty in a replica that has never been filled."""
    relations: TableReader[tuple[str, str], Relation]
    """(schema, name) → the relation."""
    handles: TableReader[bytes, str]
    """Comparable → handle."""
    shapes: TableReader[str, ShapeRow]
    """Handle → what is known of the shape."""
    tails: TableReader[str, Tail]
    """Handle → the readable end of its log."""
    creation_locks: TableReader[bytes, CreationLock]
    """Comparable → its creation, in progress or just failed."""
    status: TableReader[str, ConditionRow]
    """Condition → met or not."""
    progress: TableReader[str, int]
    """Counters that only grow; see `LAST_SEEN_LSN`."""


class Tables(TablesReader):
    """The owner's tables. In a single process they are the callers' reading side, too."""

    relations: Table[tuple[str, str], Relation]
    handles: Table[bytes, str]
    shapes: Table[str, ShapeRow]
    tails: Table[str, Tail]
    creation_locks: Table[bytes, CreationLock]
    status: Table[str, ConditionRow]
    progress: Table[str, int]

    def __init__(self, *, has_notices: bool = True) -> None:
        self.epoch = secrets.token_hex(8)
        self.broadcast = Broadcast()
        self._has_notices = has_notices
        self.relations = self._table("relations")
        self.handles = self._table("handles")
        self.shapes = self._table("shapes")
        self.tails = self._table("tails")
        self.creation_locks = self._table("creation_locks")
        self.status = self._table("status")
        self.progress = self._table("progress")

    def _table(self, name: str) -> Table[Any, Any]:
        return Table(name, self.broadcast, has_notices=self._has_notices)

    def transaction(self) -> AbstractContextManager[None]:
        """Changes made inside are seen together, here and in every replica. Must not span an await."""
        return self.broadcast.transaction()

    def acknowledged(self) -> Awaitable[None]:
        """Wait until every link has applied all changes so far, or was cut for not doing so within 100 ms."""
        return self.broadcast.acknowledged()
