"""The shapes and their states: the only writer of `handles`, `shapes` and the catalogue's shape rows.

It does not decide when a shape is created or removed. Invariant: a row changes by the moves of
`model/shape_state.py` only. State is owned by the replicator's event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from pgshapes.model.relation import RelationData
from pgshapes.model.shape import ResolvedShape
from pgshapes.model.shape_state import MOVES, ShapeMove, ShapeState, state_after
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
    """Rows of `handles`, `shapes` and the catalogue, changed together.

    A move that is illegal in the state of the shape raises IllegalMove and leaves that shape as it is.
    """

    def __init__(self, tables: Tables, buffer: QueuesStatements) -> None:
        self._tables = tables
        self._buffer = buffer
        self._committed: dict[str, asyncio.Future[None]] = {}

    def add_shape(self, handle: str, shape: ResolvedShape, relations: Sequence[RelationData]) -> None:
        """Add the row of a shape that is being created. Its handle must not be returned before `activate`."""
        state = self._after(handle, ShapeMove.ADD)
        row = ShapeRow(shape.comparable, shape.definition.relation_oids, state)
        with self._tables.transaction():
            self._tables.shapes.put(handle, row)
            self._tables.handles.put(shape.comparable, handle)
        self._committed[handle] = self._buffer.put(
            *map(catalogue.keep_relation, relations),
            catalogue.insert_shape(handle, shape.comparable, shape.definition, relations),
        )

    def restore(self, stored: Iterable[StoredShape]) -> None:
        """Add the rows of shapes of an earlier run. They are live at once."""
        for shape in stored:
            state = self._after(shape.handle, ShapeMove.RESTORE)
            row = ShapeRow(shape.comparable, shape.definition.relation_oids, state)
            self._tables.shapes.put(shape.handle, row)
            self._tables.handles.put(shape.comparable, shape.handle)

    def clear(self) -> None:
        """Remove every row, because restoring has failed and is begun again by another owner."""
        with self._tables.transaction():
            for comparable, _ in list(self._tables.handles.items()):
                self._tables.handles.remove(comparable)
            for handle, _ in list(self._tables.shapes.items()):
                self._tables.shapes.remove(handle)
                self._tables.tails.remove(handle)

    async def committed(self, handle: str) -> None:
        """Wait until the shape's catalogue row is durable. Raises StorageError.

        A handle is never returned before its row is committed.
        """
        future = self._committed.pop(handle, None)
        if future is not None:
            await future

    def activate(self, handle: str) -> None:
        """Make a shape live: the last step of a creation. Its handle may be returned from here on."""
        self._move(handle, ShapeMove.ACTIVATE)

    def complete_snapshot(
        self,
        handle: str,
        visibility: SnapshotVisibility,
        relations: Sequence[RelationData],
        memberships: Mapping[int, str],
    ) -> asyncio.Future[None]:
        """Record that the snapshot is complete and synced; done when that is durable."""
        return self._buffer.put(
            *map(catalogue.keep_relation, relations),
            catalogue.complete_snapshot(handle, visibility, relations, memberships),
        )

    def renew_relations(self, handles: Iterable[str], current: Sequence[RelationData]) -> None:
        """Record that these shapes were compared with `current` and continue."""
        self._buffer.put(
            *map(catalogue.keep_relation, current), catalogue.renew_relations(handles, current)
        ).add_done_callback(_retrieve)

    def retire(self, handles: Iterable[str]) -> list[str]:
        """Begin the removal of shapes; returns those whose removal had not begun before.

        A shape may be retired for two reasons at once; the second time nothing is changed.
        """
        retired = []
        with self._tables.transaction():
            for handle in handles:
                row = self._tables.shapes.get(handle)
                if row is None or (row.state, ShapeMove.RETIRE) not in MOVES:
                    continue
                if self._tables.handles.get(row.comparable) == handle:
                    self._tables.handles.remove(row.comparable)
                self._move(handle, ShapeMove.RETIRE)
                retired.append(handle)
        return retired

    def delete_rows(self, handles: Iterable[str]) -> asyncio.Future[None] | None:
        """Delete the catalogue rows of shapes; done when that is durable."""
        statements = [catalogue.delete_shape(handle) for handle in handles]
        return self._buffer.put(*statements) if statements else None

    def remove(self, handles: Iterable[str]) -> None:
        """Remove the rows of retiring shapes, which ends every wait for them."""
        with self._tables.transaction():
            for handle in handles:
                self._after(handle, ShapeMove.REMOVE)
                self._committed.pop(handle, None)
                self._tables.shapes.remove(handle)
                self._tables.tails.remove(handle)

    def _move(self, handle: str, move: ShapeMove) -> None:
        state = self._after(handle, move)
        self._tables.shapes.put(handle, self._tables.shapes[handle]._replace(state=state))

    def _after(self, handle: str, move: ShapeMove) -> ShapeState:
        row = self._tables.shapes.get(handle)
        return state_after(ShapeState.ABSENT if row is None else row.state, move)


def _retrieve(written: asyncio.Future[None]) -> None:
    """Mark the error as retrieved: without the write, the next start compares with the older relations."""
    if not written.cancelled():
        written.exception()
