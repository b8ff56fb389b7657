"""The owner's queue of creations: one at a time for each definition, several definitions concurrently.

The lock row is set when a call arrives, before it waits for a slot. A call that finds a creation in progress
attaches to it. A creation whose callers have all disconnected before it began is skipped. Callers read the
lock rows and never write them, so a caller that dies cannot leave a row. A failed creation keeps its row for
a second, which answers every request; the timer that removes it carries the creation's token, so it cannot
remove a newer row.

A creation releases its slot while it waits for a table's old writers, which may take minutes and uses no
resources here, and acquires one again before it continues: creations on a locked table must not hold all
slots.

State is owned by the replicator's loop.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from pgshapes.errors import CatalogueError, CreationFailed, NotNow, PgShapesError, RequestError, SchemaChanged
from pgshapes.logs import get_logger
from pgshapes.model.shape import ResolvedShape
from pgshapes.tables.creation_protocol import CallStep, next_call_step
from pgshapes.tables.mailbox import CallContext
from pgshapes.tables.rows import CreationLock, CreationState
from pgshapes.tables.tables import Tables
from pgshapes.waiting.fair_semaphore import FairSemaphore
from pgshapes.waiting.single_flight import STOPPING, Flight, SingleFlight

# At most one attempt per second, regardless of the number of requests.
FAILURE_LASTS_S: Final = 1.0
LATE_FAILURE_LASTS_S: Final = 10.0
"""Longer than the removal of the shape, after which its clients request it again."""
PASSING_FAILURE_LASTS_S: Final = 1.0
LONGEST_FAILURE_S: Final = 60.0
"""The rows of the table may be mended at any time."""
LATE_FAILURES_KEPT: Final = 1000


class LateFailures:
    """How long the failures of activated shapes answer requests: twice as long after each.

    State: by comparable, how many snapshots have failed since one was completed; at most
    `LATE_FAILURES_KEPT` of them.
    """

    def __init__(self) -> None:
        self._counts: dict[bytes, int] = {}

    def pause_s(self, comparable: bytes, error: PgShapesError) -> float:
        """How long this failure, which has just happened, answers requests."""
        count = self._counts.pop(comparable, 0)
        if len(self._counts) >= LATE_FAILURES_KEPT:
            del self._counts[next(iter(self._counts))]
        self._counts[comparable] = count + 1
        first_s = LATE_FAILURE_LASTS_S if isinstance(error, RequestError) else PASSING_FAILURE_LASTS_S
        return float(min(first_s * 2 ** min(count, 10), LONGEST_FAILURE_S))

    def forget(self, comparable: bytes) -> None:
        """A snapshot was completed."""
        self._counts.pop(comparable, None)


_TOKENS: Final = itertools.count(1)
"""Of all owners of the process: a timer of one that has ended must not remove a row of the next one."""


class CreationLocks:
    """The only writer of `creation_locks`."""

    def __init__(self, tables: Tables) -> None:
        self._table = tables.creation_locks
        self.late_failures = LateFailures()

    def claim(self, comparable: bytes) -> int:
        """Set the row; returns the creation's token."""
        token = next(_TOKENS)
        self._table.put(comparable, CreationLock(CreationState.IN_PROGRESS, token))
        return token

    def begin_table_wait(self, comparable: bytes, token: int) -> None:
        """Note that the creation waits for a lock on the table."""
        self._move(comparable, token, CreationState.IN_PROGRESS, CreationState.WAITING_FOR_TABLE_LOCK)

    def end_table_wait(self, comparable: bytes, token: int) -> None:
        """Note that the creation no longer waits for a lock on the table."""
        self._move(comparable, token, CreationState.WAITING_FOR_TABLE_LOCK, CreationState.IN_PROGRESS)

    def clear(self, comparable: bytes, token: int) -> None:
        """Remove the row if it is that of this creation."""
        row = self._table.get(comparable)
        if row is not None and row.token == token:
            self._table.remove(comparable)

    def fail_again(self, comparable: bytes, error: PgShapesError) -> None:
        """Answer requests with the error for a while, after a shape that was activated has failed with it:
        each creation may fail in the same way, and clients would refetch without end.
        """
        lasts_s = self.late_failures.pause_s(comparable, error)
        if isinstance(error, NotNow):
            error = CreationFailed(error.message, retry_after_s=math.ceil(lasts_s), known=True)
        self.fail(comparable, self.claim(comparable), error, lasts_s=lasts_s)

    def fail(
        self, comparable: bytes, token: int, error: PgShapesError, *, lasts_s: float = FAILURE_LASTS_S
    ) -> None:
        """Mark the creation as failed; the row answers every request within the next second.

        If the table has changed, only the requests that wait get the error: they check the definition again.
        """
        self._table.put(comparable, CreationLock(CreationState.FAILED, token).failed(error))
        if isinstance(error, SchemaChanged):
            self.clear(comparable, token)
            return
        asyncio.get_running_loop().call_later(lasts_s, self.clear, comparable, token)

    def _move(self, comparable: bytes, token: int, old: CreationState, new: CreationState) -> None:
        row = self._table.get(comparable)
        if row is not None and row.token == token and row.state is old:
            self._table.put(comparable, row._replace(state=new))


class CreationSlot:
    """The slot of one creation; use as `async with`. Its wait for the table is noted in the lock row."""

    def __init__(
        self, slots: FairSemaphore[int], locks: CreationLocks, shape: ResolvedShape, token: int
    ) -> None:
        self._slots = slots
        self._locks = locks
        self._comparable = shape.comparable
        self._token = token
        self._table = shape.definition.table_oid
        self._has_slot = False

    async def __aenter__(self) -> CreationSlot:
        await self._acquire()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._release()

    def begin_table_wait(self) -> None:
        """Note that the creation waits for a lock on the table, and release the slot."""
        self._locks.begin_table_wait(self._comparable, self._token)
        self._release()

    async def end_table_wait(self) -> None:
        """Acquire a slot again and note that the wait for the table has ended."""
        await self._acquire()
        self._locks.end_table_wait(self._comparable, self._token)

    async def _acquire(self) -> None:
        if not self._has_slot:
            await self._slots.acquire(self._table)
            self._has_slot = True

    def _release(self) -> None:
        if self._has_slot:
            self._has_slot = False
            self._slots.release(self._table)


_log = get_logger(__name__)

CREATION_LIMIT: Final = 64
"""More concurrent creations would only queue in Postgres. Those that wait for a table's old writers are not
counted.
"""


@dataclass(slots=True, eq=False)
class Creation:
    """One creation, from its claim to its end."""

    shape: ResolvedShape
    token: int
    has_begun: bool = False


@dataclass(slots=True)
class CreationCounts:
    """Counters for metrics and tests."""

    calls: int = 0
    created: int = 0
    attached: int = 0
    """Calls that found a creation under way."""
    refused: int = 0
    """Calls that were answered with a recent failure."""
    failed: int = 0
    skipped: int = 0
    """Creations that were not begun because every caller had disconnected."""


class Creations:
    """`create` makes a shape and returns its handle; it is run once per claim.

    Race: a call arrives while the shape that it asks for is being created. It joins the flight of that
    creation; otherwise there would be two shapes of one definition, of which one could not be found.
    """

    def __init__(
        self,
        tables: Tables,
        locks: CreationLocks,
        create: Callable[[ResolvedShape, CreationSlot], Awaitable[str]],
        *,
        limit: int = CREATION_LIMIT,
        on_failure: Callable[[PgShapesError], None] = lambda _: None,
    ) -> None:
        self._tables = tables
        self._locks = locks
        self._create = create
        self._on_failure = on_failure
        self._flights: SingleFlight[bytes, str] = SingleFlight()
        self._is_closed = False
        self.slots: FairSemaphore[int] = FairSemaphore(limit)
        self.counts = CreationCounts()

    @property
    def running(self) -> int:
        """Creations that have been claimed and have not ended."""
        return self._flights.under_way

    def create_or_wait(self, shape: ResolvedShape, context: CallContext) -> Awaitable[str]:
        """The handle of the activated shape. Raises the error of the creation.

        The lock row is set before this returns, so a second call always finds it. A creation that has not
        begun is cancelled when its last caller disconnects.
        """
        self.counts.calls += 1
        if self._is_closed:
            return _failure(CreationFailed(STOPPING, retry_after_s=1))
        comparable = shape.comparable
        handle, flight = self.activated(comparable), self._flights.get(comparable)
        lock = self._tables.creation_locks.get(comparable)
        step = next_call_step(is_activated=handle is not None, is_running=flight is not None, lock=lock)
        if step is CallStep.ANSWER and handle is not None:
            return _value(handle)
        if step is CallStep.REFUSE and lock is not None:
            self.counts.refused += 1
            return _failure(lock.error())
        if step is CallStep.ATTACH:
            self.counts.attached += 1
        return context.cancels((flight or self._claim(shape)).join())

    def activated(self, comparable: bytes) -> str | None:
        """The handle of the live shape of a definition."""
        handle = self._tables.handles.get(comparable)
        row = self._tables.shapes.get(handle) if handle else None
        return handle if row is not None and row.state.is_live else None

    async def close(self) -> None:
        """Cancel all creations, and begin none from now on; their callers get CreationFailed."""
        self._is_closed = True
        await self._flights.close()

    def _claim(self, shape: ResolvedShape) -> Flight[str]:
        creation = Creation(shape, self._locks.claim(shape.comparable))
        return self._flights.begin(
            shape.comparable,
            self._run(creation),
            on_abandoned=lambda: self._skip(creation),
            at_end=partial(self._clear_if_cancelled, creation),
        )

    def _clear_if_cancelled(self, creation: Creation, task: asyncio.Task[str]) -> None:
        """Remove the lock row of a creation that was cancelled before its first step."""
        if task.cancelled():
            self._locks.clear(creation.shape.comparable, creation.token)

    def _skip(self, creation: Creation) -> bool:
        """Whether a creation without callers is skipped, which it is unless it has begun.

        Its row is removed in the same loop turn, so the next call makes a new claim.
        """
        if creation.has_begun:
            return False
        self.counts.skipped += 1
        self._locks.clear(creation.shape.comparable, creation.token)
        return True

    async def _run(self, creation: Creation) -> str:
        """The handle. The lock row is removed, or says what failed, before any caller is answered."""
        comparable, token = creation.shape.comparable, creation.token
        try:
            handle = await self._carry_out(creation)
        except asyncio.CancelledError:
            self._locks.clear(comparable, token)
            raise CreationFailed(STOPPING) from None
        except PgShapesError as error:
            definition = creation.shape.definition
            failure = as_failure(error, definition.schema, definition.table)
            raise self._fail(creation, failure) from None
        except Exception:
            _log.exception("shape creation failed unexpectedly")
            raise self._fail(creation, CreationFailed("Failed to create shape", retry_after_s=1)) from None
        self.counts.created += 1
        self._locks.clear(comparable, token)
        return handle

    def _fail(self, creation: Creation, failure: PgShapesError) -> PgShapesError:
        self.counts.failed += 1
        self._on_failure(failure)
        self._locks.fail(creation.shape.comparable, creation.token, failure)
        return failure

    async def _carry_out(self, creation: Creation) -> str:
        shape = creation.shape
        slot = CreationSlot(self.slots, self._locks, shape, creation.token)
        async with slot:
            creation.has_begun = True
            return self.activated(shape.comparable) or await self._create(shape, slot)


def as_failure(error: PgShapesError, schema: str, table: str) -> PgShapesError:
    """The error for all callers. What waiting does not cure stays what it is, a 400 or a 500.

    What is not for clients is in its details, for the log.
    """
    if isinstance(error, CreationFailed | SchemaChanged | RequestError):
        return error
    if isinstance(error, NotNow):
        return CreationFailed(error.message, retry_after_s=1, known=True)
    text = f"Unable to create initial snapshot: {error.client_text}"
    failure: PgShapesError = CreationFailed(text, retry_after_s=1, known=True)
    if isinstance(error, CatalogueError):
        failure = error
    failure.details |= {
        "schema": schema,
        "table": table,
        "said": error.message,
        "sqlstate": error.details.get("sqlstate"),
    }
    return failure


async def _value(handle: str) -> str:
    return handle


async def _failure(error: PgShapesError) -> str:
    raise error
