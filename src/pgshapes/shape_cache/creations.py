"""The owner's queue of creations: one at a time for each definition, several definitions side by side (design
§6, 5-7).

The lock row is set when a call arrives, before it waits for a place. A call that finds a creation under way
attaches to it. A creation that nobody waits for any more is not begun. Owned by the replicator's loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from pgshapes.errors import CreationFailed, NotNow, PgShapesError, SchemaMoved
from pgshapes.model.shape import ResolvedShape
from pgshapes.shape_cache.creation_lock import CreationLocks, failure_of
from pgshapes.tables.mailbox import CallContext
from pgshapes.tables.rows import CreationState
from pgshapes.tables.tables import Tables

_log = structlog.get_logger(__name__)

# More creations at once only queue up in Postgres; waiting ones cost a connection or less.
CREATION_LIMIT: Final = 64


@dataclass(slots=True, eq=False)
class Creation:
    """One creation, from its claim to its end."""

    shape: ResolvedShape
    token: int
    outcome: asyncio.Future[str]
    callers: list[CallContext] = field(default_factory=list)
    has_begun: bool = False

    @property
    def is_wanted(self) -> bool:
        """Whether somebody still waits for it."""
        return any(caller.is_wanted for caller in self.callers)


@dataclass(slots=True)
class CreationCounts:
    """What has happened, for metrics and for tests that count."""

    calls: int = 0
    created: int = 0
    attached: int = 0
    failed: int = 0
    skipped: int = 0


class Creations:
    """`create` makes a shape and returns its handle; it is run once per claim."""

    def __init__(
        self,
        tables: Tables,
        locks: CreationLocks,
        create: Callable[[ResolvedShape, Callable[[], None]], Awaitable[str]],
        *,
        limit: int = CREATION_LIMIT,
    ) -> None:
        self._tables = tables
        self._locks = locks
        self._create = create
        self._places = asyncio.Semaphore(limit)
        self._running: dict[bytes, Creation] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.counts = CreationCounts()

    def create_or_wait(self, shape: ResolvedShape, context: CallContext) -> Awaitable[str]:
        """The handle of a shape that is activated, or what made its creation fail.

        The claim is made before this returns: there is no moment in which a second call could find no lock.
        The last caller that leaves takes a creation with it that has not begun.
        """
        self.counts.calls += 1
        handle = self.activated(shape.comparable)
        if handle is not None:
            return _value(handle)
        creation = self._running.get(shape.comparable)
        if creation is None:
            row = self._tables.creation_locks.get(shape.comparable)
            if row is not None and row.state is CreationState.FAILED:
                return _failure(failure_of(row))
            creation = self._claim(shape)
        else:
            self.counts.attached += 1
        creation.callers.append(context)
        return self._wait(creation, context)

    def activated(self, comparable: bytes) -> str | None:
        """The handle of a definition whose shape is ready."""
        handle = self._tables.handles.get(comparable)
        row = self._tables.shapes.get(handle) if handle else None
        return handle if row is not None and row.last_used is not None and not row.is_retiring else None

    async def close(self) -> None:
        """End all creations."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _claim(self, shape: ResolvedShape) -> Creation:
        loop = asyncio.get_running_loop()
        creation = Creation(shape, self._locks.claim(shape.comparable), loop.create_future())
        creation.outcome.add_done_callback(_retrieve)
        self._running[shape.comparable] = creation
        task = loop.create_task(self._run(creation))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return creation

    async def _wait(self, creation: Creation, context: CallContext) -> str:
        left = asyncio.ensure_future(context.cancelled.wait())
        try:
            await asyncio.wait((creation.outcome, left), return_when=asyncio.FIRST_COMPLETED)
        finally:
            left.cancel()
            creation.callers.remove(context)
        if not creation.outcome.done() or creation.outcome.cancelled():
            raise CreationFailed("nobody waits for this shape any more")
        return creation.outcome.result()

    async def _run(self, creation: Creation) -> None:
        comparable, token = creation.shape.comparable, creation.token
        failure: PgShapesError | None = None
        try:
            async with self._places:
                handle = await self._begin(creation)
            if handle is not None:
                self.counts.created += 1
                creation.outcome.set_result(handle)
        except PgShapesError as error:
            failure = _as_failure(error)
        except Exception as error:
            _log.exception("a creation failed unexpectedly")
            failure = CreationFailed(f"Failed to create shape: {error}", retry_after_s=1)
        finally:
            del self._running[comparable]
            if failure is None:
                self._locks.clear(comparable, token)
                creation.outcome.cancel()
            else:
                self.counts.failed += 1
                self._locks.fail(comparable, token, failure)
                creation.outcome.set_exception(failure)

    async def _begin(self, creation: Creation) -> str | None:
        if not creation.is_wanted:
            self.counts.skipped += 1
            return None
        creation.has_begun = True
        comparable, token = creation.shape.comparable, creation.token
        handle = self.activated(comparable)
        if handle is not None:
            return handle
        return await self._create(creation.shape, lambda: self._locks.wait_for_table(comparable, token))


def _as_failure(error: PgShapesError) -> PgShapesError:
    if isinstance(error, CreationFailed | SchemaMoved):
        return error
    if isinstance(error, NotNow):
        return CreationFailed(error.message, retry_after_s=1, known=True)
    return CreationFailed(f"Unable to create initial snapshot: {error.message}", retry_after_s=1, known=True)


async def _value(handle: str) -> str:
    return handle


async def _failure(error: PgShapesError) -> str:
    raise error


def _retrieve(outcome: asyncio.Future[str]) -> None:
    if not outcome.cancelled():
        outcome.exception()
