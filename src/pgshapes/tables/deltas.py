"""The rows of one frame: changes of every table, in order within each table. Pure.

Not the tables themselves. Invariant: the fields are the tables that exist, by name; what one `Rows` holds is
applied before anyone is told of any of it, so the order between tables cannot be seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from pgshapes.model.relation import Relation
from pgshapes.model.tail import Tail
from pgshapes.tables.rows import ConditionRow, CreationLock, ShapeRow


class Rows(msgspec.Struct, omit_defaults=True):
    """(key, new row) pairs by table; None stands for a removal."""

    relations: list[tuple[tuple[str, str], Relation | None]] = []
    handles: list[tuple[bytes, str | None]] = []
    shapes: list[tuple[str, ShapeRow | None]] = []
    tails: list[tuple[str, Tail | None]] = []
    creation_locks: list[tuple[bytes, CreationLock | None]] = []
    status: list[tuple[str, ConditionRow | None]] = []
    progress: list[tuple[str, int | None]] = []

    def add(self, table: str, key: Any, row: Any) -> None:
        """Note one more change of `table`."""
        getattr(self, table).append((key, row))

    def changes(self) -> Iterator[tuple[str, list[tuple[Any, Any]]]]:
        """(table, its changes) for each table that has some."""
        for table in TABLE_NAMES:
            changes = getattr(self, table)
            if changes:
                yield table, changes


TABLE_NAMES: Final[tuple[str, ...]] = Rows.__struct_fields__
