"""Takes a shape's snapshot, repeatedly if necessary, and writes its rows to the chunks of the shape's log.

A transaction that was delivered before the shape was registered must be visible in the shape's snapshot:
it will not be delivered again. If it is not visible yet, the snapshot is discarded before its query runs and
another one is taken.

A snapshot keeps its connection until `end` is called, which does not wait. The code that took a snapshot
calls it, or hands that over together with the task that writes the rows.

The rows are readable while they are written. After the last chunk, all files of the shape are synced, then
the catalogue records that the snapshot is complete; a crash before that removes the shape.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final, NamedTuple

import orjson

from pgshapes.errors import CreationFailed, PgShapesError
from pgshapes.model.relation import Relation
from pgshapes.model.shape import ShapeDefinition
from pgshapes.model.visibility import SnapshotVisibility
from pgshapes.owner.change_path import LogPublisher
from pgshapes.owner.shape_status import ShapeStatus
from pgshapes.postgres.relation_sql import RelationStamp
from pgshapes.postgres.rendering import copy_rows
from pgshapes.postgres.snapshot import Snapshot, SnapshotSource
from pgshapes.shape_log.store import ShapeStore
from pgshapes.waiting.retake import retake

RETAKE_TIMEOUT_S: Final = 60.0
"""While a synchronous standby is unavailable a transaction may not become visible; then the creation fails.
"""
_TERMINATED: Final = "Shape terminated before snapshot was ready"


class TakenSnapshot:
    """A snapshot: its visibility and its rows. Keeps its connection until `end`."""

    def __init__(self, snapshot: Snapshot, visibility: SnapshotVisibility) -> None:
        self._snapshot = snapshot
        self.visibility = visibility

    @property
    def stamp(self) -> RelationStamp:
        """The version of the table in the snapshot."""
        assert self._snapshot.stamp is not None
        return self._snapshot.stamp

    async def read_relation(self) -> Relation:
        """The table as it is in the snapshot. Raises NotNow, SchemaChanged, SourceError."""
        return await self._snapshot.read_relation()

    def rows(self, relation: Relation, definition: ShapeDefinition) -> AsyncIterator[list[bytes]]:
        """The rows as JSON texts, in batches; to be read once. `relation` is the table in the snapshot."""
        if definition.log == "changes_only":
            return self._snapshot.rows(None)
        statement = copy_rows(relation, definition.columns, definition.where)
        return self._snapshot.rows(statement, has_where=definition.where is not None)

    def end(self) -> None:
        """Return the connection now; a running query is cancelled. A second call does nothing."""
        self._snapshot.end()


async def take_snapshot(
    source: SnapshotSource,
    relation: Relation,
    prepare_check: Callable[[], Callable[[SnapshotVisibility], bool]],
    on_retake: Callable[[], None],
) -> TakenSnapshot:
    """A snapshot that the check accepts, to be ended by the caller. `prepare_check` is called before each
    snapshot is taken.

    Raises CreationFailed when no snapshot was accepted in time, NotNow, SourceError.
    """
    snapshot = await source.borrow(relation)

    async def take() -> SnapshotVisibility | None:
        is_complete = prepare_check()
        visibility = await snapshot.take()
        if is_complete(visibility):
            return visibility
        await snapshot.discard()
        return None

    try:
        visibility = await retake(take, RETAKE_TIMEOUT_S, on_retake)
        if visibility is None:
            raise CreationFailed("a committed transaction does not become visible (synchronous standby?)")
    except BaseException:
        await snapshot.end()
        raise
    return TakenSnapshot(snapshot, visibility)


class SnapshotBasis(NamedTuple):
    """What a snapshot is of, and what it was found to be compatible with."""

    definition: ShapeDefinition
    relations: tuple[Relation, ...]
    """The relations of the definition as they are in the snapshot."""
    memberships: Mapping[int, str]
    """How they are published, by oid."""


class SnapshotWriting:
    """Writes one snapshot. `started` is done when the first row is written, or at the end of an empty
    snapshot; it fails if the query fails before that, or the writing ends.

    `run` is run in a task, whose end is told to `end`: it may be cancelled before its first step.
    """

    def __init__(
        self,
        handle: str,
        taken: TakenSnapshot,
        store: ShapeStore,
        status: ShapeStatus,
        publisher: LogPublisher,
        basis: SnapshotBasis,
    ) -> None:
        self._handle = handle
        self._taken = taken
        self._store = store
        self._status = status
        self._publisher = publisher
        self._basis = basis
        self.started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.has_started = False
        self._error: PgShapesError | None = None

    async def run(self) -> None:
        """Write all rows, unless the query or the disk fails, which `end` tells."""
        try:
            await self._write()
        except PgShapesError as error:
            self._error = error

    def end(self, task: asyncio.Task[None]) -> PgShapesError | None:
        """Return the connection and end the wait for the first row; why the rows are not complete, if so."""
        self._taken.end()
        error = self._error
        if error is None and (task.cancelled() or task.exception() is not None):
            error = CreationFailed(_TERMINATED)
        if error is None:
            return None
        if not self.started.done():
            self.started.set_exception(error)
            self.started.exception()  # marked as retrieved, also if no task awaits it
        return error

    async def _write(self) -> None:
        log = self._store.get(self._handle)
        if log is None:
            raise CreationFailed(_TERMINATED)
        writer = log.start_snapshot()
        chunks = 0
        async for rows in self._taken.rows(self._basis.relations[0], self._basis.definition):
            writer.add_rows(rows)
            self._start()
            if log.tail.snapshot_chunks != chunks:
                chunks = log.tail.snapshot_chunks
                self._publisher.publish_tail(self._handle)
        writer.finish(snapshot_end(self._taken.visibility))
        self._start()
        self._publisher.publish_tail(self._handle)
        await self._store.sync_shape(self._handle)
        await self._status.complete_snapshot(
            self._handle, self._taken.visibility, self._basis.relations, self._basis.memberships
        )

    def _start(self) -> None:
        if not self.has_started:
            self.has_started = True
            if not self.started.done():
                self.started.set_result(None)


def snapshot_end(visibility: SnapshotVisibility) -> bytes:
    """The control message after the last row."""
    return orjson.dumps(
        {
            "headers": {
                "control": "snapshot-end",
                "xmin": str(visibility.xmin),
                "xmax": str(visibility.xmax),
                "xip_list": [str(xid) for xid in visibility.xip],
            }
        }
    )
