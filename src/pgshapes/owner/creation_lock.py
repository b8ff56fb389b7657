"""The owner's side of `creation_locks`: the row that says "this shape is being created now" (design §6).

Callers read it and never write it, so no caller can strand it. A failed creation leaves a row that answers
every request for a second; the sweep that removes it names the creation it belongs to, so that it cannot
remove a newer row.
"""

from __future__ import annotations

import asyncio
from typing import Final

from pgshapes.errors import PgShapesError
from pgshapes.tables.rows import CreationLock, CreationState
from pgshapes.tables.tables import Tables

# One attempt a second, however many ask (design §6).
FAILURE_LASTS_S: Final = 1.0


class CreationLocks:
    """The one writer of `creation_locks`."""

    def __init__(self, tables: Tables) -> None:
        self._table = tables.creation_locks
        self._token = 0

    def claim(self, comparable: bytes) -> int:
        """Set the row; returns the creation's token."""
        self._token += 1
        self._table.put(comparable, CreationLock(CreationState.IN_PROGRESS, self._token))
        return self._token

    def wait_for_table(self, comparable: bytes, token: int) -> None:
        """Note that the creation waits for somebody's lock on the table."""
        self._move(comparable, token, CreationState.IN_PROGRESS, CreationState.WAITING_FOR_TABLE_LOCK)

    def go_on(self, comparable: bytes, token: int) -> None:
        """Note that it waits for nobody's lock any more."""
        self._move(comparable, token, CreationState.WAITING_FOR_TABLE_LOCK, CreationState.IN_PROGRESS)

    def clear(self, comparable: bytes, token: int) -> None:
        """Remove the row of this creation, whatever it says; rows of others stay."""
        row = self._table.get(comparable)
        if row is not None and row.token == token:
            self._table.remove(comparable)

    def fail(self, comparable: bytes, token: int, error: PgShapesError) -> None:
        """Turn the row into the answer for everyone who asks within the next second."""
        failed = CreationLock(CreationState.FAILED, token, error.message, error.code)
        self._table.put(comparable, failed)
        asyncio.get_running_loop().call_later(FAILURE_LASTS_S, self.clear, comparable, token)

    def _move(self, comparable: bytes, token: int, old: CreationState, new: CreationState) -> None:
        row = self._table.get(comparable)
        if row is not None and row.token == token and row.state is old:
            self._table.put(comparable, row._replace(state=new))
