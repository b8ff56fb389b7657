"""The copy of the owner's tables in another process, filled from frames. Knows no sockets.

Invariant: readers always see one whole state. A state that is still arriving is kept separately, with its
deltas, and replaces the old one in one step. Written by one link. `is_current` says whether the state may be
served from.
"""

from __future__ import annotations

from typing import Any

from pgshapes.errors import WireError
from pgshapes.tables.deltas import Rows
from pgshapes.tables.required_version import EPOCH, RequiredVersion
from pgshapes.tables.table import TableReplica, apply_changes
from pgshapes.tables.tables_reader import TABLES, TablesReader


class TablesReplica(TablesReader):
    """Tables that follow an owner in another process."""

    def __init__(self, *, has_notices: bool = True, required: RequiredVersion | None = None) -> None:
        """`required` is what the owner writes; without it every state is current."""
        self.epoch = 0
        self.applied = 0
        self.required = [0, 0] if required is None else required
        self._has_required = required is not None
        self._tables: dict[str, TableReplica[Any, Any]] = {}
        for name in TABLES:
            self._tables[name] = TableReplica(has_notices=has_notices)
            setattr(self, name, self._tables[name])
        self._arriving: dict[str, dict[Any, Any]] | None = None
        self._number = 0

    def begin(self, number: int) -> None:
        """Begin to receive a whole state; deltas after frame `number` are added to it."""
        self._arriving = {name: {} for name in TABLES}
        self._number = number

    def restore(self, rows: Rows, epoch: int, number: int) -> None:
        """Replace the old state with one that the owner of this epoch has stored, which has everything up to
        frame `number` that must be served. A state that is arriving still replaces it.
        """
        restored: dict[str, dict[Any, Any]] = {name: {} for name in TABLES}
        for name, changes in rows.changes():
            apply_changes(restored[name], changes)
        self._replace(restored, epoch, number)

    def take_slice(self, rows: Rows) -> None:
        """Add rows to the arriving state. Raises WireError without `begin`."""
        if self._arriving is None:
            raise WireError("state slice received before the beginning of a state")
        for name, changes in rows.changes():
            apply_changes(self._arriving[name], changes)

    def take_deltas(self, number: int, rows: Rows) -> None:
        """Apply the changes of frame `number`. Raises WireError when a frame is missing."""
        if number != self._number + 1:
            raise WireError(f"delta frame {number} received after {self._number}")
        self._number = number
        if self._arriving is not None:
            self.take_slice(rows)
            return
        self.applied = number
        for name, changes in rows.changes():
            self._tables[name].apply(changes)
        for name, changes in rows.changes():
            for key, row in changes:
                self._tables[name].announce(key, row)

    def finish(self, number: int, epoch: int) -> None:
        """Replace the old state with the arriving one, now complete, and wake every waiter. Raises
        WireError.
        """
        if self._arriving is None or number != self._number:
            raise WireError(f"end of a state at frame {number}, received {self._number}")
        arrived, self._arriving = self._arriving, None
        if not self._has_required:
            self.required[EPOCH] = epoch
        self._replace(arrived, epoch, number)

    def _replace(self, tables: dict[str, dict[Any, Any]], epoch: int, number: int) -> None:
        self.epoch, self.applied = epoch, number
        for name, table in self._tables.items():
            table.replace(tables[name])
        for table in self._tables.values():
            table.announce_all()
