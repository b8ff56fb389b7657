"""A snapshot's rows on their way from the query to the chunks of the shape's log (design §8, order of a
snapshot).

Readers may follow while it runs. When the last chunk is there: sync everything of the shape, then record in
the catalogue that the snapshot is complete; a crash before that removes the shape.
"""

from __future__ import annotations

import asyncio

import orjson

from pgshapes.errors import CreationFailed, PgShapesError
from pgshapes.model.visibility import SnapshotVisibility
from pgshapes.owner.log_publisher import LogPublisher
from pgshapes.owner.shape_status import ShapeStatus
from pgshapes.owner.taken_snapshot import TakenSnapshot
from pgshapes.shape_log.store import ShapeStore


class SnapshotWriting:
    """One snapshot being written. `started` is done with the first row, or at the end of none; it fails with
    the query.
    """

    def __init__(
        self,
        handle: str,
        taken: TakenSnapshot,
        store: ShapeStore,
        status: ShapeStatus,
        publisher: LogPublisher,
        membership_oid: int | None,
    ) -> None:
        self._handle = handle
        self._taken = taken
        self._store = store
        self._status = status
        self._publisher = publisher
        self._membership_oid = membership_oid
        self.started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.has_started = False

    async def run(self) -> None:
        """Write to the end. Raises what the query or the disk raised."""
        try:
            await self._write()
        except PgShapesError as error:
            self._fail(error)
            raise
        except BaseException as error:
            self._fail(CreationFailed(f"Shape terminated before snapshot was ready: {error}"))
            raise
        finally:
            await self._taken.close()

    async def _write(self) -> None:
        log = self._store.get(self._handle)
        if log is None:
            raise CreationFailed("Shape terminated before snapshot was ready")
        writer = log.start_snapshot()
        chunks = 0
        async for rows in self._taken.rows():
            writer.add_rows(rows)
            self._start()
            if log.tail.snapshot_chunks != chunks:
                chunks = log.tail.snapshot_chunks
                self._publisher.publish_tail(self._handle)
        writer.finish(snapshot_end(self._taken.visibility))
        self._start()
        self._publisher.publish_tail(self._handle)
        await self._store.sync_shape(self._handle)
        await self._status.complete_snapshot(self._handle, self._taken.visibility, self._membership_oid)

    def _start(self) -> None:
        if not self.has_started:
            self.has_started = True
            self.started.set_result(None)

    def _fail(self, error: PgShapesError) -> None:
        if not self.started.done():
            self.started.set_exception(error)
            self.started.exception()


def snapshot_end(visibility: SnapshotVisibility) -> bytes:
    """The control message behind the last row (http-api §5.6)."""
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
