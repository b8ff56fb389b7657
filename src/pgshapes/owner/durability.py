"""Makes changes durable, in groups, and then acknowledges them to Postgres.

One cycle: take the boundary → sync every log → record the LSN, with the transactions that snapshots may not
see yet → acknowledge. Cycles do not overlap: otherwise an older LSN could be recorded after a newer one was
acknowledged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, Protocol

import msgspec

from pgshapes.errors import PgShapesError, StorageError
from pgshapes.logs import get_logger
from pgshapes.model.lsn import Lsn
from pgshapes.model.visibility import SnapshotVisibility
from pgshapes.owner.catalogue import CatalogueReader, Statement, put_fact
from pgshapes.owner.shape_status import QueuesStatements
from pgshapes.routing.delivered import DeliveredTransaction, DeliveredTransactions
from pgshapes.routing.flush_boundary import FlushBoundary

# A sync takes milliseconds of disk time, and only the WAL on the primary waits for it.
SYNC_INTERVAL_S: Final = 0.1

_RETRY_S: Final = 1.0
_RECORDED: Final = "recorded"

_log = get_logger(__name__)


class Recorded(msgspec.Struct, frozen=True):
    """The recorded LSN: everything before `lsn` is durable here."""

    lsn: Lsn
    unseen: tuple[DeliveredTransaction, ...] = ()


def load_recorded(catalogue: CatalogueReader) -> Recorded | None:
    """What was recorded last, None in a new catalogue."""
    value = catalogue.fact(_RECORDED)
    return None if value is None else msgspec.json.decode(value, type=Recorded)


def recorded_fact(recorded: Recorded) -> Statement:
    """The write that stores `recorded`."""
    return put_fact(_RECORDED, msgspec.json.encode(recorded))


class Syncs(Protocol):
    """The log store, as it is used here."""

    async def sync(self) -> None:
        """Make everything that was written before this call durable. Raises StorageError."""


class Durability:
    """Syncs, records and acknowledges. `current_snapshot` gives the snapshot that delivered transactions are
    pruned by.
    """

    def __init__(
        self,
        store: Syncs,
        buffer: QueuesStatements,
        boundary: FlushBoundary,
        delivered: DeliveredTransactions,
        current_snapshot: Callable[[], Awaitable[SnapshotVisibility]],
    ) -> None:
        self._store = store
        self._buffer = buffer
        self._boundary = boundary
        self._delivered = delivered
        self._current_snapshot = current_snapshot
        self._progress = asyncio.Event()
        self._turn = asyncio.Lock()
        self.recorded_lsn: Lsn = boundary.processed
        self.failing: str | None = None
        """The error of the last cycle, whatever it was; None if it succeeded."""
        self.acknowledge: Callable[[Lsn], None] = lambda _: None
        """Called with the LSN that may be confirmed to Postgres; set while a stream runs."""
        self.on_sync_failed: Callable[[Iterable[str]], object] = lambda _: None
        """Called with the handles whose logs could not be synced: these shapes are removed."""

    def note_progress(self) -> None:
        """Request a cycle: the boundary may have moved."""
        self._progress.set()

    async def run(self) -> None:
        """Run cycles until cancelled. After an error of the disk or the database the cycle is retried;
        nothing is acknowledged until it succeeds.
        """
        while True:
            await self._progress.wait()
            self._progress.clear()
            await asyncio.sleep(SYNC_INTERVAL_S)
            last = self.failing
            try:
                await self.cycle()
            except PgShapesError as error:
                self._progress.set()
                if self.failing != last:
                    _log.warning("acknowledgement failed; retrying", error=error.message)
                await asyncio.sleep(_RETRY_S)
            except BaseException:
                self._progress.set()
                raise

    async def cycle(self) -> None:
        """Make durable and acknowledge what was appended so far. Raises StorageError, SourceError."""
        async with self._turn:
            try:
                await self._cycle()
            except Exception as error:  # also a shortage of threads or memory
                self.failing = error.message if isinstance(error, PgShapesError) else repr(error)
                raise
            self.failing = None

    async def _cycle(self) -> None:
        lsn = self._boundary.acknowledgeable()
        if lsn <= self.recorded_lsn:
            return
        await self._sync()
        await self._prune()
        await self._buffer.put(recorded_fact(Recorded(lsn, _up_to(self._delivered.unseen(), lsn))))
        self.recorded_lsn = lsn
        self.acknowledge(lsn)

    async def _sync(self) -> None:
        try:
            await self._store.sync()
        except StorageError as error:
            self.on_sync_failed(error.details.get("handles", ()))
            raise

    async def _prune(self) -> None:
        if len(self._delivered):
            self._delivered.prune(await self._current_snapshot())


def _up_to(unseen: Iterable[DeliveredTransaction], lsn: Lsn) -> tuple[DeliveredTransaction, ...]:
    return tuple(one for one in unseen if one.commit_lsn < lsn)
