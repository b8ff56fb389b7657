"""A change's way through the owner: bytes of the stream → messages → fragments → entries → readable logs.

Nothing here waits for a client. The stream is paused, and what has been received kept in order, in two cases
only: the disk is full, or a relation turned up that may be a new partition and the catalogue has to be asked.
Owned by the replicator's loop; one instance lives through reconnects, its assembler does not.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

import structlog

from pgshapes.errors import DiskFull, PgShapesError, ReplicaIdentityNotFull
from pgshapes.model.change import Fragment
from pgshapes.model.lsn import Lsn
from pgshapes.owner.cleaner import ShapeCleaner
from pgshapes.owner.known_relations import KnownRelations
from pgshapes.owner.log_publisher import LogPublisher
from pgshapes.postgres.inspector import Inspector
from pgshapes.postgres.pgoutput import PgoutputDecoder
from pgshapes.postgres.pgoutput_messages import RelationMessage
from pgshapes.routing.assembler import RelationAnnounced, TransactionAssembler
from pgshapes.routing.flush_boundary import FlushBoundary
from pgshapes.routing.router import Routed, Router

Event = Fragment | RelationAnnounced | ReplicaIdentityNotFull

_log = structlog.get_logger(__name__)

_DISK_RETRY_S: Final = 1.0
_LOOK_UP_RETRY_S: Final = 1.0
_FULL: Final = "f"


class Pausable(Protocol):
    """The replication stream, as far as it is held up from here."""

    def pause(self) -> None:
        """Stop reading; keepalives are still answered."""

    def resume(self) -> None:
        """Read on."""


class ChangePath:
    """Feeds the stream's messages to routing and routing's results to the logs."""

    def __init__(
        self,
        router: Router,
        publisher: LogPublisher,
        boundary: FlushBoundary,
        cleaner: ShapeCleaner,
        inspector: Inspector,
        known: KnownRelations,
        *,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        on_identity_lost: Callable[[int], None],
        on_progress: Callable[[], None],
    ) -> None:
        self._router = router
        self._publisher = publisher
        self._boundary = boundary
        self._cleaner = cleaner
        self._inspector = inspector
        self._known = known
        self._spawn = spawn
        self._on_identity_lost = on_identity_lost
        self._on_progress = on_progress
        self._decoder = PgoutputDecoder()
        self._assembler = TransactionAssembler()
        self._stream: Pausable | None = None
        self._backlog: deque[Event] = deque()
        self._is_blocked = False
        self.transactions = 0
        self.changes = 0

    def connected(self, stream: Pausable) -> None:
        """A stream begins, from the last acknowledged position: half transactions of the one before are
        void.
        """
        self._decoder = PgoutputDecoder()
        self._assembler = TransactionAssembler()
        self._backlog.clear()
        self._stream = stream
        if self._is_blocked:
            stream.pause()

    def on_message(self, payload: bytes) -> None:
        """One pgoutput message. Raises WireError."""
        try:
            self._backlog.extend(self._assembler.feed(self._decoder.decode(payload)))
        except ReplicaIdentityNotFull as lost:
            self._backlog.append(lost)
        self._work()

    def on_keepalive(self, wal_end: Lsn) -> None:
        """The walsender has read up to `wal_end` and sent all that was committed before."""
        if not self._assembler.is_in_transaction and not self._backlog and not self._is_blocked:
            self._boundary.advance(wal_end)
            self._on_progress()

    def _work(self) -> None:
        while self._backlog and not self._is_blocked:
            event = self._backlog.popleft()
            if isinstance(event, Fragment):
                self._route(event)
            elif isinstance(event, RelationAnnounced):
                self._announce(event.message)
            else:
                self._lose_identity(event)

    def _route(self, fragment: Fragment) -> None:
        routed = self._router.route(fragment)
        self.changes += len(fragment.changes)
        self._publish(routed, fragment.commit_lsn if fragment.is_last else None)
        if fragment.is_last:
            self.transactions += 1
            self._boundary.advance(fragment.end_lsn)
            self._on_progress()

    def _publish(self, routed: Routed, seen_lsn: Lsn | None) -> None:
        hold = self._boundary.hold()
        try:
            self._publisher.publish(routed, seen_lsn=seen_lsn)
        except DiskFull as error:
            _log.error("the storage directory is full; changes wait", error=error.message)
            self._block(self._wait_for_room(hold))
        else:
            self._boundary.release(hold)

    async def _wait_for_room(self, hold: int) -> None:
        while True:
            await asyncio.sleep(_DISK_RETRY_S)
            try:
                self._publisher.retry()
            except DiskFull:
                continue
            self._boundary.release(hold)
            return

    def _announce(self, message: RelationMessage) -> None:
        for oid in {message.oid, *self._router.tables_fed_by(message.oid)}:
            self._known.forget(oid)
        if self._router.has_partitioned():
            # Nobody tells when a table becomes a partition, or ceases to be one, but it is announced anew.
            self._block(self._find_ancestors(message))
        else:
            self._bind(message)

    def _bind(self, message: RelationMessage) -> None:
        self._cleaner.end(self._router.announce(message), "the table's columns changed")
        if message.replica_identity != _FULL:
            for oid in self._router.tables_fed_by(message.oid):
                self._on_identity_lost(oid)

    async def _find_ancestors(self, message: RelationMessage) -> None:
        while True:
            try:
                ancestors = await self._inspector.ancestors(message.oid)
                break
            except PgShapesError as error:
                _log.warning("the catalogue does not answer; changes wait", error=error.message)
                await asyncio.sleep(_LOOK_UP_RETRY_S)
        self._cleaner.end(self._router.place_leaf(message.oid, ancestors), "a partition was detached")
        self._bind(message)

    def _lose_identity(self, lost: ReplicaIdentityNotFull) -> None:
        oid = lost.relation_oid
        if not self._router.has_relation(oid):
            return
        _log.error("a change came without its old row", error=lost.message)
        for table in self._router.tables_fed_by(oid):
            self._on_identity_lost(table)
        self._cleaner.end(self._router.end_relation(oid), "REPLICA IDENTITY of the table is not FULL")

    def _block(self, until: Coroutine[Any, Any, None]) -> None:
        self._is_blocked = True
        if self._stream is not None:
            self._stream.pause()
        self._spawn(self._unblock(until))

    async def _unblock(self, until: Coroutine[Any, Any, None]) -> None:
        await until
        self._is_blocked = False
        self._work()
        if not self._is_blocked and self._stream is not None:
            self._stream.resume()
