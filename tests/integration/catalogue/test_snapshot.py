"""Snapshots of real tables: visibility, ends, errors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import asynccontextmanager
from time import monotonic
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from pgshapes.errors import NotNow, PgShapesError, RequestError, SchemaChanged
from pgshapes.postgres import bounded_connection
from pgshapes.postgres.connection import Connection, ConnectionPool, connect
from pgshapes.postgres.inspector import Inspector
from pgshapes.postgres.rendering import copy_rows
from pgshapes.postgres.snapshot import Snapshot, SnapshotSource


@pytest.fixture
def source(make_pool: Callable[[int], ConnectionPool]) -> SnapshotSource:
    return SnapshotSource(make_pool(2), publication="none")


async def read(snapshot: Snapshot, copy_sql: str | None, *, has_where: bool = False) -> list[Any]:
    rows = snapshot.rows(copy_sql, has_where=has_where)
    return [json.loads(text) async for batch in rows for text in batch]


async def read_table(
    source: SnapshotSource, inspector: Inspector, table: str, where: str | None = None, log: str = "full"
) -> list[Any]:
    relation = await inspector.relation("public", table)
    columns = [column.name for column in relation.columns]
    async with source.open(relation) as snapshot:
        await snapshot.take()
        statement = None if log == "changes_only" else copy_rows(relation, columns, where)
        return await read(snapshot, statement, has_where=where is not None)


@asynccontextmanager
async def other_session(url: str) -> Any:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as session:
        yield session


async def active_queries(db: Connection, fragment: str) -> int:
    row = await (
        await db.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE %s"
            " AND pid <> pg_backend_pid() AND datname = current_database()",
            (f"%{fragment}%",),
        )
    ).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.each_postgres
async def test_rows_are_ready_messages(db: Connection, source: SnapshotSource, inspector: Inspector) -> None:
    await db.execute("CREATE TABLE items (id int PRIMARY KEY, value text, done bool)")
    await db.execute(
        "INSERT INTO items VALUES (1, 'a \"b\" \\ /', true), (2, NULL, NULL), (3, E'x\\ny', false)"
    )
    relation = await inspector.relation("public", "items")
    async with source.open(relation) as snapshot:
        await snapshot.take()
        texts = [
            text
            async for batch in snapshot.rows(copy_rows(relation, ["value", "id", "done"], "id < 3"))
            for text in batch
        ]
    assert texts == [
        rb'{"key":"\"public\".\"items\"/\"1\"","value":{"done":"t","id":"1","value":"a \"b\" \\ /"},'
        rb'"headers":{"operation":"insert","relation":["public","items"]}}',
        rb'{"key":"\"public\".\"items\"/\"2\"","value":{"done":null,"id":"2","value":null},'
        rb'"headers":{"operation":"insert","relation":["public","items"]}}',
    ]


async def test_many_rows_come_in_batches(
    db: Connection, source: SnapshotSource, inspector: Inspector
) -> None:
    await db.execute("CREATE TABLE items (id int PRIMARY KEY, value text)")
    await db.execute("INSERT INTO items SELECT n, repeat('x', n % 2000) FROM generate_series(1, 5000) n")
    await db.execute("INSERT INTO items VALUES (5001, repeat('y', 3000000))")
    relation = await inspector.relation("public", "items")
    async with source.open(relation) as snapshot:
        await snapshot.take()
        batches = [batch async for batch in snapshot.rows(copy_rows(relation, ["id", "value"], None))]
    assert len(batches) > 50
    assert all(batches)
    rows = [json.loads(text)["value"] for batch in batches for text in batch]
    rows.sort(key=lambda row: int(row["id"]))
    assert [int(row["id"]) for row in rows] == list(range(1, 5002))
    assert [len(row["value"]) for row in rows] == [n % 2000 for n in range(1, 5001)] + [3000000]


async def test_changes_only_has_no_rows(db: Connection, source: SnapshotSource, inspector: Inspector) -> None:
    await db.execute("CREATE TABLE items (id int PRIMARY KEY); INSERT INTO items VALUES (1)")
    assert await read_table(source, inspector, "items", log="changes_only") == []


@pytest.mark.each_postgres
async def test_children_of_an_ordinary_table_are_not_its_rows_and_partitions_are(
    db: Connection, source: SnapshotSource, inspector: Inspector
) -> None:
    await db.execute(
        "CREATE TABLE parent (id int); CREATE TABLE child () INHERITS (parent);"
        "INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2);"
        "CREATE TABLE root (id int) PARTITION BY LIST (id);"
        "CREATE TABLE leaf PARTITION OF root DEFAULT; INSERT INTO leaf VALUES (3)"
    )
    assert [row["value"]["id"] for row in await read_table(source, inspector, "parent")] == ["1"]
    rows = await read_table(source, inspector, "root")
    assert [row["key"] for row in rows] == ['"public"."root"/"3"']


@pytest.mark.each_postgres
async def test_visibility_is_that_of_the_rows(
    db: Connection, database_url: str, source: SnapshotSource, inspector: Inspector
) -> None:
    await db.execute("CREATE TABLE items (id int)")
    relation = await inspector.relation("public", "items")

    async def insert(session: Connection, number: int) -> int:
        row = await (
            await session.execute(
                "INSERT INTO items VALUES (%s) RETURNING pg_current_xact_id()::text", (number,)
            )
        ).fetchone()
        assert row is not None
        return int(row[0])

    async with other_session(database_url) as running:
        committed = await insert(db, 1)
        await running.execute("BEGIN")
        open_xid = await insert(running, 2)
        finished = await insert(db, 3)
        async with source.open(relation) as snapshot:
            seen = await snapshot.take()
            await running.execute("COMMIT")
            late = await insert(db, 4)
            rows = await read(snapshot, copy_rows(relation, ["id"], None))
            assert [row["value"]["id"] for row in rows] == ["1", "3"]
    assert [seen.sees_xid(xid) for xid in (committed, open_xid, finished, late)] == [True, False, True, False]
    row = await (await db.execute("SELECT (pg_current_wal_insert_lsn() - '0/0')::int8")).fetchone()
    assert row is not None
    assert 0 < seen.insert_lsn < row[0]


REWRITES = {
    "another type": "ALTER TABLE items ALTER value TYPE text USING upper(value)",
    "emptied and filled": "CREATE TABLE kept AS TABLE items; TRUNCATE items; INSERT INTO items TABLE kept",
    "a partition": "ALTER TABLE root ALTER value TYPE text USING upper(value)",
}


@pytest.mark.each_postgres
@pytest.mark.parametrize("name", REWRITES)
async def test_what_the_lock_has_waited_for_is_in_the_snapshot(
    db: Connection, database_url: str, source: SnapshotSource, inspector: Inspector, name: str
) -> None:
    """To an older snapshot the rewritten table would be empty, without a sign of it in the catalogs."""
    await db.execute("CREATE TABLE items (id int, value text); INSERT INTO items VALUES (1, 'a'), (2, 'b')")
    await db.execute("CREATE TABLE root (id int, value text) PARTITION BY LIST (id)")
    await db.execute("CREATE TABLE leaf PARTITION OF root DEFAULT; INSERT INTO root TABLE items")
    table = "root" if name == "a partition" else "items"
    relation = await inspector.relation("public", table)
    async with other_session(database_url) as owner, source.open(relation) as snapshot:
        await owner.execute("BEGIN")
        await owner.execute(REWRITES[name])
        taking = asyncio.create_task(snapshot.take())
        while not await active_queries(db, "LOCK TABLE"):
            await asyncio.sleep(0.01)
        await owner.execute("COMMIT")
        await taking
        rows = await read(snapshot, copy_rows(relation, ["id"], None))
    assert [row["value"]["id"] for row in rows] == ["1", "2"]
    assert snapshot.stamp is not None
    assert snapshot.stamp.stamp != relation.stamp


async def test_a_snapshot_can_be_discarded_and_retaken(
    db: Connection, source: SnapshotSource, inspector: Inspector
) -> None:
    await db.execute("CREATE TABLE items (id int)")
    relation = await inspector.relation("public", "items")
    async with source.open(relation) as snapshot:
        first = await snapshot.take()
        await db.execute("INSERT INTO items VALUES (1)")
        await snapshot.discard()
        second = await snapshot.take()
        assert second.insert_lsn > first.insert_lsn
        assert len(await read(snapshot, copy_rows(relation, ["id"], None))) == 1


async def test_a_connection_is_reused_after_an_abandoned_snapshot(
    db: Connection, make_pool: Callable[[int], ConnectionPool], inspector: Inspector
) -> None:
    await db.execute("CREATE TABLE items (id int); INSERT INTO items SELECT generate_series(1, 100000)")
    source = SnapshotSource(make_pool(1), publication="none")
    relation = await inspector.relation("public", "items")
    async with source.open(relation) as snapshot:
        await snapshot.take()
    async with source.open(relation) as snapshot:
        await snapshot.take()
        async for _ in snapshot.rows(copy_rows(relation, ["id"], None)):
            break
    with pytest.raises(SchemaChanged):
        await read_table(source, inspector, "items", "nope > 1")
    assert len(await read_table(source, inspector, "items")) == 100000


async def test_cancelling_cancels_the_query(
    db: Connection, source: SnapshotSource, inspector: Inspector
) -> None:
    await db.execute("CREATE TABLE items (id int); INSERT INTO items VALUES (1)")
    await inspector.relation("public", "items")
    reading = asyncio.create_task(read_table(source, inspector, "items", "pg_sleep(60 + id) IS NOT NULL"))
    while not await active_queries(db, "pg_sleep(60"):
        await asyncio.sleep(0.01)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    while await active_queries(db, "pg_sleep(60"):
        await asyncio.sleep(0.01)


async def test_the_first_row_times_out(
    db: Connection, make_pool: Callable[[int], ConnectionPool], inspector: Inspector
) -> None:
    await db.execute("CREATE TABLE items (id int); INSERT INTO items VALUES (1)")
    source = SnapshotSource(make_pool(1), publication="none", first_row_timeout_s=0.1)
    with pytest.raises(NotNow) as refused:
        await read_table(source, inspector, "items", "pg_sleep(60 + id) IS NOT NULL")
    assert refused.value.message == (
        "Snapshot query took too long to return data (cancelled after 100ms). Please ensure snapshot queries"
        " are using an index to avoid taking up all database connections."
    )
    assert (refused.value.known, refused.value.retry_after_s) == (True, 10)
    while await active_queries(db, "pg_sleep(60"):
        await asyncio.sleep(0.01)


async def test_a_gap_between_rows_has_no_limit_while_the_server_works(
    source: SnapshotSource,
    inspector: Inspector,
    db: Connection,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second row is found when the server was found at work twice, days after the first one."""
    passed_s = 0.0
    was_at_work: list[bool] = []
    monkeypatch.setattr(bounded_connection, "time", SimpleNamespace(monotonic=lambda: monotonic() + passed_s))
    await db.execute("CREATE TABLE items (id int, v text)")
    await db.execute("INSERT INTO items SELECT i, repeat('x', 20000) FROM generate_series(1, 2) i")
    relation = await inspector.relation("public", "items")
    where = "CASE WHEN id = 2 THEN pg_advisory_xact_lock(17) IS NOT NULL ELSE true END"
    async with other_session(database_url) as holder, source.open(relation) as snapshot:
        await holder.execute("SELECT pg_advisory_lock(17)")
        await snapshot.take()
        check = snapshot._connection.is_working

        async def check_later() -> bool:
            nonlocal passed_s
            was_at_work.append(bool(await check()))
            passed_s += 100_000.0
            if len(was_at_work) == 2:
                await holder.execute("SELECT pg_advisory_unlock(17)")
            return was_at_work[-1]

        monkeypatch.setattr(snapshot._connection, "is_working", check_later)
        snapshot._connection.silence_limit_s = 0.2
        rows = snapshot.rows(copy_rows(relation, ["id", "v"], where), has_where=True)
        assert sum([len(batch) async for batch in rows]) == 2
    assert was_at_work[:2] == [True, True]


async def test_waiting_for_a_connection_times_out(
    db: Connection, make_pool: Callable[[int], ConnectionPool], inspector: Inspector
) -> None:
    await db.execute("CREATE TABLE items (id int)")
    source = SnapshotSource(make_pool(1), publication="none", queue_timeout_s=0.05)
    relation = await inspector.relation("public", "items")
    async with source.open(relation):
        with pytest.raises(
            NotNow, match="Snapshot creation failed because of a connection pool queue timeout"
        ):
            await read_table(source, inspector, "items")


async def failure_of(source: SnapshotSource, inspector: Inspector, where: str | None = None) -> PgShapesError:
    with pytest.raises(PgShapesError) as refused:
        await read_table(source, inspector, "items", where)
    return refused.value


@pytest.mark.each_postgres
async def test_a_renamed_table(db: Connection, source: SnapshotSource, inspector: Inspector) -> None:
    await db.execute("CREATE TABLE items (id int, value text)")
    await inspector.relation("public", "items")
    await db.execute("ALTER TABLE items DROP COLUMN value")
    assert isinstance(await failure_of(source, inspector), SchemaChanged)
    await db.execute("DROP TABLE items")
    assert isinstance(await failure_of(source, inspector), SchemaChanged)


async def test_an_error_of_the_query(db: Connection, source: SnapshotSource, inspector: Inspector) -> None:
    await db.execute("CREATE TABLE items (id int)")
    await db.execute("INSERT INTO items SELECT generate_series(1, 100000) UNION ALL SELECT 0")
    failure = await failure_of(source, inspector, "1 / id >= 0")
    assert isinstance(failure, RequestError)
    assert failure.errors == {"where": ["fails for a row of the table: division by zero (SQLSTATE 22012)"]}


async def test_without_the_right_to_read(db: Connection, database_url: str, inspector: Inspector) -> None:
    await db.execute("CREATE TABLE items (id int)")
    name = f"reader_{db.info.dbname}"
    await db.execute(f"CREATE ROLE {name} LOGIN".encode())

    async def connect_as_reader() -> Connection:
        connection = await connect(database_url)
        await connection.execute(f"SET ROLE {name}".encode())
        return connection

    pool = ConnectionPool(connect_as_reader, 1)
    try:
        failure = await failure_of(SnapshotSource(pool, publication="none"), inspector)
        assert isinstance(failure, RequestError)
        assert "insufficient privilege" in failure.errors["table"][0]
        await db.execute(
            f"GRANT SELECT ON items TO {name}; ALTER TABLE items ENABLE ROW LEVEL SECURITY".encode()
        )
        failure = await failure_of(SnapshotSource(pool, publication="none"), inspector)
        assert isinstance(failure, RequestError)
        assert "row-level security" in failure.details["said"]
    finally:
        await pool.close()
        await db.execute(f"DROP OWNED BY {name}; DROP ROLE {name}".encode())


async def test_no_database(db: Connection, inspector: Inspector) -> None:
    await db.execute("CREATE TABLE items (id int)")
    pool = ConnectionPool(lambda: connect("postgresql://nobody@127.0.0.1:1/none"), 1)
    failure = await failure_of(SnapshotSource(pool, publication="none"), inspector)
    assert isinstance(failure, NotNow)
    assert failure.message == "Database connection not available"


async def test_a_connection_that_is_lost_in_the_middle(
    db: Connection, source: SnapshotSource, inspector: Inspector
) -> None:
    await db.execute("CREATE TABLE items (id int); INSERT INTO items SELECT generate_series(1, 300000)")
    relation = await inspector.relation("public", "items")
    async with source.open(relation) as snapshot:
        await snapshot.take()
        with pytest.raises(NotNow, match="Database connection not available"):
            async for _ in snapshot.rows(copy_rows(relation, ["id"], None)):
                await db.execute(
                    "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE query LIKE '%COPY%'"
                    " AND datname = current_database() AND pid <> pg_backend_pid()"
                )
    assert len(await read_table(source, inspector, "items", "id < 3")) == 2
