"""Creates one shape: combines its snapshot with the changes of the replication stream.

The order of the steps ensures that no row is lost or sent twice; do not reorder them. If a step fails,
everything of the shape is removed.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

from pgshapes.errors import GaveWay, PgShapesError, SchemaChanged
from pgshapes.logs import get_logger
from pgshapes.model.followable import Obstacle
from pgshapes.model.relation import Relation
from pgshapes.model.shape import ResolvedShape
from pgshapes.model.visibility import SnapshotVisibility
from pgshapes.owner.change_path import LogPublisher
from pgshapes.owner.removal import ShapeCleaner
from pgshapes.owner.resolver import KnownRelations
from pgshapes.owner.shape_status import ShapeStatus
from pgshapes.owner.snapshotting import SnapshotBasis, SnapshotWriting, TakenSnapshot, take_snapshot
from pgshapes.postgres.inspector import Inspector
from pgshapes.postgres.publication import Publication
from pgshapes.postgres.refusals import refuse_table
from pgshapes.postgres.snapshot import SnapshotSource
from pgshapes.routing.router import Router
from pgshapes.shape_log.store import ShapeStore
from pgshapes.waiting.fair_semaphore import FairSemaphore
from pgshapes.where.clause import clause_from_sql

_log = get_logger(__name__)

_ATTEMPTS: Final = 3
"""How often a creation is begun while statements wait for its table."""
_ENDED: Final = "the shape was ended while it was being created"
_TRUNCATED: Final = "the table was truncated or changed while the shape was being created"


class ReportsTableWait(Protocol):
    """The slot of a creation, which is released while the creation waits for a lock on the table."""

    def begin_table_wait(self) -> None:
        """The creation waits for another transaction's lock on the table: release the slot."""

    async def end_table_wait(self) -> None:
        """The lock was acquired. Await this before the next step: it acquires a slot again."""


@dataclass(slots=True)
class CreatorCounts:
    """Counters for metrics and tests."""

    snapshots: int = 0
    retakes: int = 0
    gave_way: int = 0
    """Creations that were begun again because a statement waited for the table."""
    lock_waits: int = 0


@dataclass(slots=True)
class CreatorParts:
    """The dependencies of `ShapeCreator`."""

    inspector: Inspector
    known_relations: KnownRelations
    publication: Publication
    snapshots: SnapshotSource
    router: Router
    store: ShapeStore
    status: ShapeStatus
    publisher: LogPublisher
    cleaner: ShapeCleaner
    spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
    obstacle_of: Callable[[Relation], Obstacle | None] = lambda _: None
    """Why a table cannot be followed (`model.followable`)."""
    on_snapshot_ended: Callable[[str, PgShapesError | None], None] = lambda _handle, _error: None
    """Called when the snapshot of an activated shape is complete, or cannot be completed, before the shape is
    removed.
    """


def new_handle() -> str:
    """A handle that was never used before: 128 random bits, independent of clocks and directories.

    In decimal digits, as Electric's clients expect."""
    return f"{secrets.randbits(128):039d}"


class ShapeCreator:
    """Runs creations. By handle, `writings` has the snapshots that are still being written, and `memberships`
    how the relations of a shape were published when it was created (`relation_sql.membership`).

    A table that is locked, or whose query is slow to return its first row, uses at most half of the
    connections.
    """

    def __init__(self, parts: CreatorParts) -> None:
        self._parts = parts
        self.slots: FairSemaphore[int] = FairSemaphore(parts.snapshots.connections)
        self.writings: dict[str, asyncio.Task[None]] = {}
        self.memberships: dict[str, dict[int, str]] = {}
        self.counts = CreatorCounts()
        parts.cleaner.on_retired = self._stop_writing

    async def create(self, shape: ResolvedShape, slot: ReportsTableWait) -> str:
        """The handle of a new, activated shape. Raises CreationFailed, RequestError, SchemaChanged, NotNow,
        SourceError, StorageError.

        A snapshot that gave way to DDL is begun again, as a new shape: its changes were released before.
        """
        for _ in range(_ATTEMPTS - 1):
            with suppress(GaveWay):
                return await self._try_to_create(shape, slot)
            self.counts.gave_way += 1
        return await self._try_to_create(shape, slot)

    async def _try_to_create(self, shape: ResolvedShape, slot: ReportsTableWait) -> str:
        handle = new_handle()
        try:
            relations = await self._relations(shape)
            await self._note_types(relations)
            await self._create(handle, shape, relations, slot)
        except SchemaChanged:
            for oid in shape.definition.relation_oids:
                self._parts.known_relations.invalidate(oid)
            await self._abandon(handle)
            raise
        except BaseException:
            await self._abandon(handle)
            raise
        return handle

    async def _relations(self, shape: ResolvedShape) -> tuple[Relation, ...]:
        """The relations of the definition, as it was checked against them. Raises SchemaChanged."""
        return tuple([await self._relation(used.oid, used.generation) for used in shape.relations])

    async def _relation(self, oid: int, generation: int) -> Relation:
        recent = self._parts.known_relations.recall(oid, generation)
        relation = recent or await self._parts.inspector.relation_by_oid(oid)
        if relation is None or relation.generation != generation:
            raise SchemaChanged("the table changed while the shape was being created")
        return relation

    async def _note_types(self, relations: Iterable[Relation]) -> None:
        """Note types that are not known yet. This precedes publishing, which then waits for the writers of
        then: the changes of later ones are newer than this position.
        """
        types = self._parts.router.types
        for relation in relations:
            if types.lacks(relation):
                types.note(relation, (await self._parts.inspector.visibility()).insert_lsn)
                self._parts.publication.unsettle(relation.oid)

    async def _create(
        self, handle: str, shape: ResolvedShape, relations: tuple[Relation, ...], slot: ReportsTableWait
    ) -> None:
        parts, relation = self._parts, relations[0]
        parts.status.add_shape(handle, shape, relations)
        parts.store.create(handle)
        where = shape.definition.where
        clause = None if where is None else clause_from_sql(where, relation)
        parts.router.register(handle, relation, shape.definition, clause, leaves=await self._leaves(relation))
        memberships = {each.oid: await self._publish_table(each, slot) for each in relations}
        self._check_alive(handle)
        self.memberships[handle] = memberships
        parts.router.add_leaves(relation.oid, await self._leaves(relation))
        async with self.slots.slot(relation.oid):
            await self._start_snapshot(handle, SnapshotBasis(shape.definition, relations, memberships))
        await parts.status.committed(handle)
        self._check_alive(handle)
        parts.publisher.publish_tail(handle)
        parts.status.activate(handle)

    async def _start_snapshot(self, handle: str, basis: SnapshotBasis) -> None:
        """Take the snapshot and write it in the background; returns when its first row is written.

        Raises SchemaChanged if the shape is ended before that.
        """
        parts = self._parts
        taken, basis = await self._take_confirmed(handle, basis)
        try:
            routed = parts.router.release(handle, taken.visibility)
            parts.publisher.publish(routed)
            if routed.ended or routed.outdated:
                raise SchemaChanged(_TRUNCATED)
            writing = SnapshotWriting(handle, taken, parts.store, parts.status, parts.publisher, basis)
            self._begin_writing(handle, writing)
        except BaseException:
            taken.end()
            raise
        try:
            await writing.started
        except PgShapesError:
            if handle not in parts.router:
                raise SchemaChanged(_ENDED) from None
            raise

    async def _take_confirmed(self, handle: str, basis: SnapshotBasis) -> tuple[TakenSnapshot, SnapshotBasis]:
        """A snapshot that may be released in this turn of the loop, and its basis.

        Race: while the table is read, the shape's buffer may become full. What is dropped from it then must
        be visible in the snapshot, so another one is taken. The table is read again only if it has changed.
        """
        while True:
            taken = await self._take(handle, basis.relations[0])
            try:
                basis = await self._confirm(handle, basis, taken)
                if not self._parts.router.has_dropped(handle):
                    return taken, basis
            except BaseException:
                taken.end()
                raise
            taken.end()
            self.counts.retakes += 1

    async def _confirm(self, handle: str, basis: SnapshotBasis, taken: TakenSnapshot) -> SnapshotBasis:
        """The basis with the table as it is in the snapshot. Raises SchemaChanged if the table or its
        publication has changed so that the definition must be checked again, RequestError if the table cannot
        be followed any more.
        """
        relation, router = basis.relations[0], self._parts.router
        if taken.stamp.membership != basis.memberships[relation.oid]:
            raise SchemaChanged("the publication of the table changed while the shape was being created")
        if taken.stamp.stamp == relation.stamp:
            return basis
        current = await taken.read_relation()
        self._check_alive(handle)
        obstacle = self._parts.obstacle_of(current)
        if obstacle is not None:
            raise refuse_table(current, obstacle)
        # Rows of partitions that were attached before the snapshot are in the snapshot.
        changed = router.find_changed(current, {handle}, is_empty=lambda _: True)
        if changed:
            raise SchemaChanged(f"the table changed while the shape was being created: {changed[handle]}")
        router.renew(current, {handle})
        return basis._replace(relations=(current, *basis.relations[1:]))

    async def _publish_table(self, relation: Relation, slot: ReportsTableWait) -> str:
        def waiting(blockers: object) -> None:
            self.counts.lock_waits += 1
            slot.begin_table_wait()
            _log.warning("shape creation waits for old writers", table=relation.name, writers=blockers)

        membership = await self._parts.publication.ensure_table(relation, on_waiting=waiting)
        await slot.end_table_wait()
        return membership.version

    async def _leaves(self, relation: Relation) -> tuple[int, ...]:
        """The partitions of a table, as the system catalogs have them now."""
        if relation.kind != "p":
            return ()
        self._parts.inspector.forget_partitions()
        return await self._parts.inspector.leaves(relation.oid)

    async def _take(self, handle: str, relation: Relation) -> TakenSnapshot:
        router = self._parts.router

        def prepare_check() -> Callable[[SnapshotVisibility], bool]:
            before = router.delivered.unseen()

            def is_complete(visibility: SnapshotVisibility) -> bool:
                self._check_alive(handle)
                return router.is_complete(handle, visibility, before)

            return is_complete

        def note_retake() -> None:
            self.counts.retakes += 1

        taken = await take_snapshot(self._parts.snapshots, relation, prepare_check, note_retake)
        self.counts.snapshots += 1
        return taken

    def _begin_writing(self, handle: str, writing: SnapshotWriting) -> None:
        task = self._parts.spawn(writing.run())
        self.writings[handle] = task
        task.add_done_callback(partial(self._end_writing, handle, writing))

    def _end_writing(self, handle: str, writing: SnapshotWriting, task: asyncio.Task[None]) -> None:
        """However the task ended: a shape without all rows of its snapshot must not stay."""
        self.writings.pop(handle, None)
        error = writing.end(task)
        if error is None:
            self._parts.on_snapshot_ended(handle, None)
        elif writing.has_started:
            if not task.cancelled():  # otherwise the shape was ended meanwhile, for another reason
                self._parts.on_snapshot_ended(handle, error)
            self._parts.cleaner.end([handle], f"snapshot failed: {error.message}")

    def _stop_writing(self, handle: str) -> None:
        self.memberships.pop(handle, None)
        task = self.writings.get(handle)
        if task is not None:
            task.cancel()

    def _check_alive(self, handle: str) -> None:
        if handle not in self._parts.router:
            raise SchemaChanged(_TRUNCATED)

    async def _abandon(self, handle: str) -> None:
        removal = self._parts.cleaner.end([handle], "creation failed")
        if removal is not None:
            await removal
