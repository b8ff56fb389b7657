"""What a look at the system catalogs reads, ends, and leaves alone."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

import pytest
from tests.support.seams.routing_samples import GRADE, ITEMS, registered

from pgshapes.errors import NotNow
from pgshapes.model.followable import Obstacle
from pgshapes.model.relation import Part, Relation, TypeDetail
from pgshapes.model.shape_state import ShapeState
from pgshapes.model.visibility import SnapshotVisibility
from pgshapes.owner.catalog_watch import CatalogWatch
from pgshapes.owner.resolver import KnownRelations
from pgshapes.postgres.relation_sql import RelationStamp, rights_of
from pgshapes.routing.delivered import DeliveredTransactions
from pgshapes.routing.router import Router
from pgshapes.tables.rows import ShapeRow
from pgshapes.tables.tables import Tables

TABLE = Relation(*ITEMS._replace(stamp="1", parts=(Part(ITEMS.oid, "", 100),)))
WIDER = Relation(
    *TABLE._replace(columns=(*TABLE.columns, GRADE._replace(name="more")), stamp="2", generation=2)
)


class Database:
    """The system catalogs, with one table. `reads` are the queries."""

    def __init__(self) -> None:
        self.table: Relation | None = TABLE
        self.membership: str | None = "7.1.table.8.1"
        self.has_publication = True
        self.published: set[int] = set()
        self.rights = rights_of(TABLE)
        self.filled: set[int] = set()
        self.reads: list[str] = []
        self.failures = 0
        self.transactions = 0
        self.is_busy = True
        """Whether a transaction of somebody ends between any two looks."""
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def stamps(
        self, oids: Collection[int], publication: str, *, and_published: bool = False
    ) -> dict[int, RelationStamp]:
        self.reads.append(f"stamps {sorted(oids)}")
        await self.may_answer.wait()
        if self.failures:
            self.failures -= 1
            raise NotNow("not reachable")
        table = self.table
        asked = {*oids, *(self.published if and_published else ())}
        if table is None or table.oid not in asked:
            return {}
        return {table.oid: RelationStamp(table.stamp, self.membership, self.has_publication, self.rights)}

    async def visibility(self) -> SnapshotVisibility:
        self.transactions += self.is_busy
        return SnapshotVisibility(self.transactions, self.transactions, (), insert_lsn=len(self.reads))

    async def relation_by_oid(self, oid: int) -> Relation | None:
        self.reads.append(f"relation {oid}")
        return self.table

    async def has_rows(self, oid: int) -> bool:
        self.reads.append(f"size {oid}")
        return oid in self.filled

    def clean(self, oid: int | None) -> None:
        """Nothing is cached here."""


class Scene:
    """A watch, with the shapes `all` (all columns) and `id` (one column) on a table."""

    def __init__(self) -> None:
        self.tables, self.router, self.database = Tables(), Router(DeliveredTransactions()), Database()
        self.ended: dict[str, str] = {}
        self.renewed: list[tuple[list[str], int]] = []
        self.lost: list[int] = []
        self.reconnects: list[str] = []
        self.obstacle: Obstacle | None = None
        self.given_up: list[Relation] = []
        self.memberships: dict[str, dict[int, str]] = {}
        self.known = KnownRelations(self.database, self.tables)
        itself: Any = self
        self.watch = CatalogWatch(
            self.database,
            self.known,
            self.router,
            itself,
            itself,
            publication="pub",
            memberships=self.memberships,
            reconnect=self.reconnects.append,
            on_identity_lost=self.lost.append,
            give_up=self.give_up,
        )

    def give_up(self, relation: Relation) -> Obstacle | None:
        if self.obstacle is not None:
            self.given_up.append(relation)
        return self.obstacle

    def add(self, handle: str, table: Relation = TABLE, *, columns: tuple[str, ...] | None = None) -> None:
        """A live shape."""
        self.tables.shapes.put(handle, ShapeRow(handle.encode(), (table.oid,), ShapeState.LIVE))
        registered(self.router, handle, table, columns=columns)
        self.memberships[handle] = {table.oid: "7.1.table.8.1"}

    def end(self, handles: Collection[str], reason: str) -> None:
        """As the cleaner does."""
        for handle in handles:
            if handle in self.router:
                self.ended[handle] = reason
                self.router.unregister(handle)
                self.tables.shapes.remove(handle)

    def renew_relations(self, handles: list[str], current: list[Relation]) -> None:
        """As the shape status does."""
        self.renewed.append((handles, current[0].generation))


@pytest.fixture
def scene() -> Scene:
    made = Scene()
    made.add("all")
    made.add("id", columns=("id",))
    return made


async def test_a_changed_type_is_noted_with_a_position_after_its_reading(scene: Scene) -> None:
    moods = tuple(
        one._replace(type_details=(TypeDetail(90, "e", ((1, "ok 700"),)),)) for one in TABLE.columns
    )
    scene.database.table = current = Relation(*TABLE._replace(columns=moods, stamp="other", generation=2))
    assert scene.router.types.lacks(current)
    await scene.watch.check()
    # Positions are the numbers of queries here.
    assert scene.router.types.since(current, {"id"}, 100) == scene.database.reads.index("relation 10") + 1


async def test_an_unchanged_table_costs_one_query_for_all_tables(scene: Scene) -> None:
    await scene.watch.check()
    scene.database.reads.clear()
    for _ in range(3):
        await scene.watch.check()
    assert scene.database.reads == [f"stamps [{TABLE.oid}]"] * 3
    assert scene.ended == {}


async def test_the_stamps_are_not_read_again_before_another_transaction_has_ended(scene: Scene) -> None:
    scene.database.is_busy = False
    for _ in range(3):
        await scene.watch.check()
    assert scene.database.reads == [f"stamps [{TABLE.oid}]"]
    scene.database.table = WIDER
    scene.database.transactions += 1
    await scene.watch.check()
    assert list(scene.ended) == ["all"]


async def test_the_stamps_of_a_table_that_is_newly_used_are_read(scene: Scene) -> None:
    scene.database.is_busy = False
    scene.end(["all", "id"], "test")
    await scene.watch.check()
    scene.add("new")
    await scene.watch.check()
    assert scene.database.reads == ["stamps []", f"stamps [{TABLE.oid}]"]


async def test_nothing_is_remembered_of_another_stream_or_of_a_look_that_failed(scene: Scene) -> None:
    scene.database.is_busy = False
    await scene.watch.check()
    scene.watch.stream_began()
    scene.database.failures = 1
    with pytest.raises(NotNow):
        await scene.watch.check()
    await scene.watch.check()
    assert scene.database.reads == [f"stamps [{TABLE.oid}]"] * 3


async def test_only_the_shapes_that_a_change_alters_are_ended(scene: Scene) -> None:
    scene.known.publish(TABLE)
    scene.database.table = WIDER
    await scene.watch.check()
    assert scene.ended == {"all": "columns of the table were added or dropped"}
    assert scene.renewed == [(["id"], 2)]
    assert dict(scene.tables.relations.items()) == {}


async def test_a_dropped_table_ends_its_shapes(scene: Scene) -> None:
    scene.known.publish(TABLE)
    scene.database.table = None
    await scene.watch.check()
    assert scene.ended == dict.fromkeys(("all", "id"), "the table was dropped")
    assert scene.known.oids() == set()


@pytest.mark.parametrize("membership", [None, "7.1.table.9.2"], ids=["removed", "removed and added"])
async def test_a_table_that_left_the_publication_ends_its_shapes(
    scene: Scene, membership: str | None
) -> None:
    await scene.watch.check()
    scene.database.membership = membership
    await scene.watch.check()
    assert scene.ended == dict.fromkeys(("all", "id"), "the publication of the table changed")


async def test_a_shape_without_a_membership_yet_is_left_to_its_creation(scene: Scene) -> None:
    del scene.memberships["id"]
    scene.database.membership = "7.1.table.9.2"
    await scene.watch.check()
    assert set(scene.ended) == {"all"}
    scene.memberships["id"] = {TABLE.oid: "7.1.table.8.1"}
    await scene.watch.check()
    assert set(scene.ended) == {"all", "id"}, "it was created under a membership that is gone"


async def test_a_shape_that_is_not_registered_yet_is_left_to_its_creation(scene: Scene) -> None:
    """If it were removed before it is registered, it would be registered afterwards and never leave the
    router.
    """
    scene.tables.shapes.put("new", ShapeRow(b"new", (TABLE.oid,), ShapeState.CREATING))
    scene.database.table = None
    await scene.watch.check()
    assert "new" not in scene.ended


async def test_a_shape_that_is_registered_while_the_catalogs_are_read_is_left_alone(scene: Scene) -> None:
    """Its creation may have seen a later state than this reading."""
    scene.database.table = WIDER
    scene.database.may_answer.clear()
    looking = asyncio.create_task(scene.watch.check())
    await asyncio.sleep(0)
    scene.add("new", TABLE)
    scene.database.may_answer.set()
    await looking
    assert set(scene.ended) == {"all"}
    assert scene.router._shapes["new"].known is TABLE
    await scene.watch.check()
    assert set(scene.ended) == {"all", "new"}, "the next reading began after it was registered"


async def test_readings_do_not_overlap(scene: Scene) -> None:
    scene.database.may_answer.clear()
    looks = [asyncio.create_task(scene.watch.check()) for _ in range(2)]
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(scene.database.reads) == 1
    scene.database.may_answer.set()
    await asyncio.gather(*looks)


async def test_a_table_without_shapes_is_looked_up_again_only_when_it_changed(scene: Scene) -> None:
    scene.end(["all", "id"], "test")
    scene.known.publish(TABLE)
    scene.database.membership = None
    await scene.watch.check()
    assert scene.known.oids() == {TABLE.oid}
    scene.database.table = WIDER
    await scene.watch.check()
    assert scene.known.oids() == set()
    assert not [read for read in scene.database.reads if read.startswith("relation")]


async def test_nothing_in_use_is_one_query_for_the_published_tables(scene: Scene) -> None:
    scene.end(["all", "id"], "test")
    await scene.watch.check()
    assert scene.database.reads == ["stamps []"]


async def test_a_published_table_without_shapes_is_given_up_when_it_breaks_writes(scene: Scene) -> None:
    """The watch reads it whole once, and again when it has changed."""
    scene.end(["all", "id"], "test")
    scene.database.published = {TABLE.oid}
    await scene.watch.check()
    await scene.watch.check()
    assert (scene.given_up, scene.database.reads.count(f"relation {TABLE.oid}")) == ([], 1)
    scene.obstacle = Obstacle("it is strange", "leave it", breaks_writes=True)
    await scene.watch.check()
    assert scene.given_up == []
    scene.database.table = WIDER
    await scene.watch.check()
    assert scene.given_up == [WIDER]


async def test_a_table_that_cannot_be_followed_any_more_ends_its_shapes_with_the_reason(scene: Scene) -> None:
    await scene.watch.check()
    scene.obstacle = Obstacle("it is strange", "leave it")
    scene.database.table = WIDER
    await scene.watch.check()
    assert scene.ended == {"all": "it is strange", "id": "it is strange"}


@pytest.mark.parametrize("looks", [0, 1])
async def test_other_rights_are_noticed_without_another_version(scene: Scene, looks: int) -> None:
    """Memberships of roles have no row in the catalogs of the table. Also when they have changed before the
    first look.
    """
    scene.known.publish(TABLE)
    for _ in range(looks):
        await scene.watch.check()
    assert scene.known.oids() == {TABLE.oid}
    scene.obstacle = Obstacle("it may not be read", "grant it")
    scene.database.rights = "ffff"
    await scene.watch.check()
    assert scene.known.oids() == set()
    assert set(scene.ended.values()) == {"it may not be read"}


@pytest.mark.parametrize("is_filled", [True, False])
async def test_an_attached_partition_ends_the_shapes_if_it_may_have_rows(
    scene: Scene, is_filled: bool
) -> None:
    root = Relation(*TABLE._replace(kind="p", oid=20, parts=(Part(21, "5", 101),)))
    scene.add("root", root)
    attached = Part(22, "6", 102, is_created_attached=False)
    scene.database.table = Relation(*root._replace(parts=(*root.parts, attached), stamp="2", generation=2))
    if is_filled:
        scene.database.filled.add(22)
    await scene.watch.check([20])
    assert ("root" in scene.ended) is is_filled
    if not is_filled:
        assert scene.router.leaves_of(20) == {21, 22}
        scene.database.filled.add(22)
        scene.database.table = Relation(*scene.database.table._replace(stamp="3", generation=3))
        await scene.watch.check([20])
        assert "root" not in scene.ended


async def test_a_part_without_full_identity_is_repaired(scene: Scene) -> None:
    part = Part(TABLE.oid, "", 100, replica_identity="d")
    scene.database.table = Relation(*TABLE._replace(parts=(part,), stamp="2", generation=2))
    await scene.watch.check()
    assert scene.lost == [TABLE.oid]
    assert scene.ended == {}


async def test_a_table_with_the_stamp_that_its_shapes_know_is_not_read(scene: Scene) -> None:
    """After a restart all tables are compared, and most have not changed."""
    await scene.watch.check()
    assert scene.database.reads == [f"stamps [{TABLE.oid}]"]


async def test_a_dropped_publication_ends_the_session(scene: Scene) -> None:
    scene.database.membership, scene.database.has_publication = None, False
    await scene.watch.check()
    assert scene.reconnects == ['publication "pub" was dropped']
    assert set(scene.ended) == {"all", "id"}


@pytest.mark.parametrize(
    ("version", "parts", "ends"),
    [
        (140000, (Part(21, "5", 101), Part(22, "6", 102, is_created_attached=False)), True),
        (140000, (), True),
        (140000, (Part(21, "7", 101),), True),
        (140000, (Part(21, "5", 101), Part(22, "6", 102)), False),
        (150000, (Part(21, "5", 101), Part(22, "6", 102, is_created_attached=False)), False),
    ],
    ids=["attached", "detached", "attached again", "created", "newer server"],
)
async def test_before_postgres_15_the_stream_begins_again_when_partitions_move(
    scene: Scene, version: int, parts: tuple[Part, ...], ends: bool
) -> None:
    root = Relation(*TABLE._replace(kind="p", oid=20, parts=(Part(21, "5", 101),), server_version=version))
    scene.add("root", root)
    scene.database.table = Relation(*root._replace(parts=parts, stamp="2", generation=2))
    await scene.watch.check([20])
    assert ("root" in scene.ended) is ends
    assert bool(scene.reconnects) is ends
    scene.add("meanwhile", scene.database.table)
    scene.watch.stream_began()
    assert ("meanwhile" in scene.ended) is ends
    scene.add("afterwards", scene.database.table)
    scene.watch.stream_began()
    assert "afterwards" not in scene.ended


async def test_a_failed_reading_is_repeated(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgshapes.owner.catalog_watch.WATCH_INTERVAL_S", 0.001)
    scene.database.failures = 3
    scene.database.table = None
    running = asyncio.create_task(scene.watch.run())
    while not scene.ended:
        await asyncio.sleep(0)
    running.cancel()
    assert len(scene.database.reads) >= 4
