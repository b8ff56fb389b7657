"""The owner's tables. In a single process they are also what callers read.

Not a store: they are in the memory of the owner's process. Invariant: only the owner's process writes, and
each start of it has a new `epoch`, so that readers can distinguish runs of the owner. The owner's own tables
are always current.
"""

from __future__ import annotations

import secrets
import sys
from contextlib import AbstractContextManager
from typing import Final

from pgshapes.tables.broadcast import Broadcast
from pgshapes.tables.required_version import EPOCH, NUMBER, RequiredVersion
from pgshapes.tables.table import Table
from pgshapes.tables.tables_reader import TABLES, TablesReader

_EPOCH_BITS: Final = 63


class Tables(TablesReader):
    """All tables, writable. Changes are sent over every link."""

    def __init__(self, *, has_notices: bool = True, required: RequiredVersion | None = None) -> None:
        """`required` is shared with the processes that have replicas; None if there is none."""
        self.epoch = secrets.randbits(_EPOCH_BITS) or 1
        self.applied = sys.maxsize
        self.required = [self.epoch, 0] if required is None else required
        self.broadcast = Broadcast(self.required[NUMBER] + 1)
        for name in TABLES:
            setattr(self, name, Table(name, self.broadcast, has_notices=has_notices))

    def transaction(self) -> AbstractContextManager[None]:
        """Changes made inside become visible together, here and in every replica. Must not span an await."""
        return self.broadcast

    def begin_epoch(self) -> None:
        """Let no process serve from the tables of an earlier owner. Called before links can be made."""
        self.required[EPOCH] = self.epoch

    async def acknowledged(self) -> None:
        """Wait until no process serves from tables without the changes so far.

        Links are given 100 ms to apply them. A process that has not, or has no link, serves nothing until it
        has them.
        """
        self.required[NUMBER] = max(self.required[NUMBER], await self.broadcast.acknowledged())
