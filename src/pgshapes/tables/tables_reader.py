"""The tables that exist, each declared once, as every process reads them.

A declaration gives the name of a table and the types of its keys and rows. The owner's tables, the replicas
of other processes, the frames between them and the metrics are made from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pgshapes.model.relation import Relation
from pgshapes.model.tail import Tail
from pgshapes.tables.required_version import EPOCH, NUMBER, RequiredVersion
from pgshapes.tables.rows import ConditionRow, CreationLock, ShapeRow
from pgshapes.tables.table import TableOf

LAST_SEEN_LSN: Final = "last_seen_lsn"
"""Key of `progress`: commit LSN of the last transaction that the owner has made readable."""


class TablesReader:
    """What every process can read. `Tables` and `TablesReplica` derive from it and set the tables."""

    epoch: int
    """Random per start of the owner; 0 in a replica that has never been filled."""
    applied: int
    """Number of the last frame of the owner that the tables contain."""
    required: RequiredVersion
    """The version that these tables must have to be served from."""
    relations = TableOf(tuple[str, str], Relation)
    """(schema, name) → the relation."""
    handles = TableOf(bytes, str)
    """Comparable → handle."""
    shapes = TableOf(str, ShapeRow)
    """Handle → definition and state of the shape."""
    tails = TableOf(str, Tail)
    """Handle → the readable end of its log."""
    creation_locks = TableOf(bytes, CreationLock)
    """Comparable → its creation, in progress or just failed."""
    status = TableOf(str, ConditionRow)
    """Condition → met or not."""
    progress = TableOf(str, int)
    """Counters that only grow; see `LAST_SEEN_LSN`."""

    def is_current(self) -> bool:
        """Whether these tables may be served from."""
        return self.required[EPOCH] == self.epoch and self.required[NUMBER] <= self.applied


TABLES: Final[Mapping[str, TableOf[Any, Any]]] = {
    name: declared for name, declared in vars(TablesReader).items() if isinstance(declared, TableOf)
}
"""Name → declaration."""
