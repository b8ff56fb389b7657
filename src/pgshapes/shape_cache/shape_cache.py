"""From a definition to the handle of its one live shape, in every process that answers requests (design §6).

Reads are table reads; a miss becomes at most one call to the owner per process and definition, and none while
the creation lock is seen set. State of its own: the flights under way and the definitions resolved so far.
Never writes a table, so no caller can strand a lock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Final

from pgshapes.errors import NotNow, OwnerAway, PgShapesError
from pgshapes.gates import poll_wait
from pgshapes.model.shape import RawShape, ResolvedShape
from pgshapes.model.tail import Tail
from pgshapes.shape_cache.creation_lock import failure_of
from pgshapes.tables.calls import CreateOrWaitShapeHandle, DeleteShape, ResolveShape
from pgshapes.tables.link import OwnerLink
from pgshapes.tables.rows import CreationLock, CreationState
from pgshapes.tables.tables import LAST_SEEN_LSN

CREATION_TIMEOUT_S: Final = 30.0
RESOLVE_TIMEOUT_S: Final = 10.0
# A creation may wait this long for old writers of its table (design §7); a flight outlives its waiters'
# deadlines.
_FLIGHT_TIMEOUT_S: Final = 660.0
_RESOLVED_LIMIT: Final = 10_000

RETRY_TEXT: Final = "Failed to create shape, please retry"
LOCK_TEXT: Final = "Snapshot timed out while waiting for a table lock"


@dataclass(slots=True)
class ShapeCacheCounts:
    """What this process has done, for metrics and for tests that count."""

    hits: int = 0
    flights: int = 0
    joined: int = 0
    owner_calls: int = 0
    lock_hits: int = 0
    polls: int = 0
    resolves: int = 0


@dataclass(slots=True, eq=False)
class _Flight:
    task: asyncio.Task[tuple[str, Tail]]
    waiters: int = 0


class ShapeCache:
    """The `Shapes` port of the HTTP API, over a link to the owner."""

    def __init__(self, link: OwnerLink) -> None:
        self._link = link
        self._flights: dict[bytes, _Flight] = {}
        self._resolved: dict[RawShape, ResolvedShape] = {}
        self._resolving: dict[RawShape, asyncio.Task[ResolvedShape]] = {}
        self.counts = ShapeCacheCounts()

    # --- definitions

    async def resolve(self, raw: RawShape) -> ResolvedShape:
        """Check a definition; remembered for as long as its relation's generation stays. Raises RequestError,
        NotNow.
        """
        known = self._resolved.get(raw)
        if known is not None:
            relation = self._link.tables.relations.get((raw.schema, raw.table))
            if relation is not None and relation.generation == known.relation_generation:
                return known
        task = self._resolving.get(raw)
        if task is None:
            task = self._resolving[raw] = asyncio.ensure_future(self._resolve(raw))
            task.add_done_callback(lambda done: self._resolving.pop(raw, None))
            task.add_done_callback(_retrieve)
        return await asyncio.shield(task)

    async def _resolve(self, raw: RawShape) -> ResolvedShape:
        self.counts.resolves += 1
        shape = await self._link.call(ResolveShape(raw), timeout_s=RESOLVE_TIMEOUT_S)
        assert isinstance(shape, ResolvedShape)
        if len(self._resolved) >= _RESOLVED_LIMIT:
            self._resolved.pop(next(iter(self._resolved)))
        self._resolved[raw] = shape
        return shape

    # --- handles

    def find_handle(self, shape: ResolvedShape) -> str | None:
        """The live, activated handle of a definition as far as this process knows."""
        found = self._ready(shape.comparable)
        return found[0] if found else None

    async def get_or_create_shape_handle(
        self, shape: ResolvedShape, timeout_s: float = CREATION_TIMEOUT_S
    ) -> tuple[str, Tail]:
        """The handle and the readable end of a shape, which is created if need be.

        Raises what made the creation fail, or NotNow at the deadline; the creation itself goes on.
        """
        ready = self._ready(shape.comparable)
        if ready is not None:
            self.counts.hits += 1
            return ready
        self._raise_if_failed(shape.comparable)
        flight = self._flights.get(shape.comparable)
        if flight is None:
            flight = self._depart(shape)
        else:
            self.counts.joined += 1
        return await self._wait(flight, shape.comparable, timeout_s)

    def is_known(self, handle: str) -> bool:
        """Whether this process's tables have the handle in use."""
        row = self._link.tables.shapes.get(handle)
        return row is not None and not row.is_retiring

    async def is_current(self, handle: str, shape: ResolvedShape) -> bool:
        """Whether the handle lives and stands for this definition; the owner is asked before the answer is
        no.
        """
        if self._stands_for(handle, shape):
            return True
        await self._link.barrier()
        return self._stands_for(handle, shape)

    def _stands_for(self, handle: str, shape: ResolvedShape) -> bool:
        row = self._link.tables.shapes.get(handle)
        return (
            row is not None
            and row.comparable == shape.comparable
            and row.last_used is not None
            and not row.is_retiring
        )

    # --- tails

    def tail(self, handle: str) -> Tail | None:
        """The readable end of a log, None when the shape is gone or retiring."""
        row = self._link.tables.shapes.get(handle)
        if row is None or row.is_retiring:
            return None
        return self._link.tables.tails.get(handle)

    def tail_changed(self, handle: str) -> Awaitable[None]:
        """Done at the next change of the tail, or when the shape is gone everywhere."""
        return self._link.tables.tails.changed(handle)

    async def removed(self, handle: str) -> None:
        """Wait until a retiring shape is gone everywhere, so that a 409 may be sent."""
        while handle in self._link.tables.shapes:
            await self._link.tables.shapes.changed(handle)

    async def delete(self, handle: str) -> bool:
        """Remove a shape; False when there is none."""
        return bool(await self._link.call(DeleteShape(handle), timeout_s=CREATION_TIMEOUT_S))

    def last_seen_lsn(self) -> int:
        """Commit LSN of the last transaction that the owner has made readable."""
        return self._link.tables.progress.get(LAST_SEEN_LSN) or 0

    # --- flights

    def _ready(self, comparable: bytes) -> tuple[str, Tail] | None:
        tables = self._link.tables
        handle = tables.handles.get(comparable)
        if handle is None:
            return None
        row = tables.shapes.get(handle)
        if row is None or row.last_used is None or row.is_retiring:
            return None
        tail = tables.tails.get(handle)
        return None if tail is None else (handle, tail)

    def _depart(self, shape: ResolvedShape) -> _Flight:
        self.counts.flights += 1
        flight = _Flight(asyncio.ensure_future(self._fly(shape)))
        self._flights[shape.comparable] = flight

        def land(task: asyncio.Task[tuple[str, Tail]]) -> None:
            _retrieve(task)
            if self._flights.get(shape.comparable) is flight:
                del self._flights[shape.comparable]

        flight.task.add_done_callback(land)
        return flight

    async def _wait(self, flight: _Flight, comparable: bytes, timeout_s: float) -> tuple[str, Tail]:
        flight.waiters += 1
        try:
            return await asyncio.wait_for(asyncio.shield(flight.task), timeout_s)
        except TimeoutError:
            raise self._late(comparable) from None
        except asyncio.CancelledError:
            if flight.task.cancelled():
                raise NotNow(RETRY_TEXT, retry_after_s=1) from None
            raise
        finally:
            flight.waiters -= 1
            if flight.waiters == 0 and not flight.task.done():
                self._flights.pop(comparable, None)
                flight.task.cancel()

    async def _fly(self, shape: ResolvedShape) -> tuple[str, Tail]:
        comparable = shape.comparable
        for _ in range(2):
            epoch = self._link.epoch
            if comparable in self._link.tables.creation_locks:
                self.counts.lock_hits += 1
                await self._poll(comparable, epoch)
            else:
                await self._ask(shape)
            ready = self._ready(comparable)
            if ready is not None:
                return ready
            self._raise_if_failed(comparable)
        raise NotNow(RETRY_TEXT, retry_after_s=1)

    async def _ask(self, shape: ResolvedShape) -> None:
        self.counts.owner_calls += 1
        try:
            await self._link.call(CreateOrWaitShapeHandle(shape), timeout_s=_FLIGHT_TIMEOUT_S)
        except OwnerAway:
            # In its next life, or over a new link to the same one, the tables tell what to do.
            async with asyncio.timeout(_FLIGHT_TIMEOUT_S):
                await self._link.connected()

    async def _poll(self, comparable: bytes, epoch: str) -> None:
        locks = self._link.tables.creation_locks

        def is_over() -> bool:
            self.counts.polls += 1
            row = locks.get(comparable)
            return row is None or row.state is CreationState.FAILED or self._link.epoch != epoch

        await poll_wait.until(
            is_over,
            _FLIGHT_TIMEOUT_S,
            initial_s=0.005,
            cap_s=0.1,
            notice=lambda: locks.changed(comparable),
        )

    def _raise_if_failed(self, comparable: bytes) -> None:
        row = self._link.tables.creation_locks.get(comparable)
        if row is not None and row.state is CreationState.FAILED:
            raise failure_of(row)

    def _late(self, comparable: bytes) -> PgShapesError:
        row: CreationLock | None = self._link.tables.creation_locks.get(comparable)
        if row is not None and row.state is CreationState.WAITING_FOR_TABLE_LOCK:
            return NotNow(LOCK_TEXT, retry_after_s=1, known=True)
        return NotNow(RETRY_TEXT, retry_after_s=1)


def _retrieve(
    task: asyncio.Future[object] | asyncio.Task[tuple[str, Tail]] | asyncio.Task[ResolvedShape],
) -> None:
    if not task.cancelled():
        task.exception()
