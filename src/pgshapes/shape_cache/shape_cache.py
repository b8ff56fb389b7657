"""Finds or requests the live shape of a definition, in every process that answers requests.

Known shapes are found by table reads. A miss costs at most one call to the owner per process and definition,
and none while the creation lock is set. It never writes a table, so a caller that dies cannot leave a lock.
Nothing is returned from tables that are not current (`tables.required_version`).
`creation_protocol` decides each step. State: the flights in progress.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from pgshapes.errors import NotNow, OwnerTimeout, OwnerUnavailable, PgShapesError, StaleTables
from pgshapes.gates.time_limits import CREATION_TIMEOUT_S
from pgshapes.metrics.family import SECONDS, TIMES, Distribution
from pgshapes.model.shape import RawShape, ResolvedShape
from pgshapes.model.tail import Tail
from pgshapes.shape_cache.definitions import Definitions
from pgshapes.tables.calls import CreateOrWaitShapeHandle, DeleteShape, InvalidateRelation
from pgshapes.tables.creation_protocol import (
    MAX_ATTEMPTS,
    FlightStep,
    is_failed,
    is_poll_over,
    next_flight_step,
)
from pgshapes.tables.link import OwnerLink
from pgshapes.tables.required_version import EPOCH, NUMBER
from pgshapes.tables.rows import CreationLock, CreationState
from pgshapes.tables.tables_reader import LAST_SEEN_LSN
from pgshapes.waiting import poll_wait
from pgshapes.waiting.batch import BatchQueue
from pgshapes.waiting.single_flight import SingleFlight

POLL_INITIAL_S: Final = 0.005
POLL_CAP_S: Final = 0.1
"""A small shape takes a few milliseconds; a delay of 0.1 s is acceptable for larger ones."""
_FLIGHT_TIMEOUT_S: Final = 660.0
"""A creation may wait this long for old writers of its table; a flight outlives its waiters' deadlines."""

COMPARISON_TIMEOUT_S: Final = 10.0
"""Of the tables with the owner's, and of a table with the system catalogs."""

RETRY_TEXT: Final = "Failed to create shape, please retry"
STALE_TEXT: Final = "The server is not ready yet. Please try again."
REMOVAL_TEXT: Final = "The shape is being removed, which takes long. Please try again later."
REMOVAL_TIMEOUT_S: Final = 20.0
"""A removal takes a few syncs of a directory, and what waits for it holds a permit."""
LOCK_TEXT: Final = "Snapshot timed out while waiting for a table lock"


@dataclass(slots=True)
class ShapeCacheCounts:
    """Counters of this process, for metrics and tests."""

    hits: int = 0
    """Requests that were answered by a table read."""
    owner_calls: int = 0
    """Calls to the owner to create a shape or to wait for one."""
    owner_losses: int = 0
    """Calls during which the connection to the owner was lost."""
    lock_hits: int = 0
    """Flights that sent no call because the lock was set."""
    late: int = 0
    """Requests that timed out before their shape was created."""
    polls_per_wait: Distribution = field(default_factory=lambda: Distribution(TIMES))
    wait_s: Distribution = field(default_factory=lambda: Distribution(SECONDS))
    """How long callers waited for a shape that did not exist when they requested it."""


class Poll(Protocol):
    """`poll_wait.until`, as it is used here."""

    def __call__(
        self,
        check: Callable[[], bool],
        timeout_s: float,
        /,
        *,
        initial_s: float,
        cap_s: float,
        notice: Callable[[], Awaitable[None]],
    ) -> Awaitable[bool]:
        """True once `check` is. Raises TimeoutError."""


class ShapeCache:
    """The `Shapes` port of the HTTP API, over a link to the owner."""

    def __init__(self, link: OwnerLink, *, poll: Poll = poll_wait.until) -> None:
        self._link = link
        self._tables = link.tables
        self._poll = poll
        self._used: set[str] = set()
        """The handles whose tails were read since the last report (`use_tracking`)."""
        self.removal_timeout_s = REMOVAL_TIMEOUT_S
        self.definitions = Definitions(link)
        self._comparisons: BatchQueue[int, None] = BatchQueue(self._compare_tables)
        self.flights: SingleFlight[bytes, tuple[str, Tail]] = SingleFlight()
        self.counts = ShapeCacheCounts()

    async def resolve(self, raw: RawShape) -> ResolvedShape:
        """Check a definition. Raises RequestError, NotNow, OwnerUnavailable."""
        return await self.definitions.resolve(raw)

    # --- handles

    def find_handle(self, shape: ResolvedShape) -> str | None:
        """The handle of the live shape of a definition, according to this process's tables.

        Raises StaleTables.
        """
        found = self._ready(shape.comparable)
        return found[0] if found else None

    async def get_or_create_shape_handle(
        self, shape: ResolvedShape, timeout_s: float = CREATION_TIMEOUT_S
    ) -> tuple[str, Tail]:
        """The handle and the tail of a shape, which is created if it does not exist.

        Raises the error of the creation, or NotNow at the deadline; the creation itself continues.
        """
        comparable = shape.comparable
        ready = self._ready(comparable)
        if ready is not None:
            self.counts.hits += 1
            return ready
        self._raise_if_failed(comparable)
        clock = asyncio.get_running_loop().time
        began_s = clock()
        try:
            return await self.flights.wait(comparable, lambda: self._find_or_create(shape), timeout_s)
        except TimeoutError:
            self.counts.late += 1
            raise self._timeout_error(comparable) from None
        finally:
            self.counts.wait_s.observe(clock() - began_s)

    def is_known(self, handle: str) -> bool:
        """Whether the handle is in use, according to this process's tables."""
        row = self._tables.shapes.get(handle)
        return row is not None and row.state.is_in_use

    async def is_current(self, handle: str, shape: ResolvedShape) -> bool:
        """Whether the shape with this handle is live and has this definition.

        Before it returns False, it waits until the tables are as new as the owner's. Raises OwnerUnavailable.
        """
        if self._stands_for(handle, shape):
            return True
        await self._link.barrier(timeout_s=COMPARISON_TIMEOUT_S)
        return self._stands_for(handle, shape)

    async def is_in_use(self, handle: str) -> bool:
        """Whether the handle is in use, after the owner has compared its table with the system catalogs.

        Raises NotNow, OwnerUnavailable, SourceError.
        """
        row = self._tables.shapes.get(handle)
        if row is None:
            await self._link.barrier(timeout_s=COMPARISON_TIMEOUT_S)
            row = self._tables.shapes.get(handle)
        for oid in row.relation_oids if row is not None else ():
            await self._comparisons.request(oid)
        return self.is_known(handle)

    async def _compare_tables(self, oids: tuple[int, ...]) -> Mapping[int, None]:
        for oid in oids:
            await self._link.call(InvalidateRelation(oid), timeout_s=COMPARISON_TIMEOUT_S)
        return {}

    def _stands_for(self, handle: str, shape: ResolvedShape) -> bool:
        row = self._tables.shapes.get(handle)
        return row is not None and row.state.is_live and row.comparable == shape.comparable

    # --- tails

    def tail(self, handle: str) -> Tail | None:
        """The readable end of a log, None when the shape is retiring or removed. Every read of a shape calls
        it first. Raises StaleTables.
        """
        tables = self._tables
        # As in `is_current`, without the call.
        if tables.required[EPOCH] != tables.epoch or tables.required[NUMBER] > tables.applied:
            raise StaleTables(STALE_TEXT)
        row = tables.shapes.get(handle)
        if row is None or not row.state.is_in_use:
            return None
        self._used.add(handle)
        return tables.tails.get(handle)

    def tail_changed(self, handle: str) -> Awaitable[None]:
        """Done at the next change of the tail, or when the shape is removed.

        While the snapshot is being written it also polls, so that a lost notice does not delay a creation.
        """
        tails = self._tables.tails
        seen = tails.get(handle)
        if seen is None or seen.is_snapshot_complete:
            return tails.changed(handle)
        return self._until(lambda: tails.get(handle) is not seen, lambda: tails.changed(handle))

    async def removed(self, handle: str) -> None:
        """Wait until a retiring shape is removed, so that a 409 may be sent.

        Raises NotNow if that takes long: the removal is not durable before the disk works again.
        """
        shapes = self._tables.shapes
        if handle not in shapes:
            return
        try:
            await self._until(
                lambda: handle not in shapes, lambda: shapes.changed(handle), self.removal_timeout_s
            )
        except TimeoutError:
            raise NotNow(REMOVAL_TEXT, retry_after_s=5) from None

    async def delete(self, handle: str) -> bool:
        """Remove a shape; False when there is none. Raises NotNow if that takes long, OwnerUnavailable."""
        try:
            return bool(await self._link.call(DeleteShape(handle), timeout_s=self.removal_timeout_s))
        except OwnerTimeout:
            raise NotNow(REMOVAL_TEXT, retry_after_s=5) from None

    def last_seen_lsn(self) -> int:
        """Commit LSN of the last transaction that the owner has made readable."""
        return self._tables.progress.get(LAST_SEEN_LSN) or 0

    # --- flights

    def _ready(self, comparable: bytes) -> tuple[str, Tail] | None:
        tables = self._tables
        # As in `is_current`, without the call.
        if tables.required[EPOCH] != tables.epoch or tables.required[NUMBER] > tables.applied:
            raise StaleTables(STALE_TEXT)
        handle = tables.handles.get(comparable)
        if handle is None:
            return None
        row = tables.shapes.get(handle)
        if row is None or not row.state.is_live:
            return None
        tail = tables.tails.get(handle)
        return None if tail is None else (handle, tail)

    async def _find_or_create(self, shape: ResolvedShape) -> tuple[str, Tail]:
        failures: list[CreationLock] = []

        def note_failure(row: CreationLock | None) -> None:
            if row is not None and is_failed(row):
                failures.append(row)

        stop = self._tables.creation_locks.watch(shape.comparable, note_failure)
        try:
            return await self._run_steps(shape, failures)
        finally:
            stop()

    async def _run_steps(self, shape: ResolvedShape, failures: list[CreationLock]) -> tuple[str, Tail]:
        comparable, locks = shape.comparable, self._tables.creation_locks
        for attempts_left in range(MAX_ATTEMPTS, -1, -1):
            epoch, ready, lock = self._link.epoch, self._ready(comparable), locks.get(comparable)
            step = next_flight_step(
                is_ready=ready is not None,
                has_seen_failure=bool(failures),
                lock=lock,
                attempts_left=attempts_left,
            )
            if step is FlightStep.RETURN and ready is not None:
                return ready
            if step is FlightStep.FAIL:
                raise (failures[-1] if failures else locks[comparable]).error()
            if step is FlightStep.ASK:
                await self._ask(shape)
            elif step is FlightStep.POLL:
                self.counts.lock_hits += 1
                await self._watch_lock(comparable, epoch, failures)
        raise NotNow(RETRY_TEXT, retry_after_s=1)

    async def _ask(self, shape: ResolvedShape) -> None:
        self.counts.owner_calls += 1
        try:
            await self._link.call(CreateOrWaitShapeHandle(shape), timeout_s=_FLIGHT_TIMEOUT_S)
        except OwnerTimeout:
            raise TimeoutError from None  # nobody waits for as long
        except OwnerUnavailable:
            # The tables of the next owner, or of the same one over a new connection, decide the next step.
            self.counts.owner_losses += 1
            async with asyncio.timeout(_FLIGHT_TIMEOUT_S):
                await self._link.connected()

    async def _watch_lock(self, comparable: bytes, epoch: int, failures: list[CreationLock]) -> None:
        locks, polls = self._tables.creation_locks, 0

        def is_over() -> bool:
            nonlocal polls
            polls += 1
            return is_poll_over(
                has_seen_failure=bool(failures),
                lock=locks.get(comparable),
                is_same_epoch=self._link.epoch == epoch,
            )

        try:
            await self._until(is_over, lambda: locks.changed(comparable), _FLIGHT_TIMEOUT_S)
        finally:
            self.counts.polls_per_wait.observe(polls)

    async def _until(
        self, check: Callable[[], bool], notice: Callable[[], Awaitable[None]], timeout_s: float = math.inf
    ) -> None:
        """Poll at the shape cache's intervals."""
        await self._poll(check, timeout_s, initial_s=POLL_INITIAL_S, cap_s=POLL_CAP_S, notice=notice)

    def _raise_if_failed(self, comparable: bytes) -> None:
        row = self._tables.creation_locks.get(comparable)
        if row is not None and is_failed(row):
            raise row.error()

    def _timeout_error(self, comparable: bytes) -> PgShapesError:
        row: CreationLock | None = self._tables.creation_locks.get(comparable)
        if row is not None and row.state is CreationState.WAITING_FOR_TABLE_LOCK:
            return NotNow(LOCK_TEXT, retry_after_s=1, known=True)
        return NotNow(RETRY_TEXT, retry_after_s=1)
