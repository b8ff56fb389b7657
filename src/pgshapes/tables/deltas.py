"""The rows of one frame: changes of every table, in order within each table. Pure.

Not the tables themselves. Invariant: the fields are the declared tables, by name; all changes of one `Rows`
are applied before anyone is notified of any of them, so the order between tables cannot be observed.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import GenericAlias
from typing import Any

import msgspec

from pgshapes.tables.table import TableOf
from pgshapes.tables.tables_reader import TABLES


def _changes_of(table: TableOf[Any, Any]) -> GenericAlias:
    """The type of a list of (key, new row) pairs of `table`; None stands for a removal."""
    return GenericAlias(list, (GenericAlias(tuple, (table.key_type, table.row_type | None)),))


_fields: list[tuple[str, Any, Any]] = [(name, _changes_of(table), []) for name, table in TABLES.items()]
_Fields: Any = msgspec.defstruct("_Fields", _fields, omit_defaults=True)


class Rows(_Fields):  # type: ignore[misc] # its fields are known at run time only
    """(key, new row) pairs by table; None stands for a removal."""

    def add(self, table: str, key: Any, row: Any) -> None:
        """Add a change of `table`."""
        getattr(self, table).append((key, row))

    def changes(self) -> Iterator[tuple[str, list[tuple[Any, Any]]]]:
        """(table, its changes) for each table that has some."""
        for table in TABLES:
            changes = getattr(self, table)
            if changes:
                yield table, changes
