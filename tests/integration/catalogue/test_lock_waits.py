"""Queries of ours give way to sessions that wait for their table."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import psycopg
import pytest

from pgshapes.errors import GaveWay
from pgshapes.postgres import simple_query
from pgshapes.postgres.connection import Connection, ConnectionPool
from pgshapes.postgres.inspector import Inspector
from pgshapes.postgres.lock_waits import BACKEND_PID, LockingQuery, LockWaits, backend_pid
from pgshapes.postgres.rendering import copy_rows
from pgshapes.postgres.snapshot import SnapshotSource
from pgshapes.postgres.subset import SubsetSelection, SubsetSource

pytestmark = pytest.mark.each_postgres

MakePool = Callable[[int], ConnectionPool]

ENDLESS = "pg_catalog.pg_sleep(600) IS NOT NULL"
"""A clause whose query ends only when it is cancelled."""


@pytest.fixture
async def items(db: Connection) -> str:
    await db.execute("CREATE TABLE items (id int PRIMARY KEY); INSERT INTO items VALUES (1), (2)")
    return "items"


async def locking(waits: LockWaits, connection: Connection) -> LockingQuery:
    """A query of a transaction that has locked the table."""
    begun = await simple_query.run(
        connection, f"{BACKEND_PID}; BEGIN; LOCK TABLE public.items IN ACCESS SHARE MODE"
    )
    return waits.watch(connection, backend_pid(begun))


async def alter(url: str) -> None:
    """DDL of the owner, which fails if it waits for long."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as owner:
        await owner.execute("SET lock_timeout = '60s'")
        await owner.execute("ALTER TABLE items ADD COLUMN added int")


async def test_a_query_is_cancelled_when_somebody_waits_for_its_table(
    items: str, database_url: str, make_pool: MakePool
) -> None:
    pool = make_pool(2)
    waits = LockWaits(pool.connect)
    async with pool.connection() as connection, pool.connection() as other:
        locks, unconcerned = await locking(waits, connection), waits.watch(other, other.info.backend_pid)
        query = asyncio.create_task(simple_query.run(connection, "SELECT pg_sleep(600)"))
        altering = asyncio.create_task(alter(database_url))
        with pytest.raises(psycopg.errors.QueryCanceled):
            await query
        await locks.release()
        await connection.close()
        await altering
        assert locks.has_yielded
        assert not unconcerned.has_yielded
        await unconcerned.release()
    await waits.close()


async def test_nobody_looks_while_queries_are_short(items: str, make_pool: MakePool) -> None:
    """A query is looked at when it is an interval old; these end in the loop turn that they begin in."""
    pool = make_pool(1)
    waits = LockWaits(pool.connect, interval_s=0.0)
    async with pool.connection() as connection:
        for _ in range(100):
            await waits.watch(connection, connection.info.backend_pid).release()
            await asyncio.sleep(0)
        assert waits.searches == 0
        query = waits.watch(connection, connection.info.backend_pid)
        while not waits.searches:
            await asyncio.sleep(0.001)
        await query.release()
    assert waits._searching is not None
    await waits._searching


async def test_a_released_query_is_not_cancelled(items: str, make_pool: MakePool) -> None:
    """Its backend may be somebody else's by then."""
    pool = make_pool(2)
    waits = LockWaits(pool.connect, interval_s=0.001)
    async with pool.connection() as connection:
        query = await locking(waits, connection)
        while not waits.searches:
            await asyncio.sleep(0.001)
        await query.release()
        async with pool.connection() as other:
            altering = asyncio.create_task(
                simple_query.run(other, "ALTER TABLE public.items ADD COLUMN added int")
            )
            for _ in range(20):
                await simple_query.run(connection, "SELECT 1")
            assert not query.has_yielded
            await simple_query.run(connection, "ROLLBACK")
            await altering


@pytest.fixture
async def snapshots(make_pool: MakePool) -> AsyncIterator[SnapshotSource]:
    source = SnapshotSource(make_pool(2), publication="none")
    yield source
    await source.close()


async def test_an_endless_snapshot_gives_way(
    items: str, database_url: str, snapshots: SnapshotSource, inspector: Inspector
) -> None:
    relation = await inspector.relation("public", items)
    async with snapshots.open(relation) as snapshot:
        await snapshot.take()
        altering = asyncio.create_task(alter(database_url))
        with pytest.raises(GaveWay):
            async for _ in snapshot.rows(copy_rows(relation, ("id",), ENDLESS)):
                pass
    await altering
    async with snapshots.open(relation) as snapshot:
        await snapshot.take()
        assert [len(rows) async for rows in snapshot.rows(copy_rows(relation, ("id",), None))] == [2]


async def test_a_snapshot_that_runs_nothing_gives_way_before_its_query(
    items: str, database_url: str, snapshots: SnapshotSource, inspector: Inspector
) -> None:
    relation = await inspector.relation("public", items)
    async with snapshots.open(relation) as snapshot:
        await snapshot.take()
        altering = asyncio.create_task(alter(database_url))
        while snapshot._locking is None or not snapshot._locking.has_yielded:
            await asyncio.sleep(0.001)
        with pytest.raises(GaveWay):
            await anext(snapshot.rows(copy_rows(relation, ("id",), None)))
    await altering


async def test_a_snapshot_that_waits_for_a_partition_holds_no_other(
    db: Connection, database_url: str, snapshots: SnapshotSource, inspector: Inspector
) -> None:
    """It has locked the root then, which somebody else may need."""
    await db.execute(
        "CREATE TABLE items (id int PRIMARY KEY) PARTITION BY LIST (id);"
        "CREATE TABLE leaf PARTITION OF items DEFAULT"
    )
    relation = await inspector.relation("public", "items")
    async with await psycopg.AsyncConnection.connect(database_url) as session:
        await session.execute("LOCK TABLE leaf IN ACCESS EXCLUSIVE MODE")
        async with snapshots.open(relation) as snapshot:
            taking = asyncio.create_task(snapshot.take())
            async with await psycopg.AsyncConnection.connect(database_url) as owner:
                while not await waiting_for(db, "leaf"):
                    await asyncio.sleep(0.001)
                await owner.execute("LOCK TABLE ONLY items IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(GaveWay):
                await taking


async def waiting_for(db: Connection, table: str) -> bool:
    query = "SELECT FROM pg_locks WHERE NOT granted AND relation = %s::regclass"
    return await (await db.execute(query, (table,))).fetchone() is not None


async def test_an_endless_subset_gives_way(
    items: str, database_url: str, make_pool: MakePool, inspector: Inspector
) -> None:
    relation = await inspector.relation("public", items)
    source = SubsetSource(make_pool(1))
    async with source.open(relation) as query:
        await query.take()
        altering = asyncio.create_task(alter(database_url))
        with pytest.raises(GaveWay):
            await query.rows(SubsetSelection(relation, ("id",), shape_where=ENDLESS), 1)
    await altering
    await source.close()
