"""The owner's tables. In a single process they are also what callers read.

Not a store: they are in the memory of the owner's process. Invariant: only the owner's process writes, and
each start of it has a new `epoch`, so that readers can distinguish runs of the owner.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable
from contextlib import AbstractContextManager

from pgshapes.tables.broadcast import Broadcast
from pgshapes.tables.table import Table
from pgshapes.tables.tables_reader import TABLES, TablesReader


class Tables(TablesReader):
    """All tables, writable. Changes are sent over every link."""

    def __init__(self, *, has_notices: bool = True) -> None:
        self.epoch = secrets.token_hex(8)
        self.broadcast = Broadcast()
        for name in TABLES:
            setattr(self, name, Table(name, self.broadcast, has_notices=has_notices))

    def transaction(self) -> AbstractContextManager[None]:
        """Changes made inside become visible together, here and in every replica. Must not span an await."""
        return self.broadcast.transaction()

    def acknowledged(self) -> Awaitable[None]:
        """Wait until every link has applied all changes so far, or was cut for not doing so within 100 ms."""
        return self.broadcast.acknowledged()
