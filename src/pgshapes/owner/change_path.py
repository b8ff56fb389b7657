"""A change's path through the owner: stream bytes → messages → fragments → entries → readable logs.

Nothing here waits for a client. The stream is paused (`stream_waits`), and received changes are buffered in
order, in two cases only: logs cannot be written for now, or a relation that shapes depend on is announced.
The system catalogs are read then, because DDL or a change of the publication may have preceded the changes
that follow. Only `LogPublisher` writes the tables `tails` and `progress` while changes are processed. If a
log cannot be written, its shape is removed and other shapes are not affected. If space or descriptors are
used up or the disk fails for now, processing stops and unwritten changes are kept in memory until it works
again.

State is owned by the replicator's loop. A `ChangePath` is kept across reconnects; its assembler is replaced.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from pgshapes.errors import (
    DiskFull,
    PgShapesError,
    ReplicaIdentityNotFull,
    StorageError,
    StorageShortage,
)
from pgshapes.logs import get_logger
from pgshapes.model.change import Fragment
from pgshapes.model.lsn import Lsn
from pgshapes.owner.catalog_watch import CatalogWatch
from pgshapes.owner.stream_waits import Pausable, StreamWaits
from pgshapes.postgres.inspector import Inspector
from pgshapes.postgres.pgoutput import decode_message
from pgshapes.postgres.pgoutput_messages import RelationMessage
from pgshapes.routing.announcements import Announcement
from pgshapes.routing.assembler import RelationAnnounced, RelationFailed, TransactionAssembler
from pgshapes.routing.failures import ShapeFailure
from pgshapes.routing.flush_boundary import FlushBoundary
from pgshapes.routing.routed import Append, Routed
from pgshapes.routing.router import Router
from pgshapes.shape_log.disk_errors import DiskErrors
from pgshapes.shape_log.store import ShapeStore
from pgshapes.tables.tables import Tables
from pgshapes.tables.tables_reader import LAST_SEEN_LSN

_WRITING: Final = "append"
_OUTDATED: Final = "a type was changed, and an older transaction has written to the table before that"


class LogPublisher:
    """Writes entries to the logs, publishes tails, and hands over the shapes that end.

    `on_ended` is called with shapes that must be removed, `on_failed` with what was raised for some. What
    raises is kept, here or in `queue`, and done by the next `retry`.
    """

    def __init__(
        self,
        store: ShapeStore,
        tables: Tables,
        on_ended: Callable[[Iterable[str], str], object],
        on_failed: Callable[[ShapeFailure], object] = lambda _: None,
        disk_errors: DiskErrors | None = None,
    ) -> None:
        self._store = store
        self._tables = tables
        self._on_ended = on_ended
        self._on_failed = on_failed
        self._unwritten: deque[Append] = deque()
        self._unended: deque[tuple[Sequence[str], str]] = deque()
        self._failures: deque[ShapeFailure] = deque()
        self._disk_errors = disk_errors or DiskErrors()
        self.queue: deque[Routed] = deque()
        """What was routed and is not taken up yet. The router has forgotten it, so nothing else names it."""

    def publish(self, routed: Routed, *, seen_lsn: Lsn | None = None) -> None:
        """Append, and publish the tail of each completed transaction. Raises StorageShortage, or anything
        that is not about one shape; `retry` continues then.
        """
        self.queue.append(routed)
        self.publish_queued(seen_lsn=seen_lsn)

    def publish_queued(self, *, seen_lsn: Lsn | None = None) -> None:
        """Publish what is in `queue`, as `publish` does."""
        with self._tables.transaction():
            self.retry()
            if seen_lsn is not None and seen_lsn > (self._tables.progress.get(LAST_SEEN_LSN) or 0):
                self._tables.progress.put(LAST_SEEN_LSN, seen_lsn)

    def retry(self) -> None:
        """Write the entries that are not written yet, and end the shapes that are not ended yet. Raises as
        `publish`.
        """
        queue = self.queue
        while queue:
            routed = queue[0]
            self._unwritten.extend(routed.appends)
            if routed.failures:
                self._failures.extend(routed.failures)
            if routed.ended:
                self._unended.append((routed.ended, routed.reason))
            if routed.outdated:
                self._unended.append((routed.outdated, _OUTDATED))
            queue.popleft()
        try:
            while self._unwritten:
                self._write(self._unwritten[0])
                self._unwritten.popleft()
        finally:
            # Also on a full disk: a shape that has missed a change must not be served.
            if self._unended or self._failures:
                self._end()

    def unwritten(self) -> set[str]:
        """The shapes that wait for room on the disk."""
        return {append.handle for append in self._unwritten}

    def publish_tail(self, handle: str) -> None:
        """Publish the tail of a shape's log, so that readers see what was appended."""
        log = self._store.get(handle)
        if log is not None:
            self._tables.tails.put(handle, log.tail)

    def _write(self, append: Append) -> None:
        """Append to one log. Raises StorageShortage; anything else ends the shape."""
        try:
            log = self._store.get(append.handle)
            if log is None:
                self._note_missing(append.handle)
                return
            log.append(append.entries, ends_transaction=append.ends_transaction)
            if append.ends_transaction:
                self._tables.tails.put(append.handle, log.tail)
            if self._disk_errors.failing:
                self._disk_errors.succeeded(_WRITING)
        except StorageError as error:
            if not self._disk_errors.is_damage(_WRITING, error):
                raise
            self._unended.append(((append.handle,), error.message))
        except Exception as error:
            self._failures.append(ShapeFailure((append.shape,), error))

    def _note_missing(self, handle: str) -> None:
        """End a shape without a log, unless it is being removed: it would be served without its changes."""
        row = self._tables.shapes.get(handle)
        if row is not None and row.state.is_in_use:
            self._unended.append(((handle,), "its log is missing"))

    def _end(self) -> None:
        while self._failures:
            self._on_failed(self._failures[0])
            self._failures.popleft()
        while self._unended:
            self._on_ended(*self._unended[0])
            self._unended.popleft()


Event = Fragment | RelationAnnounced | RelationFailed | ReplicaIdentityNotFull

_log = get_logger(__name__)

_DISK_RETRY_S: Final = 1.0
_LOOK_UP_RETRY_S: Final = 1.0
_VISIBLE_TIMEOUT_S: Final = 0.1
"""How long changes are held back until the announced transaction is visible: usually it is at once."""
_LATE_TIMEOUT_S: Final = 600.0
_FULL: Final = "f"
_OF_RELATION: Final = b"IUDR"
"""The kinds of messages about one relation, which is named right after the kind."""
_OID: Final = struct.Struct(">I")


class ChangePath:
    """Decodes the stream's messages, routes them, and publishes the resulting entries."""

    def __init__(
        self,
        router: Router,
        publisher: LogPublisher,
        boundary: FlushBoundary,
        inspector: Inspector,
        watch: CatalogWatch,
        *,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        on_identity_lost: Callable[[int], None],
        on_progress: Callable[[], None],
        reconnect: Callable[[str], None],
    ) -> None:
        self._router = router
        self._publisher = publisher
        self._boundary = boundary
        self._inspector = inspector
        self._watch = watch
        self._spawn = spawn
        self._waits = StreamWaits(spawn, self._work, reconnect)
        self._open_waits = self._waits.open
        self._on_identity_lost = on_identity_lost
        self._on_progress = on_progress
        self._assembler = TransactionAssembler()
        self._backlog: deque[Event] = deque()
        self._hold: int | None = None
        """What keeps the boundary where it is until everything that was routed is written."""
        self._compared_ahead = 0
        """How many of the next announcements were compared with the system catalogs already."""
        self.transactions = 0
        self.changes = 0

    def heard_at(self) -> float | None:
        """When the stream was heard for the last time, in time.monotonic(); None before the first stream."""
        stream = self._waits.stream
        return None if stream is None else stream.heard_at

    def obstacle(self) -> str | None:
        """Why changes do not arrive; None if nothing is known to stop them."""
        stream, reason = self._waits.stream, self._waits.reason
        if reason is not None:
            return reason
        if stream is not None and stream.is_doubtful:
            return "Postgres does not answer on the replication connection"
        return None

    def connected(self, stream: Pausable) -> None:
        """Use a new stream, which starts at the last acknowledged position.

        Incomplete transactions of the previous stream are discarded: they are sent again.
        """
        self._assembler = TransactionAssembler()
        self._router.stream_began()
        self._backlog.clear()
        self._compared_ahead = 0
        self._waits.connected(stream)
        self._watch.stream_began()

    def forget(self, dropped: Mapping[int, Announcement]) -> None:
        """Forget relations of which no change can come any more."""
        for announcement in dropped.values():
            if announcement.message is not None:
                self._assembler.forget(announcement.message)

    def on_message(self, payload: bytes, lsn: Lsn) -> None:
        """Process one pgoutput message; `lsn` is that of the change. Raises WireError, or anything that is
        not about one relation or shape: the messages must then be sent again from the last acknowledged
        position.
        """
        try:
            message = decode_message(payload)
        except Exception as error:
            self._backlog.extend(self._skip(payload, lsn, error))
        else:
            try:
                self._backlog.extend(self._assembler.feed(message, lsn))
            except ReplicaIdentityNotFull as lost:
                self._backlog.append(lost)
        if self._backlog:
            self._work()

    def _skip(self, payload: bytes, lsn: Lsn, error: Exception) -> Iterable[Event]:
        """Leave out a message that cannot be decoded. Raises the error unless it is about one relation of
        the stream.
        """
        if payload[:1] not in _OF_RELATION or len(payload) <= _OID.size:
            raise error
        oid = _OID.unpack_from(payload, 1)[0]
        if payload[:1] == b"R":
            return self._assembler.skip_announcement(oid, error, lsn)
        return self._assembler.skip_change(oid, error, lsn)

    def on_keepalive(self, wal_end: Lsn) -> None:
        """Process a keepalive: the walsender has sent all that was committed before `wal_end`."""
        if not self._assembler.is_in_transaction and not self._backlog and not self._open_waits:
            self._boundary.advance(wal_end)
            self._on_progress()

    def _work(self) -> None:
        """Process the backlog, with a pause for other work after each of the meter's steps."""
        backlog, waits, meter = self._backlog, self._open_waits, self._router.meter
        if not backlog or waits:
            return
        try:
            meter.begin_step()
            while backlog and not waits:
                event = backlog.popleft()
                if isinstance(event, Fragment):
                    self._route(event)
                elif isinstance(event, RelationAnnounced):
                    self._announce(event)
                elif isinstance(event, RelationFailed):
                    self._fail_relation(event)
                else:
                    self._lose_identity(event)
                if backlog and not waits and meter.is_step_over():
                    self._waits.begin(asyncio.sleep(0), "", is_for_stream=True)
        except BaseException:
            self._waits.stop("changes could not be processed")
            raise

    def _route(self, fragment: Fragment) -> None:
        routed = self._router.route(fragment)
        self.changes += len(fragment.changes)
        if routed.rest is not None:
            self._backlog.appendleft(routed.rest)
            self.changes -= len(routed.rest.changes)
        is_last = fragment.is_last and routed.rest is None
        self._publisher.queue.append(routed)
        self._publish(fragment.commit_lsn if is_last else None)
        if is_last:
            self.transactions += 1
            self._boundary.advance(fragment.end_lsn)
            self._on_progress()

    def _fail_relation(self, failed: RelationFailed) -> None:
        self._router.fail_relation(failed.relation_oid, failed.error, is_announcement=failed.is_announcement)
        self._end()

    def _end(self, handles: Sequence[str] = (), reason: str = "") -> None:
        """End shapes that the router has ended outside of a fragment, and those that have failed."""
        if handles:
            self._publisher.queue.append(Routed(ended=list(handles), reason=reason))
        if handles or self._router.failures:
            self._publisher.queue.append(self._router.take_failures())
            self._publish(None)

    def _publish(self, seen_lsn: Lsn | None) -> None:
        """Publish what was routed. On an error that is not about one shape, processing stops until a retry
        succeeds: what was routed is not routed again.
        """
        try:
            self._publisher.publish_queued(seen_lsn=seen_lsn)
        except StorageShortage as error:
            self._hold_boundary()
            is_full = isinstance(error, DiskFull)
            event = "storage directory is full" if is_full else "storage cannot be written"
            _log.error(f"{event}; replication paused", error=error.message)
            self._waits.begin(self._wait_for_room(), f"the {event}", is_for_stream=False)
        except Exception:
            self._hold_boundary()
            _log.exception("changes could not be published; replication paused")
            self._waits.begin(self._wait_for_room(), "changes could not be published", is_for_stream=False)
        else:
            if self._hold is not None:
                self._release_hold()

    def _hold_boundary(self) -> None:
        """What was routed is not written, so nothing from here on may be acknowledged. The boundary is only
        read in other loop turns, so this is early enough.
        """
        if self._hold is None:
            self._hold = self._boundary.hold()

    def _release_hold(self) -> None:
        """Everything that was routed is written, so what follows may be acknowledged."""
        if self._hold is not None:
            self._boundary.release(self._hold)
            self._hold = None

    async def _wait_for_room(self) -> None:
        while True:
            await asyncio.sleep(_DISK_RETRY_S)
            try:
                self._publisher.retry()
            except StorageShortage:
                continue
            except Exception:
                _log.exception("changes could not be published; retrying")
                continue
            self._release_hold()
            return

    def _announce(self, announced: RelationAnnounced) -> None:
        """Bind the shapes to an announced relation, once it was compared with the system catalogs."""
        if self._compared_ahead:
            self._compared_ahead -= 1
            self._bind(announced)
        elif self._router.has_partitioned() or self._affected_tables(announced.message):
            reason = "the system catalogs cannot be read"
            self._waits.begin(self._compare(announced), reason, is_for_stream=True)
        else:
            self._bind(announced)

    def _affected_tables(self, message: RelationMessage) -> set[int]:
        """The tables with shapes that the relation is, belongs to, or has taken the name of."""
        named = self._router.tables_named(message.schema, message.name)
        return {*self._router.target_tables(message.oid), *named}

    def _bind(self, announced: RelationAnnounced) -> None:
        message = announced.message
        ended = self._router.announce(message, (announced.xid, announced.commit_lsn))
        self._end(ended, "the table's columns changed")
        if message.replica_identity != _FULL:
            for oid in self._router.target_tables(message.oid):
                self._on_identity_lost(oid)

    async def _compare(self, announced: RelationAnnounced) -> None:
        """Compare the announced relation with the system catalogs, and those that the backlog announces."""
        ahead = [event for event in self._backlog if isinstance(event, RelationAnnounced)]
        logged = ""
        while True:
            try:
                await self._check_relations([announced, *ahead])
                break
            except PgShapesError as error:
                if error.message != logged:
                    _log.warning("system catalogs could not be read; replication paused", error=error.message)
                logged = error.message
                await asyncio.sleep(_LOOK_UP_RETRY_S)
        self._compared_ahead = len(ahead)
        self._bind(announced)

    async def _check_relations(self, announced: Sequence[RelationAnnounced]) -> None:
        messages = [event.message for event in announced]
        xids = [event.xid for event in announced]
        if not await self._become_visible(xids, _VISIBLE_TIMEOUT_S):
            self._spawn(self._check_again(messages, xids))
        if self._router.has_partitioned():
            # Attaching and detaching a partition is not in the stream, but these messages follow it.
            ancestors = await self._inspector.ancestors([message.oid for message in messages])
            for oid, above in ancestors.items():
                self._end(self._router.set_ancestors(oid, above), "a partition was detached")
        await self._watch.check({oid for message in messages for oid in self._affected_tables(message)})

    async def _check_again(self, messages: Sequence[RelationMessage], xids: Sequence[int]) -> None:
        """Compare once more when the announced transactions are visible; changes are not held back for it."""
        with suppress(PgShapesError):
            await self._become_visible(xids, _LATE_TIMEOUT_S)
            await self._watch.check({oid for message in messages for oid in self._affected_tables(message)})

    async def _become_visible(self, xids: Iterable[int], timeout_s: float) -> bool:
        """Wait until snapshots see these transactions, and so the DDL that preceded them; False if they do
        not in time. A commit is sent before it is visible, with a synchronous standby long before.
        """
        loop, pause_s = asyncio.get_running_loop(), 0.001
        deadline = loop.time() + timeout_s
        while True:
            seen = await self._inspector.visibility()
            if all(seen.sees_xid(xid) for xid in xids):
                return True
            if loop.time() >= deadline:
                return False
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, 0.25)

    def _lose_identity(self, lost: ReplicaIdentityNotFull) -> None:
        oid = lost.relation_oid
        if not self._router.has_relation(oid):
            return
        _log.error("change received without its old row", error=lost.message)
        tables = self._router.target_tables(oid)
        self._end(self._router.end_relation(oid), "REPLICA IDENTITY of the table is not FULL")
        for table in tables:
            self._on_identity_lost(table)
