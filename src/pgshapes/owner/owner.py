"""Builds the owner's components once the database is connected, and answers the callers' calls.

It manages neither the connection (`replicator`) nor the processes (`supervisor`). The components own all
state; this module connects them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from pgshapes.errors import PgShapesError, RequestError, SchemaChanged
from pgshapes.logs import get_logger
from pgshapes.model.followable import Obstacle, find_obstacle
from pgshapes.model.relation import Relation
from pgshapes.model.shape import ResolvedShape
from pgshapes.owner.catalog_watch import CatalogWatch
from pgshapes.owner.catalogue import StoredShape, WriteBuffer
from pgshapes.owner.change_path import ChangePath, LogPublisher
from pgshapes.owner.creations import CreationLocks, Creations, CreationSlot, as_failure
from pgshapes.owner.creator import CreatorParts, ShapeCreator
from pgshapes.owner.definition_refusals import DefinitionRefusals
from pgshapes.owner.dropped_relations import DroppedRelations
from pgshapes.owner.failed_shapes import FailedShapes
from pgshapes.owner.refusal_log import RefusalLog
from pgshapes.owner.removal import ShapeCleaner, ShapeExpiry
from pgshapes.owner.resolver import KnownRelations, ShapeResolver
from pgshapes.owner.shape_status import ShapeStatus
from pgshapes.owner.unpublishing import Unpublisher
from pgshapes.postgres.inspector import Inspector
from pgshapes.postgres.publication import Publication, PublicationMembership
from pgshapes.postgres.refusals import refuse_table
from pgshapes.postgres.snapshot import SnapshotSource
from pgshapes.routing.flush_boundary import FlushBoundary
from pgshapes.routing.router import Router
from pgshapes.shape_log.store import ShapeStore
from pgshapes.tables.calls import (
    Call,
    CreateOrWaitShapeHandle,
    DeleteShape,
    InvalidateRelation,
    ListUnseen,
    NoteUse,
    Reply,
    ResolveShape,
    Unseen,
)
from pgshapes.tables.mailbox import CallContext, cancel_on_disconnect
from pgshapes.tables.tables import Tables
from pgshapes.waiting.background import begin
from pgshapes.where.clause import clause_from_sql

_log = get_logger(__name__)

_RESTORED_PER_TURN: Final = 100
SNAPSHOT_GRACE_S: Final = 1.0
"""How long a shutdown waits for snapshots; a shape whose snapshot is not recorded is deleted at the start."""


@dataclass(slots=True)
class Sources:
    """What reads from Postgres and alters it."""

    inspector: Inspector
    publication: Publication
    snapshots: SnapshotSource


class Owner:
    """The components of the owner, and the handler of its calls."""

    def __init__(
        self,
        tables: Tables,
        store: ShapeStore,
        buffer: WriteBuffer,
        sources: Sources,
        router: Router,
        boundary: FlushBoundary,
        *,
        on_progress: Callable[[], None],
        reconnect: Callable[[str], None],
        max_shapes: int | None = None,
        allows_no_key: bool = False,
    ) -> None:
        self._obstacle_of = partial(find_obstacle, allows_no_key=allows_no_key)
        self._tables = tables
        self._sources = sources
        self._tasks: set[asyncio.Task[None]] = set()
        self._unpublisher = Unpublisher(
            sources.inspector,
            sources.publication,
            has_shapes=lambda oid: bool(router.handles_of(oid)),
            breaks_writes=self._breaks_writes,
            spawn=self.spawn,
        )
        self.router = router
        self.store = store
        self.boundary = boundary
        self.status = ShapeStatus(tables, buffer)
        self.cleaner = ShapeCleaner(
            tables, self.status, router, store, boundary, spawn=self.spawn, after_removal=self._after_removal
        )
        self.expiry = None if max_shapes is None else ShapeExpiry(tables, self.cleaner, max_shapes)
        self.definition_refusals = DefinitionRefusals()
        failed = FailedShapes(tables, self.definition_refusals, self.cleaner.end)
        self.publisher = LogPublisher(store, tables, self.cleaner.end, failed.end)
        self.known_relations = KnownRelations(sources.inspector, tables)
        self.creator = ShapeCreator(self._creator_parts())
        self.refusals = RefusalLog()
        self._locks = CreationLocks(tables)
        self.creations = Creations(tables, self._locks, self._create, on_failure=self.refusals.note)
        self.watch = self._make_watch(reconnect)
        self.change_path = ChangePath(
            router,
            self.publisher,
            boundary,
            sources.inspector,
            self.watch,
            spawn=self.spawn,
            on_identity_lost=self._restore_identity,
            on_progress=on_progress,
            reconnect=reconnect,
        )
        self._on_progress = on_progress
        # A commit record may begin at the boundary itself; it will be delivered again.
        self._start_lsn = boundary.processed
        self._resolver = ShapeResolver(
            sources.inspector, self.known_relations, self.refusals, self._obstacle_of
        )

    def _make_watch(self, reconnect: Callable[[str], None]) -> CatalogWatch:
        return CatalogWatch(
            self._sources.inspector,
            self.known_relations,
            self.router,
            self.cleaner,
            self.status,
            publication=self._sources.publication.name,
            memberships=self.creator.memberships,
            reconnect=reconnect,
            on_identity_lost=self._restore_identity,
            give_up=self._give_up,
        )

    def dropped_relations(self) -> DroppedRelations:
        """What forgets relations that were dropped; for one task."""
        return DroppedRelations(self._sources.inspector, self.router, self.boundary, self.change_path.forget)

    def _creator_parts(self) -> CreatorParts:
        return CreatorParts(
            self._sources.inspector,
            self.known_relations,
            self._sources.publication,
            self._sources.snapshots,
            self.router,
            self.store,
            self.status,
            self.publisher,
            self.cleaner,
            self.spawn,
            self._obstacle_of,
            self._note_snapshot_end,
        )

    def _note_snapshot_end(self, handle: str, error: PgShapesError | None) -> None:
        """Let the failure of a snapshot answer the requests of the clients that refetch."""
        row = self._tables.shapes.get(handle)
        if row is None or isinstance(error, SchemaChanged):
            return
        if error is None:
            self._locks.late_failures.forget(row.comparable)
            return
        relation = self.router.relation(row.relation_oids[0])
        failure = as_failure(error, relation.schema if relation else "", relation.name if relation else "")
        self.refusals.note(failure)
        self._locks.fail_again(row.comparable, failure)

    async def _create(self, shape: ResolvedShape, slot: CreationSlot) -> str:
        self.definition_refusals.check(shape)
        handle = await self.creator.create(shape, slot)
        self.refusals.forget(shape.definition.schema, shape.definition.table)
        if self.expiry is not None:
            self.expiry.note_created()
        return handle

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` in a background task; an unexpected error in it is logged."""
        task = begin(work, at_end=self._done)
        self._tasks.add(task)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("background task failed", error=repr(error), exc_info=error)

    async def restore(self, shapes: Iterable[StoredShape]) -> None:
        """Load shapes of an earlier run whose logs were recovered; one that cannot be loaded is removed."""
        stored = list(shapes)
        failed = []
        for number, shape in enumerate(stored):
            if not await self._restore(shape):
                failed.append(shape.handle)
            if number % _RESTORED_PER_TURN == 0:
                await asyncio.sleep(0)  # for the statements of the lock, and status to Postgres
        self.creator.memberships.update((shape.handle, shape.memberships) for shape in stored)
        for shape in stored:
            for oid, version in shape.memberships.items():
                self._sources.publication.note_settled(PublicationMembership(oid, version))
        with self._tables.transaction():
            self.status.restore(stored)
            for shape in stored:
                self.publisher.publish_tail(shape.handle)
            self.cleaner.end(failed, "it could not be loaded")

    async def _restore(self, shape: StoredShape) -> bool:
        """Whether the shape could be loaded."""
        log = self.store.get(shape.handle)
        assert log is not None
        relation = Relation(*shape.relations[0])
        definition = shape.definition
        leaves = await self._sources.inspector.leaves(relation.oid) if relation.kind == "p" else ()
        end = log.tail.latest.tx
        try:
            clause = None if definition.where is None else clause_from_sql(definition.where, relation)
            self.router.restore(
                shape.handle, relation, definition, clause, shape.visibility, end, leaves=leaves
            )
        except Exception:
            _log.exception("shape could not be loaded", handle=shape.handle, where=definition.where)
            return False
        return True

    # --- calls

    def handle(self, call: Call, context: CallContext) -> Awaitable[Reply]:
        """Answer a caller. The creation lock that a call sets is set before this returns."""
        if isinstance(call, CreateOrWaitShapeHandle):
            return self.creations.create_or_wait(call.shape, context)
        if isinstance(call, ResolveShape):
            return cancel_on_disconnect(self._resolver.resolve(call.raw), context)
        if isinstance(call, ListUnseen):
            return self._list_unseen()
        if isinstance(call, InvalidateRelation):
            return self._invalidate(call)
        if isinstance(call, NoteUse):
            return self._note_use(call)
        return self._delete(call)

    async def _note_use(self, call: NoteUse) -> None:
        if self.expiry is not None:
            self.expiry.note_use(call.handles)

    async def _invalidate(self, call: InvalidateRelation) -> None:
        await self.watch.check([call.oid])

    async def _list_unseen(self) -> Unseen:
        delivered = self.router.delivered
        known = max(delivered.last_commit_lsn, self._start_lsn - 1)
        return Unseen(known, tuple((one.xid, one.commit_lsn) for one in delivered.unseen()))

    async def _delete(self, call: DeleteShape) -> bool:
        removal = self.cleaner.end([call.handle], "deleted on request")
        if removal is None:
            return False
        await removal
        return True

    # --- publication

    def _after_removal(self, relation_oids: set[int]) -> None:
        self._on_progress()
        self._unpublisher.remove_unused(relation_oids)

    def _give_up(self, relation: Relation) -> Obstacle | None:
        """Find and log why a table cannot be followed any more. If its owner's statements fail because it is
        published, remove it from the publication at once, before the removal of its shapes is durable.
        """
        obstacle = self._obstacle_of(relation)
        if obstacle is not None:
            self.refusals.note(refuse_table(relation, obstacle))
            if obstacle.breaks_writes:
                self._unpublisher.remove_breaking(relation)
        return obstacle

    def _breaks_writes(self, relation: Relation) -> bool:
        obstacle = self._obstacle_of(relation)
        return obstacle is not None and obstacle.breaks_writes

    def _restore_identity(self, oid: int) -> None:
        self.spawn(self._ensure_identity(oid))

    async def _ensure_identity(self, oid: int) -> None:
        try:
            relation = await self._sources.inspector.relation_by_oid(oid)
            if relation is not None:
                await self._sources.publication.ensure_table(relation)
        except RequestError as error:
            self.refusals.note(error)
            self.cleaner.end(self.router.handles_of(oid), error.details.get("reason", error.message))
        except PgShapesError as error:
            _log.error("REPLICA IDENTITY could not be set", relation_oid=oid, error=error.message)

    async def close(self) -> None:
        """Let snapshots that are nearly complete be recorded, then cancel creations and background tasks."""
        await self.creations.close()
        await self._resolver.close()
        if self.creator.writings:
            await asyncio.wait(self.creator.writings.values(), timeout=SNAPSHOT_GRACE_S)
        self.cleaner.close()
        while tasks := tuple(self._tasks):  # the end of one may begin another
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            self._tasks.difference_update(tasks)  # `_done` may have raised before it did
