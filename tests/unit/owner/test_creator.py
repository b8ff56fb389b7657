"""A creation whose shape ends while its snapshot starts fails with a reason and returns its connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

import pytest
from tests.support.seams.routing_samples import ITEMS, OLD_SNAPSHOT, definition, inserted, transaction
from tests.support.storage.memory_store import MemoryShapeLog, MemoryShapeStore

from pgshapes.errors import DiskFull, SchemaChanged, SourceError, StorageError
from pgshapes.model.relation import Relation, TypeDetail
from pgshapes.model.shape import RelationVersion, ResolvedShape
from pgshapes.model.shape_state import ShapeState
from pgshapes.model.visibility import SnapshotVisibility
from pgshapes.owner.catalogue import Statement
from pgshapes.owner.change_path import LogPublisher
from pgshapes.owner.creator import CreatorParts, ShapeCreator
from pgshapes.owner.removal import ShapeCleaner
from pgshapes.owner.resolver import KnownRelations
from pgshapes.owner.shape_status import ShapeStatus
from pgshapes.postgres.publication import PublicationMembership
from pgshapes.postgres.relation_sql import RelationStamp
from pgshapes.routing.delivered import DeliveredTransactions
from pgshapes.routing.flush_boundary import FlushBoundary
from pgshapes.routing.routed_shape import BUFFER_LIMIT_BYTES
from pgshapes.routing.router import Router
from pgshapes.shape_log.store import Entry
from pgshapes.tables.tables import Tables
from pgshapes.waiting.notice import Notice

VERSION = RelationVersion(ITEMS.oid, ITEMS.schema, ITEMS.name, ITEMS.generation)
MEMBERSHIP = "1.2.3.4"
POSITION = 150
"""The insert position of the WAL."""
SHAPE = ResolvedShape(definition(), b"2:items", (VERSION,), b"{}")


class Database:
    """The table as it is, published at once; a snapshot that sees nothing, on one connection."""

    connections = 4

    def __init__(self, while_taking: Callable[[], None]) -> None:
        self.stamp = RelationStamp(ITEMS.stamp, MEMBERSHIP)
        self.table = self.current = ITEMS
        self.change = inserted(0, "1", "a", "1")._replace(lsn=POSITION)
        """The change of the transaction that is delivered while the snapshot is taken."""
        self.steps: list[str] = []
        self.open_snapshots = 0
        self.copies: list[str] = []
        self.visibility_of_snapshot = OLD_SNAPSHOT
        self.while_reading: Callable[[], None] = lambda: None
        self._while_taking = while_taking
        self._ended, self._is_open = Notice(), False

    async def relation_by_oid(self, oid: int) -> Relation | None:
        """As the inspector does."""
        return self.table

    async def visibility(self) -> SnapshotVisibility:
        """As the inspector does."""
        self.steps.append("position")
        return SnapshotVisibility(5, 5, (), POSITION)

    def clean(self, oid: int | None) -> None:
        """As the inspector does."""

    def unsettle(self, oid: int) -> None:
        """As the publication does."""
        self.steps.append("unsettle")

    async def ensure_table(self, relation: Relation, **_: object) -> PublicationMembership:
        """As the publication does."""
        self.steps.append("publish")
        return PublicationMembership(relation.oid, MEMBERSHIP)

    async def borrow(self, *_: object) -> Database:
        """As the source of snapshots does."""
        self.open_snapshots += 1
        self._ended, self._is_open = Notice(), True
        return self

    def end(self) -> Notice:
        """As a snapshot does."""
        if self._is_open:
            self._is_open = False
            self.open_snapshots -= 1
            self._ended.give()
        return self._ended

    async def take(self) -> SnapshotVisibility:
        """As a snapshot does."""
        self._while_taking()
        return self.visibility_of_snapshot

    async def read_relation(self) -> Relation:
        """As a snapshot does."""
        self.while_reading()
        return self.current

    async def rows(self, copy_sql: str | None, *, has_where: bool = False) -> AsyncIterator[list[bytes]]:
        """As a snapshot does."""
        self.copies.append(copy_sql or "")
        yield [b"{}"]


class FailingLog(MemoryShapeLog):
    """A log that the disk refuses."""

    error: StorageError | None = None

    def append(self, entries: Sequence[Entry], *, ends_transaction: bool) -> None:
        if FailingLog.error is not None:
            raise FailingLog.error
        super().append(entries, ends_transaction=ends_transaction)


class Store(MemoryShapeStore):
    """A store of such logs."""

    def create(self, handle: str) -> MemoryShapeLog:
        log = self._logs[handle] = FailingLog(1000)
        return log

    synced: asyncio.Future[None] | None = None

    async def sync_shape(self, handle: str) -> None:
        """Wait until the test lets the sync end."""
        if self.synced is not None:
            await self.synced


class Progress:
    """Nobody watches."""

    def begin_table_wait(self) -> None:
        """It does not."""

    async def end_table_wait(self) -> None:
        """At once."""


class Scene:
    """A creator with a table, on whose shape a transaction is delivered while the snapshot is taken."""

    def __init__(self) -> None:
        self.tables = Tables()
        self.router = Router(DeliveredTransactions())
        self.store = Store(chunk_bytes=1000)
        self.database = Database(self.deliver)
        status = ShapeStatus(self.tables, self)
        self.cleaner = ShapeCleaner(
            self.tables,
            status,
            self.router,
            self.store,
            FlushBoundary(100),
            spawn=self.spawn,
            after_removal=lambda _: None,
        )
        database: Any = self.database
        self.creator = ShapeCreator(
            CreatorParts(
                database,
                KnownRelations(database, self.tables),
                database,
                database,
                self.router,
                self.store,
                status,
                LogPublisher(self.store, self.tables, self.cleaner.end),
                self.cleaner,
                self.spawn,
            )
        )

    def put(self, *statements: Statement) -> asyncio.Future[None]:
        """As the write buffer does; all is durable at once."""
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """As the owner does."""
        return asyncio.get_running_loop().create_task(work)

    def deliver(self) -> None:
        """A transaction that the snapshot does not see."""
        self.router.route(transaction(200, self.database.change))

    def truncate(self) -> None:
        """End every shape, as a TRUNCATE in the stream does."""
        self.cleaner.end([handle for handle, _ in self.tables.shapes.items()], "truncated")

    async def create(self) -> str:
        """Create the shape."""
        async with asyncio.timeout(5):
            return await self.creator.create(SHAPE, Progress())

    async def settle(self) -> None:
        """Let everything run that can."""
        for _ in range(20):
            await asyncio.sleep(0)


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setattr(FailingLog, "error", None)
    return Scene()


async def test_a_shape_is_created_with_what_its_snapshot_does_not_see(scene: Scene) -> None:
    handle = await scene.create()
    await scene.settle()
    assert scene.tables.shapes[handle].state is ShapeState.LIVE
    assert scene.tables.tails[handle].latest.tx == 200
    assert scene.creator.memberships == {handle: {ITEMS.oid: MEMBERSHIP}}
    assert scene.database.open_snapshots == 0


MOODS = Relation(
    *ITEMS._replace(
        columns=tuple(
            one._replace(type_details=(TypeDetail(90, "e", ((1, "ok 700"),)),)) for one in ITEMS.columns
        )
    )
)
"""The table with columns of a type that can be altered."""


async def test_types_are_as_old_as_a_position_before_the_table_is_published(scene: Scene) -> None:
    """Publishing waits for older writers, so that changes of later ones are newer than that."""
    scene.database.table = scene.database.current = MOODS
    await scene.create()
    assert scene.database.steps == ["position", "unsettle", "publish"]
    assert not scene.router.types.lacks(MOODS)
    assert scene.router.types.since(MOODS, {"id"}, 1000) == POSITION


async def test_a_creation_fails_if_it_has_missed_texts_of_older_types(scene: Scene) -> None:
    scene.database.table = scene.database.current = MOODS
    scene.database.change = inserted(0, "1", "a", "1")._replace(lsn=POSITION - 1)
    with pytest.raises(SchemaChanged):
        await scene.create()
    await scene.settle()
    assert scene.database.open_snapshots == 0
    assert len(scene.tables.shapes) == 0


async def test_a_shape_that_ends_as_its_buffer_is_published_fails_with_a_reason(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FailingLog, "error", StorageError("append: Input/output error"))
    with pytest.raises(SchemaChanged, match="was ended while it was being created"):
        await scene.create()
    await scene.settle()
    assert scene.database.open_snapshots == 0
    assert len(scene.tables.shapes) == 0
    assert scene.creator.memberships == {}


async def test_a_full_disk_returns_the_connection(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FailingLog, "error", DiskFull("no space left on device"))
    with pytest.raises(DiskFull):
        await scene.create()
    assert scene.database.open_snapshots == 0


@pytest.mark.parametrize("when", ["before the first step", "before the first row", "as the query fails"])
async def test_a_creation_whose_shape_is_ended_is_to_be_begun_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Whatever ends it, TRUNCATE, DDL or DELETE, the next attempt says what is right now."""

    def spawn(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        asyncio.get_running_loop().call_soon(scene.truncate)
        return scene.spawn(work)

    async def rows(*_: object, **__: object) -> AsyncIterator[list[bytes]]:
        scene.truncate()
        if when == "as the query fails":
            raise SourceError("canceling statement due to user request")
        await asyncio.Event().wait()
        yield []

    if when == "before the first step":
        monkeypatch.setattr(scene.creator._parts, "spawn", spawn)
    else:
        monkeypatch.setattr(scene.database, "rows", rows)
    with pytest.raises(SchemaChanged, match="was ended while it was being created"):
        await scene.create()
    await scene.settle()
    assert scene.database.open_snapshots == 0
    assert scene.creator.slots.in_use == 0
    assert scene.creator.writings == {}
    assert len(scene.tables.shapes) == 0


async def test_a_snapshot_that_fails_before_its_first_row_is_no_change_of_the_table(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def rows(*_: object, **__: object) -> AsyncIterator[list[bytes]]:
        raise SourceError("permission denied")
        yield []

    monkeypatch.setattr(scene.database, "rows", rows)
    with pytest.raises(SourceError, match="permission denied"):
        await scene.create()


async def test_a_shape_whose_writing_is_cancelled_does_not_stay(scene: Scene) -> None:
    """Otherwise its readers would wait for the rest of its snapshot."""
    scene.store.synced = asyncio.get_running_loop().create_future()
    handle = await scene.create()
    (writing,) = scene.creator.writings.values()
    writing.cancel()
    await scene.settle()
    assert handle not in scene.tables.shapes
    assert scene.database.open_snapshots == 0


async def test_the_rows_are_rendered_by_the_table_as_it_is_in_the_snapshot(scene: Scene) -> None:
    """Setting the replica identity has changed the version of the table since it was looked up."""
    scene.database.stamp = RelationStamp("a later one", MEMBERSHIP)
    other = ITEMS.columns[0]._replace(type_oid=ITEMS.columns[0].type_oid, not_null=False)
    scene.database.current = Relation(*ITEMS._replace(columns=(other, *ITEMS.columns[1:]), generation=77))
    handle = await scene.create()
    await scene.settle()
    assert scene.router._shapes[handle].known is scene.database.current
    assert len(scene.database.copies) == 1


async def test_a_buffer_that_is_full_while_the_table_is_read_has_the_snapshot_taken_again(
    scene: Scene,
) -> None:
    """What was dropped from it is in no log, so the snapshot must see it."""
    scene.database.stamp = RelationStamp("a later one", MEMBERSHIP)
    scene.database.current = Relation(*ITEMS._replace(generation=77, stamp="a later one"))

    def overflow() -> None:
        for lsn in range(300, 400):
            scene.router.route(transaction(lsn, inserted(0, str(lsn), "x" * (BUFFER_LIMIT_BYTES // 90), "1")))
        scene.database.visibility_of_snapshot = SnapshotVisibility(71, 71, (), 400)

    scene.database.while_reading = overflow
    handle = await scene.create()
    await scene.settle()
    assert scene.creator.counts.snapshots == 2
    assert scene.tables.shapes[handle].state is ShapeState.LIVE
    assert scene.router._shapes[handle].visibility == scene.database.visibility_of_snapshot
    assert scene.database.open_snapshots == 0


@pytest.mark.parametrize(
    "change",
    [{"name": "other"}, {"columns": ITEMS.columns[:1]}, {"columns": (ITEMS.columns[0]._replace(number=9),)}],
    ids=["renamed", "dropped column", "other column of the name"],
)
async def test_a_table_that_changed_since_it_was_looked_up_is_looked_up_again(
    scene: Scene, change: dict[str, Any]
) -> None:
    scene.database.stamp = RelationStamp("a later one", MEMBERSHIP)
    scene.database.current = Relation(*ITEMS._replace(generation=77, **change))
    with pytest.raises(SchemaChanged, match="changed while the shape was being created"):
        await scene.create()
    await scene.settle()
    assert scene.database.copies == []
    assert scene.database.open_snapshots == 0
    assert len(scene.tables.shapes) == 0


async def test_a_table_that_left_the_publication_before_the_snapshot_has_no_shape(scene: Scene) -> None:
    scene.database.stamp = RelationStamp(ITEMS.stamp, "1.2.5.6")
    with pytest.raises(SchemaChanged, match="publication"):
        await scene.create()
    assert scene.database.copies == []
