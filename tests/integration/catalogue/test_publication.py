"""Adding tables to the publication: locking, waiting, and refusals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from tests.integration.catalogue.published import MEMBERSHIP, identity, memberships, one

from pgshapes.errors import NotNow, SchemaChanged
from pgshapes.model.relation import Relation
from pgshapes.postgres.connection import Connection, ConnectionPool
from pgshapes.postgres.inspector import Inspector
from pgshapes.postgres.publication import Blocker, Publication

pytestmark = pytest.mark.each_postgres

MakePool = Callable[[int], ConnectionPool]


@pytest.fixture
async def publication(make_pool: MakePool) -> AsyncIterator[Publication]:
    made = Publication("the publication", make_pool(4))
    await made.prepare()
    yield made
    await made.close()


@pytest.fixture
async def items(db: Connection, inspector: Inspector) -> Relation:
    await db.execute("CREATE TABLE items (id int PRIMARY KEY, value text)")
    return await inspector.relation("public", "items")


async def is_published(db: Connection, table: str) -> bool:
    return bool(await one(db, f"SELECT count(*) FROM pg_publication_rel WHERE prrelid = '{table}'::regclass"))


@asynccontextmanager
async def writer(url: str, statement: str) -> AsyncIterator[Connection]:
    """A session with an open transaction that has written."""
    async with await Connection.connect(url, autocommit=True) as session:
        await session.execute("BEGIN")
        await session.execute(statement.encode())
        yield session


class Ear:
    """Records blockers; a test can wait for them."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[list[Blocker]] = asyncio.Queue()

    def __call__(self, blockers: list[Blocker]) -> None:
        self.heard.put_nowait(blockers)


async def test_a_table_is_published_with_its_whole_old_rows(
    db: Connection, publication: Publication, items: Relation
) -> None:
    membership = await publication.ensure_table(items)
    assert await identity(db, "items") == "f"
    assert membership.relation_oid == items.oid
    assert membership.version == await one(db, MEMBERSHIP)
    assert await publication.ensure_table(items) == membership
    assert publication.attempts == 1


async def test_concurrent_requests_for_a_table_share_one_transaction(
    publication: Publication, items: Relation
) -> None:
    members = await asyncio.gather(*(publication.ensure_table(items) for _ in range(200)))
    assert len(set(members)) == 1
    assert publication.attempts == 1
    assert publication.state_reads <= 4


async def test_many_tables_at_once(db: Connection, publication: Publication, inspector: Inspector) -> None:
    for number in range(20):
        await db.execute(f"CREATE TABLE t{number} (id int)".encode())
    tables = await asyncio.gather(*(inspector.relation("public", f"t{number}") for number in range(20)))
    members = await asyncio.gather(*(publication.ensure_table(table) for table in tables))
    oids = [table.oid for table in tables]
    assert await memberships(inspector, publication, oids) == dict(members)
    assert await one(db, "SELECT count(*) FROM pg_publication_rel") == 20


async def test_children_of_an_ordinary_table_are_not_published_with_it(
    db: Connection, publication: Publication, items: Relation
) -> None:
    await db.execute("CREATE TABLE child () INHERITS (items)")
    await publication.ensure_table(items)
    assert not await is_published(db, "child")
    assert await identity(db, "child") == "d"


async def test_every_leaf_gets_the_identity_also_one_that_comes_later(
    db: Connection, publication: Publication, inspector: Inspector
) -> None:
    await db.execute(
        "CREATE TABLE root (a int, b int) PARTITION BY LIST (a);"
        "CREATE TABLE middle PARTITION OF root FOR VALUES IN (1) PARTITION BY LIST (b);"
        "CREATE TABLE leaf PARTITION OF middle DEFAULT;"
        "CREATE TABLE late (a int, b int)"
    )
    root = await inspector.relation("public", "root")
    membership = await publication.ensure_table(root)
    assert [await identity(db, table) for table in ("root", "leaf", "late")] == ["f", "f", "d"]
    await db.execute("ALTER TABLE root ATTACH PARTITION late FOR VALUES IN (2)")
    assert await publication.ensure_table(root) == membership
    assert await identity(db, "late") == "f"


async def test_a_table_that_is_ready_takes_no_lock(
    db: Connection, database_url: str, publication: Publication, items: Relation
) -> None:
    await publication.ensure_table(items)
    async with writer(database_url, "LOCK TABLE items IN ACCESS EXCLUSIVE MODE"):
        await publication.ensure_table(items)


@pytest.mark.parametrize("is_full", [False, True], ids=["identity default", "identity full"])
async def test_an_open_writer_is_waited_for_and_named(
    db: Connection, database_url: str, publication: Publication, items: Relation, is_full: bool
) -> None:
    if is_full:
        await db.execute("ALTER TABLE items REPLICA IDENTITY FULL")
    async with writer(database_url, "INSERT INTO items VALUES (1)") as session:
        ear = Ear()
        waiting = asyncio.create_task(publication.ensure_table(items, on_waiting=ear))
        for _ in range(2):
            (blocker,) = await ear.heard.get()
            assert blocker.pid == session.info.backend_pid
            assert blocker.age_s is not None and blocker.age_s > 0
            assert not blocker.is_autovacuum
        assert not await is_published(db, "items")
        assert publication.waiting_tables == 1
        await session.execute("COMMIT")
        await waiting
    assert await is_published(db, "items")
    assert publication.waiting_tables == 0


PUBLISHED_BY_OTHERS = {
    "added": 'ALTER PUBLICATION "the publication" ADD TABLE items',
    "added with its schema": 'ALTER PUBLICATION "the publication" ADD TABLES IN SCHEMA public',
    "operations altered": 'ALTER PUBLICATION "the publication" SET (publish_via_partition_root = true)',
}


@pytest.mark.parametrize("by", PUBLISHED_BY_OTHERS)
async def test_writers_are_waited_for_whoever_has_published_the_table(
    db: Connection, database_url: str, publication: Publication, items: Relation, by: str
) -> None:
    """What they wrote before is not in the stream, and a snapshot would not see it either."""
    if by == "added with its schema" and db.info.server_version < 150000:
        pytest.skip("Postgres 14 publishes no schemas")
    if by == "operations altered":
        await publication.ensure_table(items)
    await db.execute("ALTER TABLE items REPLICA IDENTITY FULL")
    async with (
        writer(database_url, "INSERT INTO items VALUES (1)") as before,
        writer(database_url, "SELECT FROM items FOR UPDATE"),
    ):
        await db.execute(PUBLISHED_BY_OTHERS[by].encode())
        ear = Ear()
        waiting = [asyncio.create_task(publication.ensure_table(items, on_waiting=ear)) for _ in range(2)]
        for _ in range(2):
            (blocker,) = await ear.heard.get()
            assert blocker.pid == before.info.backend_pid
        async with writer(database_url, "INSERT INTO items VALUES (2)"):
            await ear.heard.get()
            assert not any(each.done() for each in waiting)
            await before.execute("COMMIT")
            found = set(await asyncio.gather(*waiting))  # later writers are in the stream
            assert len(found) == 1
            assert await publication.ensure_table(items) in found


async def test_writers_are_not_waited_for_again(
    db: Connection, database_url: str, publication: Publication, items: Relation, make_pool: MakePool
) -> None:
    """Nor in a new process that knows of a shape of the same membership."""
    membership = await publication.ensure_table(items)
    after_a_restart = Publication("the publication", make_pool(4))
    after_a_restart.note_settled(membership)
    async with writer(database_url, "INSERT INTO items VALUES (1)"):
        assert await publication.ensure_table(items) == membership
        assert await after_a_restart.ensure_table(items) == membership
    await after_a_restart.close()


async def test_writers_are_waited_for_again_when_it_is_asked_for(
    database_url: str, publication: Publication, items: Relation
) -> None:
    """As when the types of the table were not known until now."""
    membership = await publication.ensure_table(items)
    async with writer(database_url, "INSERT INTO items VALUES (1)") as session:
        publication.unsettle(items.oid)
        ear = Ear()
        waiting = asyncio.create_task(publication.ensure_table(items, on_waiting=ear))
        await ear.heard.get()
        await session.execute("COMMIT")
        assert await waiting == membership


@pytest.mark.parametrize("is_published_by_others", [False, True])
async def test_a_prepared_transaction_is_waited_for_and_named(
    db: Connection, publication: Publication, items: Relation, is_published_by_others: bool
) -> None:
    await db.execute("ALTER TABLE items REPLICA IDENTITY FULL")
    name = f"prepared in {db.info.dbname}"
    await db.execute(f"BEGIN; INSERT INTO items VALUES (1); PREPARE TRANSACTION '{name}'".encode())
    if is_published_by_others:
        await db.execute(PUBLISHED_BY_OTHERS["added"].encode())
    ear = Ear()
    waiting = asyncio.create_task(publication.ensure_table(items, on_waiting=ear))
    (blocker,) = await ear.heard.get()
    assert blocker.pid is None
    assert blocker.age_s is not None and blocker.age_s > 0
    await db.execute(f"COMMIT PREPARED '{name}'".encode())
    await waiting


async def test_a_writer_straight_into_a_leaf_is_waited_for(
    db: Connection, database_url: str, publication: Publication, inspector: Inspector
) -> None:
    await db.execute(
        "CREATE TABLE root (a int, b int) PARTITION BY LIST (a);"
        "CREATE TABLE middle PARTITION OF root DEFAULT PARTITION BY LIST (b);"
        "CREATE TABLE leaf PARTITION OF middle DEFAULT;"
        "ALTER TABLE root REPLICA IDENTITY FULL; ALTER TABLE leaf REPLICA IDENTITY FULL"
    )
    root = await inspector.relation("public", "root")
    async with writer(database_url, "INSERT INTO leaf VALUES (1, 1)") as session:
        ear = Ear()
        waiting = asyncio.create_task(publication.ensure_table(root, on_waiting=ear))
        (blocker,) = await ear.heard.get()
        assert blocker.pid == session.info.backend_pid
        assert not await is_published(db, "root")
        await session.execute("COMMIT")
        await waiting


async def test_a_locked_table_delays_no_other(
    db: Connection, database_url: str, make_pool: MakePool, inspector: Inspector
) -> None:
    names = [f"locked{number}" for number in range(6)]
    for name in [*names, "free"]:
        await db.execute(f"CREATE TABLE {name} (id int)".encode())
    publication = Publication("p", make_pool(2))
    await publication.prepare()
    locked = ", ".join(names)
    async with writer(database_url, f"LOCK TABLE {locked} IN ROW EXCLUSIVE MODE") as session:
        relations = [await inspector.relation("public", name) for name in names]
        ears = [Ear() for _ in names]
        waiting = [
            asyncio.create_task(publication.ensure_table(relation, on_waiting=ear))
            for relation, ear in zip(relations, ears, strict=True)
        ]
        for ear in ears:
            await ear.heard.get()
        await publication.ensure_table(await inspector.relation("public", "free"))
        assert not any(task.done() for task in waiting)
        await session.execute("COMMIT")
        await asyncio.gather(*waiting)


async def test_writers_go_on_while_an_old_one_is_waited_for(
    db: Connection, database_url: str, publication: Publication, items: Relation
) -> None:
    async with writer(database_url, "INSERT INTO items VALUES (0)") as session:
        ear = Ear()
        waiting = asyncio.create_task(publication.ensure_table(items, on_waiting=ear))
        await ear.heard.get()
        for number in range(1, 4):
            await db.execute("INSERT INTO items VALUES (%s)", (number,))
            await ear.heard.get()
        await session.execute("COMMIT")
        await waiting


async def test_waiting_for_writers_times_out(
    db: Connection, database_url: str, publication: Publication, items: Relation
) -> None:
    async with writer(database_url, "INSERT INTO items VALUES (1)"):
        with pytest.raises(NotNow) as refused:
            await publication.ensure_table(items, timeout_s=0.05)
        assert refused.value.message == "Snapshot timed out while waiting for a table lock"
        assert (refused.value.known, refused.value.retry_after_s) == (True, 10)
    assert publication.waiting_tables == 0


async def test_cancelling_one_request_does_not_cancel_the_others(
    db: Connection, database_url: str, publication: Publication, items: Relation
) -> None:
    async with writer(database_url, "INSERT INTO items VALUES (1)") as session:
        ear = Ear()
        leaver, stayer = (
            asyncio.create_task(publication.ensure_table(items, on_waiting=ear)) for _ in range(2)
        )
        await ear.heard.get()
        leaver.cancel()
        await session.execute("ROLLBACK")
        await stayer
    assert leaver.cancelled()


async def test_a_table_dropped_and_added_again_has_another_row(
    db: Connection, publication: Publication, items: Relation, inspector: Inspector
) -> None:
    before = await publication.ensure_table(items)
    await db.execute('ALTER PUBLICATION "the publication" DROP TABLE items')
    assert await memberships(inspector, publication, [items.oid]) == {}
    await db.execute('ALTER PUBLICATION "the publication" ADD TABLE items')
    after = await publication.ensure_table(items)
    assert after.version != before.version
    assert await memberships(inspector, publication, [items.oid, 1]) == dict([after])


async def test_an_unwanted_table_is_dropped(
    db: Connection, publication: Publication, items: Relation
) -> None:
    await publication.ensure_table(items)
    assert await publication.drop_table(items, is_wanted=lambda: True)
    assert await is_published(db, "items")
    assert await publication.drop_table(items)
    assert not await is_published(db, "items")
    assert await publication.drop_table(items)
    await publication.ensure_table(items)
    assert await is_published(db, "items")


async def test_a_dropped_or_renamed_table_is_refused(
    db: Connection, publication: Publication, items: Relation
) -> None:
    await db.execute("ALTER TABLE items RENAME TO things")
    with pytest.raises(SchemaChanged, match='items" has been dropped or renamed'):
        await publication.ensure_table(items)
    await db.execute("DROP TABLE things")
    with pytest.raises(SchemaChanged):
        await publication.ensure_table(items)


async def test_a_request_during_a_drop_waits_and_adds_the_table_again(
    db: Connection, database_url: str, publication: Publication, items: Relation, inspector: Inspector
) -> None:
    before = await publication.ensure_table(items)
    async with writer(database_url, "LOCK TABLE items IN SHARE UPDATE EXCLUSIVE MODE") as session:
        leaving = asyncio.create_task(publication.drop_table(items))
        while not await one(db, "SELECT count(*) FROM pg_locks WHERE NOT granted"):
            await asyncio.sleep(0.001)
        coming = asyncio.create_task(publication.ensure_table(items))
        for _ in range(20):
            await one(db, "SELECT 1")
        await session.execute("COMMIT")
    has_left, after = await leaving, await coming
    assert (after == before) is not has_left
    assert await memberships(inspector, publication, [items.oid]) == dict([after])


async def test_no_lock_is_held_while_another_is_waited_for(
    db: Connection, database_url: str, publication: Publication, inspector: Inspector
) -> None:
    """While one leaf is locked by somebody, the other leaves and the root can be altered."""
    await db.execute(
        "CREATE TABLE root (a int PRIMARY KEY) PARTITION BY LIST (a);"
        "CREATE TABLE one PARTITION OF root FOR VALUES IN (1);"
        "CREATE TABLE two PARTITION OF root FOR VALUES IN (2)"
    )
    root = await inspector.relation("public", "root")
    async with writer(database_url, "SELECT FROM two") as session:
        ear = Ear()
        waiting = asyncio.create_task(publication.ensure_table(root, on_waiting=ear))
        (blocker,) = await ear.heard.get()
        assert (blocker.pid, blocker.table) == (session.info.backend_pid, "public.two")
        assert [await identity(db, table) for table in ("root", "one", "two")] == ["f", "f", "d"]
        waits = "SELECT pid FROM pg_locks WHERE NOT granted AND relation = 'two'::regclass"
        while not (pid := await one(db, waits)):
            await asyncio.sleep(0.001)
        held = f"SELECT count(*) FROM pg_locks WHERE granted AND pid = {pid} AND locktype = 'relation'"
        assert await one(db, held + " AND relation IN ('root'::regclass, 'one'::regclass)") == 0
        await session.execute("COMMIT")
        await waiting
