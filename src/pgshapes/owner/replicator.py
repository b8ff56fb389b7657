"""Runs the owner: connects to the database, loads the shapes, and processes the replication stream.

In order: read the catalogue → acquire the lock on the database → check whether the stored shapes belong to
this database → load them → stream. When the connection is lost, it reconnects and streams from the last
recorded position. At shutdown everything that was received is synced and acknowledged.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Any, Final

import msgspec

from pgshapes.config import Settings
from pgshapes.errors import PgShapesError, SourceError, WireError
from pgshapes.gates.conditions import Condition, Conditions
from pgshapes.logs import get_logger
from pgshapes.model.lsn import Lsn, format_lsn
from pgshapes.owner.catalogue import (
    delete_all_shapes,
    delete_incomplete,
    delete_unused_relations,
    put_fact,
)
from pgshapes.owner.current_owner import CurrentOwner
from pgshapes.owner.durability import Durability, Recorded, load_recorded, recorded_fact
from pgshapes.owner.large_stack import evaluate_deeply
from pgshapes.owner.owner import Owner, Sources
from pgshapes.owner.removal import empty_trash
from pgshapes.owner.retries import Retries, is_passing
from pgshapes.owner.session import PUBLICATION_PREFIX, SLOT_PREFIX, Session, StartPoint, StoredSource
from pgshapes.owner.slot_watch import SlotWatch
from pgshapes.owner.storage import Storage
from pgshapes.owner.stream_errors import UnreadableMessage
from pgshapes.postgres.connection import ConnectionPool, connect, connect_shared
from pgshapes.postgres.inspector import Inspector
from pgshapes.postgres.publication import Publication
from pgshapes.postgres.replication import ReplicationStream
from pgshapes.postgres.retained_wal import read_retained_wal
from pgshapes.postgres.snapshot import SnapshotSource, check_shared, current_snapshot, flushed_lsn
from pgshapes.postgres.sqlstate import lacks_slot_or_publication
from pgshapes.postgres.system_identity import SystemIdentity
from pgshapes.routing.delivered import DeliveredTransactions
from pgshapes.routing.flush_boundary import FlushBoundary
from pgshapes.routing.metering import Meter
from pgshapes.routing.router import Router
from pgshapes.shape_log.store import ShapeStore
from pgshapes.tables.tables import Tables
from pgshapes.tables.tables_reader import LAST_SEEN_LSN
from pgshapes.waiting.background import begin, holds_nothing
from pgshapes.waiting.keep_running import keep_running
from pgshapes.waiting.run_in_thread import to_its_end

_log = get_logger(__name__)

_IDENTITY: Final = "identity"
ALTERATIONS: Final = 4
"""Maximum number of connections that alter the publication."""


class Replicator:
    """The owner of an instance: `run` runs it until `stop`; `handle` answers calls at any time."""

    def __init__(
        self,
        settings: Settings,
        tables: Tables,
        make_store: Callable[[], ShapeStore],
        *,
        is_restart: bool = False,
    ) -> None:
        self._settings = settings
        self._tables = tables
        self._open_storage = partial(Storage.open, settings.storage_dir, make_store)
        self._opened: Storage | None = None
        try:
            self._opened = self._open_storage()
        except Exception as error:
            if not is_passing(error):
                raise
            # `run` waits for it.
        self._conditions = Conditions(tables.status)
        slot = SLOT_PREFIX + settings.replication_stream_id
        self._retries = Retries(self._conditions, slot, is_restart=is_restart)
        admin_size = min(max(settings.db_pool_size // 4, 1), 4)
        self._admin_pool = ConnectionPool(lambda: connect(settings.database_url), admin_size)
        # A separate pool: alterations wait for locks, and look-ups must not wait for alterations.
        # Event triggers of the owner run on it, and may need the search path of the role.
        self._publication_pool = ConnectionPool(
            lambda: connect(settings.database_url, read_values=False), ALTERATIONS
        )
        pooled_url = settings.pooled_database_url or settings.database_url
        is_pooled = settings.pooled_database_url is not None
        self._snapshot_pool = ConnectionPool(
            lambda: connect_shared(pooled_url, is_pooled=is_pooled),
            max(settings.db_pool_size - admin_size, 1),
        )
        publication = PUBLICATION_PREFIX + settings.replication_stream_id
        self.sources = Sources(
            Inspector(self._admin_pool),
            Publication(publication, self._publication_pool, is_manual=settings.manual_table_publishing),
            SnapshotSource(self._snapshot_pool, publication=publication),
        )
        self._delivered = DeliveredTransactions()
        self.owner: Owner | None = None
        self.handle = CurrentOwner(tables, lambda: self.owner).handle
        """Answers callers."""
        self.durability: Durability | None = None
        self._stopping = asyncio.Event()
        self._init_session_state()
        self._catch_up_lsn: Lsn = 2**64
        self._has_caught_up = False
        self._has_loaded = False
        self.on_start: Callable[[], Awaitable[None]] = _do_nothing
        """Awaited when `run` begins, again if it lacks something that may come."""
        self.on_loaded: Callable[[], Awaitable[None]] = _do_nothing
        """Awaited when the tables contain the shapes, again if it fails. Until then callers must not read the
        tables.
        """
        self.started = asyncio.Event()
        """Set once the first stream has started."""

    def _init_session_state(self) -> None:
        """What one session leaves to the next."""
        self._unusable: asyncio.Future[str] = asyncio.Future()
        """Has the reason once the stream of this session cannot be used."""
        self.slot_watch = self._make_slot_watch()
        self._is_slot_kept = False
        """Whether the session has looked whether the slot must be recreated, and does not look again."""
        self._must_recreate = False
        """Whether the next session that looks has to recreate the slot."""
        self._is_slot_useless = False
        """Whether the slot is older than its publication, so that its stream fails each time."""
        self._outdated = asyncio.Event()
        """Set when the session has to end because it does not recreate the slot."""
        self._outdated_by = ""
        self._streamed_from: Lsn | None = None
        """Where the stream of the last session began, None if it had none."""
        self._streamed_s = 0.0
        """How long the last session streamed; 0 if it did not."""

    def _make_slot_watch(self) -> SlotWatch:
        slot = SLOT_PREFIX + self._settings.replication_stream_id
        read = partial(read_retained_wal, self._admin_pool, slot)
        return SlotWatch(read, self, self._conditions, self._settings.max_retained_wal)

    def stop(self) -> None:
        """Make `run` return."""
        self._stopping.set()

    def obstacle(self) -> str | None:
        """Why changes do not arrive, or are not made durable; None if nothing is known to stop them."""
        if self.owner is None or self.durability is None:
            return None
        if self.durability.failing is not None:
            return "changes cannot be made durable"
        if self.owner.cleaner.is_failing:
            return "a removed shape cannot be deleted from the storage directory"
        return self.owner.change_path.obstacle()

    def heard_at(self) -> float | None:
        """When Postgres sent something on the stream for the last time, as a Unix time."""
        heard_at = None if self.owner is None else self.owner.change_path.heard_at()
        return None if heard_at is None else time.time() - (time.monotonic() - heard_at)

    def drop_holders(self, reason: str) -> int:
        """Drop the shapes that wait for room on the disk; return how many there are."""
        handles = set() if self.owner is None else self.owner.publisher.unwritten()
        if self.owner is not None and handles:
            self.owner.cleaner.end(handles, reason)
        return len(handles)

    def recreate_slot(self, reason: str) -> None:
        """Have the slot recreated, and all shapes, by the next session that can do it.

        That session is not ended for this, however often it is asked for; one that keeps the slot is.
        """
        if self._must_recreate:
            return
        self._must_recreate, self._outdated_by = True, reason
        if self._is_slot_kept:
            self._outdated.set()

    def keep_slot(self) -> None:
        """Withdraw a request to recreate the slot, if it is not being carried out."""
        self._must_recreate = False

    async def run(self) -> None:
        """Stream until stopped; begin another session when one fails. Raises UnreadableStream, and at the
        first start what waiting does not cure (`retries`).
        """
        self._conditions.meet(Condition.SUPERVISOR_PROCESSES_READY)
        self._conditions.meet(Condition.CHANGES_FLOWING)
        watching = begin(
            keep_running("watching the replication slot", self.slot_watch.run), at_end=holds_nothing
        )
        try:
            await self._when_possible(self.on_start)
            await self._when_possible(self._open)
            while not self._stopping.is_set():
                self._is_slot_kept = False
                self._outdated.clear()
                try:
                    await self._until_stopped(self._follow(), self._outdated)
                except Exception as error:
                    self._is_slot_useless |= lacks_slot_or_publication(error)
                    pause_s = self._retries.pause_after(error, self._streamed_s, self._streamed_from)
                    await self._until_stopped(asyncio.sleep(pause_s))
        finally:
            await self._close(watching)

    async def _open(self) -> None:
        if self._opened is None:
            self._opened = self._open_storage()

    async def _when_possible(self, step: Callable[[], Awaitable[None]]) -> None:
        """Take a step of the start as soon as what it lacks is there, or the owner is stopped. Raises
        ConfigError.
        """
        while not self._stopping.is_set():
            try:
                await step()
                break
            except Exception as error:
                if not is_passing(error):
                    raise
                await self._until_stopped(asyncio.sleep(self._retries.pause_after(error, 0.0, None)))

    async def _until_stopped(
        self, work: Coroutine[Any, Any, None], breaks: asyncio.Event | None = None
    ) -> None:
        """Work until it is done or the owner is stopped; also until `breaks`: raises SourceError then."""
        task = begin(work, at_end=holds_nothing)
        events = filter(None, (self._stopping, breaks))
        ends = [begin(event.wait(), at_end=holds_nothing) for event in events]
        try:
            await asyncio.wait((task, *ends), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in (*ends, task):
                each.cancel()
            with suppress(asyncio.CancelledError):
                await task
        if breaks is not None and breaks.is_set() and not self._stopping.is_set():
            raise SourceError(self._outdated_by)

    # --- one session

    async def _follow(self) -> None:
        self._streamed_s, self._streamed_from = 0.0, None
        self._close_idle()
        session = Session(self._settings, self.sources.publication, self._conditions)
        async with session:
            await session.acquire()
            await self._check_slot(session)
            start = await session.prepare(self._stored_source)
            await self._check_pooled_url()
            if start.purge_reason is not None and self.owner is not None:
                await self._discard(self.owner, start.purge_reason)
            if self.owner is None:
                await self._load(start)
            assert self.owner is not None and self.durability is not None
            if not self._has_loaded:
                await self.on_loaded()
                self._has_loaded = True
            stream = await session.stream(self.durability.recorded_lsn)
            self._streamed_from = self.durability.recorded_lsn
            self.owner.change_path.connected(stream)
            self.durability.acknowledge = stream.acknowledge
            self._catch_up_lsn = await flushed_lsn(self._admin_pool)
            await self._retries.started()
            for condition in Condition:
                if condition not in (Condition.LOG_COLLECTOR_READY, Condition.CHANGES_FLOWING):
                    self._conditions.meet(condition)
            self._note_progress()
            _log.info("replication started", lsn=format_lsn(self.durability.recorded_lsn))
            self.started.set()
            began_at = time.monotonic()
            try:
                await self._run_stream(stream, session)
            finally:
                self._streamed_s = time.monotonic() - began_at
                await self._end_session()

    def _close_idle(self) -> None:
        """Close idle connections: what ended a session, or the way to another server, concerns them, too."""
        for pool in (self._admin_pool, self._publication_pool, self._snapshot_pool):
            pool.close_idle()

    async def _check_slot(self, session: Session) -> None:
        """Drop the slot if it must be recreated. From here on the session ends if that is asked for."""
        if self._must_recreate or self._is_slot_useless:
            await session.drop_slot()
        self._must_recreate, self._is_slot_useless, self._is_slot_kept = False, False, True

    async def _check_pooled_url(self) -> None:
        """Try it at the first start; otherwise only clients would learn that it is wrong.

        Raises SourceError.
        """
        if self._retries.has_started or self._settings.pooled_database_url is None:
            return
        try:
            await check_shared(self._snapshot_pool)
        except SourceError as error:
            said = error.message.replace("DATABASE_URL", "POOLED_DATABASE_URL")
            text = f"the pooled database cannot be used: {said}"
            raise SourceError(text, sqlstate=error.sqlstate, action=error.action) from None

    def _note_progress(self) -> None:
        """Request a durability cycle, and mark the logs as ready once they contain what was committed before
        the stream began.

        Until then an offset beyond a log's end may be one that the log had before a crash, which is no reason
        for a 409.
        """
        assert self.owner is not None and self.durability is not None
        self.durability.note_progress()
        if not self._has_caught_up and self.owner.boundary.processed >= self._catch_up_lsn:
            self._has_caught_up = True
            self._conditions.meet(Condition.LOG_COLLECTOR_READY)

    async def _run_stream(self, stream: ReplicationStream, session: Session) -> None:
        assert self.owner is not None
        path = self.owner.change_path
        running = begin(stream.run(path.on_message, path.on_keepalive), at_end=holds_nothing)
        lost = begin(session.lock.wait_until_lost(), at_end=holds_nothing)
        self._unusable = asyncio.get_running_loop().create_future()
        try:
            waits = (running, lost, self._unusable)
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if running in done:
                running.result()
            if self._unusable in done:
                raise SourceError(self._unusable.result())
            raise SourceError("the lock on the database was lost")
        except WireError as error:
            raise UnreadableMessage(error, stream.received_lsn, session.server_version) from error
        except PgShapesError:
            raise
        except Exception as error:
            # For one shape or relation the change path handles it. This concerns all of them, so the changes
            # are sent again.
            _log.exception("changes could not be processed; reconnecting")
            raise SourceError(f"changes could not be processed: {error!r}") from error
        finally:
            for task in (running, lost):
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task  # what it raises after this session has failed is not the reason

    def _reconnect(self, reason: str) -> None:
        """End the session, because its stream cannot be used any longer."""
        if not self._unusable.done():
            self._unusable.set_result(reason)

    async def _end_session(self) -> None:
        """Make durable and acknowledge what was received, while the stream can still confirm it.

        What fails is done by a later cycle, and sent again; why the session ended is more important.
        """
        assert self.durability is not None
        self._close_idle()
        try:
            await self.durability.cycle()
        except Exception as error:
            _log.warning("acknowledgement failed; retrying", error=repr(error))
        finally:
            self.durability.acknowledge = lambda _: None

    # --- stored state

    @property
    def _storage(self) -> Storage:
        assert self._opened is not None, "no session begins before it is open"
        return self._opened

    def _stored_source(self) -> StoredSource:
        if self.durability is not None:
            return StoredSource(self._identity(), self.durability.recorded_lsn)
        recorded = load_recorded(self._storage.catalogue)
        return StoredSource(self._identity(), None if recorded is None else recorded.lsn)

    def _identity(self) -> SystemIdentity | None:
        value = self._storage.catalogue.fact(_IDENTITY)
        return None if value is None else msgspec.json.decode(value, type=SystemIdentity)

    async def _load(self, start: StartPoint) -> None:
        """Recover the stored shapes, or discard them, and build the owner with those that remain."""
        recorded = load_recorded(self._storage.catalogue)
        if start.purge_reason is not None or recorded is None:
            if self._storage.catalogue.shapes():
                _log.warning("all shapes are recreated", reason=start.purge_reason)
            recorded = Recorded(start.start_lsn)
            await self._storage.buffer.put(delete_all_shapes())
        await self._storage.buffer.put(
            delete_incomplete(),
            delete_unused_relations(),
            put_fact(_IDENTITY, msgspec.json.encode(start.identity)),
            recorded_fact(recorded),
        )
        stored = {shape.handle: shape for shape in self._storage.catalogue.shapes()}
        # A commit record may begin at the recorded LSN itself: only what is below it is known to be synced.
        known_lsn = recorded.lsn - 1
        logs = await to_its_end(self._storage.store.recover, tuple(stored), known_lsn)
        self._delivered = DeliveredTransactions(recorded.unseen)
        owner, durability = self._build(recorded)
        self._tables.progress.put(LAST_SEEN_LSN, known_lsn)
        kept = [shape for handle, shape in stored.items() if handle in logs]
        lost = [handle for handle in stored if handle not in logs]
        if lost:
            reason = self._storage.store.damage.get(lost[0])
            _log.error("shapes with damaged files removed", count=len(lost), first=lost[0], reason=reason)
            await (owner.status.delete_rows(lost) or asyncio.sleep(0))
        try:
            await owner.restore(kept)
        except BaseException:
            await owner.close()
            owner.status.clear()
            raise
        self.owner, self.durability = owner, durability
        owner.spawn(keep_running("acknowledging changes", durability.run))
        if owner.expiry is not None:
            owner.spawn(keep_running("removing excess shapes", owner.expiry.run))
        owner.spawn(keep_running("watching the system catalogs", owner.watch.run))
        owner.spawn(keep_running("forgetting dropped relations", owner.dropped_relations().run))
        owner.spawn(keep_running("emptying the trash", partial(empty_trash, self._storage.store)))

    async def _discard(self, owner: Owner, reason: str) -> None:
        """Remove all shapes, which do not belong to this database or slot, and the owner with its state.

        Those that are being created are removed, too, and none is begun: nothing would route their changes.
        """
        _log.warning("all shapes are recreated", reason=reason)
        await owner.creations.close()
        handles = [handle for handle, _ in self._tables.shapes.items()]
        owner.cleaner.end(handles, reason)
        for handle in handles:
            while handle in self._tables.shapes:
                await self._tables.shapes.changed(handle)
        owner.known_relations.invalidate_all()
        await owner.close()
        self.owner = self.durability = None
        self._has_caught_up = False

    def _build(self, recorded: Recorded) -> tuple[Owner, Durability]:
        boundary = FlushBoundary(recorded.lsn)
        durability = Durability(
            self._storage.store,
            self._storage.buffer,
            boundary,
            self._delivered,
            lambda: current_snapshot(self._admin_pool),
        )
        owner = Owner(
            self._tables,
            self._storage.store,
            self._storage.buffer,
            self.sources,
            Router(self._delivered, evaluate_deeply, Meter(time.perf_counter, time.thread_time)),
            boundary,
            on_progress=self._note_progress,
            reconnect=self._reconnect,
            max_shapes=self._settings.max_shapes,
            allows_no_key=self._settings.allow_tables_without_key,
        )
        durability.on_sync_failed = lambda handles: owner.cleaner.end(handles, "the log could not be synced")
        return owner, durability

    async def _close(self, watching: asyncio.Task[None]) -> None:
        """Close everything, the last named first; also if closing one of them fails or is cancelled."""
        watching.cancel()
        async with AsyncExitStack() as stack:
            if self._opened is not None:
                stack.push_async_callback(self._opened.close)
            for pool in (self._snapshot_pool, self._admin_pool, self._publication_pool):
                stack.push_async_callback(pool.close)
            stack.push_async_callback(self.sources.snapshots.close)
            stack.push_async_callback(self.sources.inspector.close)
            stack.push_async_callback(asyncio.wait, (watching,))  # it reads from the admin pool
            if self.owner is not None:
                stack.push_async_callback(self.owner.close)
            stack.push_async_callback(self._retries.close)


async def _do_nothing() -> None:
    """The default of `on_start` and `on_loaded`."""
