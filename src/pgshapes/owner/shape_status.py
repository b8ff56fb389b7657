"""Which shapes there are, and how far each has come: the one writer of `handles` and `shapes` and of their
catalogue rows.

Look-ups by callers are reads of the same tables (`shape_cache`). Owned by the replicator's loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from pgshapes.model.relation import RelationData
from pgshapes.model.shape import ResolvedShape
from pgshapes.model.visibility import SnapshotVisibility
from pgshapes.owner import catalogue
from pgshapes.owner.catalogue import Statement, StoredShape
from pgshapes.tables.rows import ShapeRow
from pgshapes.tables.tables import Tables


class QueuesStatements(Protocol):
    """The write buffer, as shape status uses it."""

    def put(self, *statements: Statement) -> asyncio.Future[None]:
        """Queue writes; done when durable."""


class ShapeStatus:
    """Rows of `handles`, `shapes` and the catalogue, kept in step."""

    def __init__(
        self, tables: Tables, buffer: QueuesStatements, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._tables = tables
        self._buffer = buffer
        self._clock = clock
        self._generation = 0
        self._committed: dict[str, asyncio.Future[None]] = {}

    def add_shape(self, handle: str, shape: ResolvedShape, relation: RelationData) -> None:
        """Make a shape known that is being created; it may not be handed out before `activate`."""
        self._generation += 1
        row = ShapeRow(shape.comparable, shape.definition.relation_oid, generation=self._generation)
        with self._tables.transaction():
            self._tables.shapes.put(handle, row)
            self._tables.handles.put(shape.comparable, handle)
        self._committed[handle] = self._buffer.put(
            catalogue.insert_shape(handle, shape.comparable, shape.definition, relation)
        )

    def restore(self, stored: Iterable[StoredShape]) -> None:
        """Make the shapes of an earlier run known, activated."""
        now = self._clock()
        for shape in stored:
            row = ShapeRow(shape.comparable, shape.relation.oid, is_snapshot_started=True, last_used=now)
            self._tables.shapes.put(shape.handle, row)
            self._tables.handles.put(shape.comparable, shape.handle)

    async def committed(self, handle: str) -> None:
        """Wait until the shape's row is on disk. No handle leaves the house before. Raises StorageError."""
        future = self._committed.pop(handle, None)
        if future is not None:
            await future

    def start_snapshot(self, handle: str) -> None:
        """Note that the snapshot has been taken and its query runs."""
        self._replace(handle, is_snapshot_started=True)

    def activate(self, handle: str) -> None:
        """The last step of a creation: from here the handle may be handed out."""
        self._replace(handle, last_used=self._clock())

    def complete_snapshot(
        self, handle: str, visibility: SnapshotVisibility, membership_oid: int | None
    ) -> asyncio.Future[None]:
        """Note that the snapshot is complete and synced; done when that is durable."""
        return self._buffer.put(catalogue.complete_snapshot(handle, visibility, membership_oid))

    def retire(self, handles: Iterable[str]) -> list[str]:
        """Take shapes out of use everywhere, before they are gone; returns those that were in use."""
        retired = []
        with self._tables.transaction():
            for handle in handles:
                row = self._tables.shapes.get(handle)
                if row is None or row.is_retiring:
                    continue
                if self._tables.handles.get(row.comparable) == handle:
                    self._tables.handles.remove(row.comparable)
                self._tables.shapes.put(handle, row._replace(is_retiring=True))
                retired.append(handle)
        return retired

    def forget(self, handles: Iterable[str]) -> asyncio.Future[None] | None:
        """Delete the catalogue rows of shapes; done when that is durable."""
        statements = [catalogue.delete_shape(handle) for handle in handles]
        return self._buffer.put(*statements) if statements else None

    def remove(self, handles: Iterable[str]) -> None:
        """The end: the rows go, and with them every wait for these shapes."""
        with self._tables.transaction():
            for handle in handles:
                self._committed.pop(handle, None)
                if handle in self._tables.shapes:
                    self._tables.shapes.remove(handle)
                if handle in self._tables.tails:
                    self._tables.tails.remove(handle)

    def _replace(self, handle: str, **changes: object) -> None:
        row = self._tables.shapes.get(handle)
        if row is not None:
            self._tables.shapes.put(handle, row._replace(**changes))  # type: ignore[arg-type]
