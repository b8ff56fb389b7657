"""Subset queries on real tables: visibility, refusals, and the state of the connection afterwards."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from tests.support.postgres.installations import postgres_of

from pgshapes.errors import NotNow, PgShapesError, RequestError, SchemaChanged, SourceError
from pgshapes.model.relation import Relation
from pgshapes.postgres import subset
from pgshapes.postgres.connection import Connection, ConnectionPool, connect
from pgshapes.postgres.inspector import Inspector
from pgshapes.postgres.subset import SubsetSelection, SubsetSource, SubsetVisibility
from pgshapes.where.language.sort_order import SortTerm

MakePool = Callable[[int], ConnectionPool]


@pytest.fixture
def source(make_pool: MakePool) -> SubsetSource:
    return SubsetSource(make_pool(2))


async def read(source: SubsetSource, relation: Relation, **wanted: Any) -> list[Any]:
    columns = wanted.pop("columns", tuple(relation.column_index))
    async with source.open(relation) as query:
        await query.take()
        pieces = await query.rows(SubsetSelection(relation, columns, **wanted), 7)
        rows: list[Any] = json.loads(b"[%b]" % b"".join(pieces))
        return rows


async def ids(source: SubsetSource, relation: Relation, **wanted: Any) -> list[int]:
    return [int(row["value"]["id"]) for row in await read(source, relation, **wanted)]


async def failure(source: SubsetSource, relation: Relation, **wanted: Any) -> PgShapesError:
    with pytest.raises(PgShapesError) as refused:
        await read(source, relation, **wanted)
    return refused.value


async def one(db: Connection, query: str) -> Any:
    row = await (await db.execute(query.encode())).fetchone()
    assert row is not None
    return row[0]


async def waiting_for_a_lock(db: Connection) -> int:
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = %s"
    row = await (await db.execute(query.encode(), (db.info.dbname,))).fetchone()
    assert row is not None
    return int(row[0])


async def test_clauses_order_and_page(db: Connection, source: SubsetSource, inspector: Inspector) -> None:
    await db.execute("CREATE TABLE items (id int PRIMARY KEY, tenant int)")
    await db.execute("INSERT INTO items SELECT n, nullif(n % 3, 0) FROM generate_series(1, 9) n")
    items = await inspector.relation("public", "items")
    tenant, by_id = SortTerm("tenant", True, True), SortTerm("id", False, None)
    assert await ids(source, items, order=(tenant, by_id)) == [3, 6, 9, 2, 5, 8, 1, 4, 7]
    assert await ids(source, items, order=(by_id,), limit=3, offset=2) == [3, 4, 5]
    either = "id < 3 OR id > 7"
    assert await ids(source, items, shape_where=either, subset_where=either, order=(by_id,)) == [1, 2, 8, 9]
    found = await ids(source, items, shape_where=either, subset_where="id = 1 OR id = 5", order=(by_id,))
    assert found == [1]


@pytest.mark.each_postgres
async def test_what_the_lock_has_waited_for_is_a_change_of_the_table(
    db: Connection, database_url: str, source: SubsetSource, inspector: Inspector
) -> None:
    """To an older snapshot the rewritten table would be empty, and unchanged."""
    await db.execute("CREATE TABLE items (id int PRIMARY KEY, v int); INSERT INTO items VALUES (1, 1)")
    items = await inspector.relation("public", "items")
    async with await psycopg.AsyncConnection.connect(database_url) as owner:
        await owner.execute("ALTER TABLE items ALTER v TYPE int USING v + 1")
        reading = asyncio.create_task(failure(source, items))
        while not await waiting_for_a_lock(db):
            await asyncio.sleep(0.01)
    assert isinstance(await reading, SchemaChanged)


async def test_the_order_is_the_columns_not_that_of_the_texts(
    db: Connection, source: SubsetSource, inspector: Inspector
) -> None:
    """The result column is named `concat`, too, and ORDER BY would prefer it."""
    await db.execute("CREATE TABLE items (id int PRIMARY KEY, concat int)")
    await db.execute("INSERT INTO items VALUES (1, 30), (2, 10), (3, 20)")
    items = await inspector.relation("public", "items")
    assert await ids(source, items, order=(SortTerm("concat", False, None),)) == [2, 3, 1]


async def test_names_that_need_quotes(db: Connection, source: SubsetSource, inspector: Inspector) -> None:
    await db.execute('CREATE SCHEMA "a.b"; CREATE TABLE "a.b"."it""ems" (id int PRIMARY KEY, "or""der" int)')
    await db.execute('INSERT INTO "a.b"."it""ems" VALUES (1, 2), (2, 1)')
    items = await inspector.relation("a.b", 'it"ems')
    assert await ids(source, items, order=(SortTerm('or"der', False, None),)) == [2, 1]


async def test_partitions_are_rows_of_the_root(
    db: Connection, source: SubsetSource, inspector: Inspector
) -> None:
    await db.execute(
        "CREATE TABLE root (id int PRIMARY KEY) PARTITION BY LIST (id);"
        "CREATE TABLE leaf PARTITION OF root DEFAULT; INSERT INTO leaf VALUES (3)"
    )
    (row,) = await read(source, await inspector.relation("public", "root"))
    assert row == {
        "key": '"public"."root"/"3"',
        "value": {"id": "3"},
        "headers": {"operation": "insert", "relation": ["public", "root"], "snapshot_mark": 7},
    }


async def test_later_commits_are_neither_read_nor_in_the_visibility(
    db: Connection, database_url: str, source: SubsetSource, inspector: Inspector
) -> None:
    await db.execute("CREATE TABLE items (id int PRIMARY KEY); INSERT INTO items VALUES (1)")
    items = await inspector.relation("public", "items")
    async with await Connection.connect(database_url) as running:
        await running.execute("INSERT INTO items VALUES (2)")
        open_xid = int(await one(running, "SELECT pg_current_xact_id()::text"))
        await db.execute("INSERT INTO items VALUES (3)")
        async with source.open(items) as query:
            taken = await query.take()
            await running.execute("COMMIT")
            late_xid = await insert(db, 4)
            rows = json.loads(b"[%b]" % b"".join(await query.rows(SubsetSelection(items, ("id",)), 7)))
    assert sorted(row["value"]["id"] for row in rows) == ["1", "3"]
    for seen in (taken.visibility, taken.with_later_xmax()):
        assert [seen.sees_xid(xid) for xid in (open_xid, late_xid)] == [False, False]
    assert taken.visibility.insert_lsn <= await one(db, "SELECT (pg_current_wal_insert_lsn() - '0/0')::int8")


async def insert(db: Connection, number: int) -> int:
    return int(await one(db, f"INSERT INTO items VALUES ({number}) RETURNING pg_current_xact_id()::text"))


async def test_xmax_is_raised_past_all_begun_transactions(
    db: Connection, database_url: str, source: SubsetSource, inspector: Inspector
) -> None:
    """A running transaction above xmax may precede a visible one in the WAL."""
    await db.execute("CREATE TABLE items (id int PRIMARY KEY)")
    items = await inspector.relation("public", "items")
    running = [await Connection.connect(database_url) for _ in range(5)]
    begun = [int(await one(each, "SELECT pg_current_xact_id()::text")) for each in running]
    async with source.open(items) as query:
        taken: SubsetVisibility = await query.take()
    for each in running:
        await each.close()
    extended = taken.with_later_xmax()
    assert taken.visibility.xmax <= begun[0]
    assert extended.xmax == begun[-1] + 1
    assert set(begun) <= set(extended.xip)
    assert not any(extended.sees_xid(xid) for xid in begun)


async def test_a_value_that_is_none_of_the_enums(
    db: Connection, source: SubsetSource, inspector: Inspector
) -> None:
    await db.execute("CREATE TYPE mood AS ENUM ('happy'); CREATE TABLE items (id int PRIMARY KEY, m mood)")
    async with source.open(await inspector.relation("public", "items")) as query:
        await query.take()
        with pytest.raises(RequestError) as refused:
            await query.describe("SELECT (m = 'sad') FROM public.items")
    assert refused.value.errors == {"where": 'invalid input value for enum public.mood: "sad"'}


async def test_errors_of_the_query(db: Connection, source: SubsetSource, inspector: Inspector) -> None:
    await db.execute("CREATE TABLE items (id int PRIMARY KEY, j json); INSERT INTO items VALUES (0, '1')")
    items = await inspector.relation("public", "items")
    error = await failure(source, items, subset_where="1 / id = 1")
    assert isinstance(error, RequestError)
    assert error.errors == {"where": "fails for a row of the table: division by zero (SQLSTATE 22012)"}
    error = await failure(source, items, order=(SortTerm("j", False, None),))
    assert isinstance(error, RequestError)
    assert error.errors == {"order_by": ["cannot be sorted by this: undefined function (SQLSTATE 42883)"]}
    error = await failure(source, items, shape_where="1 / id = 1")
    assert isinstance(error, RequestError)
    assert error.errors == {"where": ["fails for a row of the table: division by zero (SQLSTATE 22012)"]}


@pytest.mark.parametrize(
    "change",
    [
        "DROP TABLE items",
        "DROP TABLE items; CREATE TABLE items (id int PRIMARY KEY, value text)",
        "ALTER TABLE items ALTER value TYPE varchar",
        "ALTER TABLE items DROP value",
        "ALTER TABLE items RENAME value TO other",
        "ALTER TABLE items RENAME TO others",
    ],
)
async def test_a_changed_table_is_refused(
    db: Connection, source: SubsetSource, inspector: Inspector, change: str
) -> None:
    await db.execute("CREATE TABLE items (id int PRIMARY KEY, value text)")
    items = await inspector.relation("public", "items")
    await db.execute(change.encode())
    assert isinstance(await failure(source, items), SchemaChanged)


async def test_domains_enums_and_arrays_are_unchanged(
    db: Connection, source: SubsetSource, inspector: Inspector
) -> None:
    await db.execute(
        "CREATE TYPE mood AS ENUM ('happy'); CREATE DOMAIN age AS int; CREATE DOMAIN older AS age;"
        "CREATE TABLE items (id int PRIMARY KEY, m mood, ms mood[], a age, o older, os older[], v varchar(3))"
    )
    assert await read(source, await inspector.relation("public", "items")) == []


async def test_ddl_waits_until_the_rows_are_read(
    db: Connection, database_url: str, source: SubsetSource, inspector: Inspector
) -> None:
    await db.execute("CREATE TABLE items (id int PRIMARY KEY); INSERT INTO items VALUES (1)")
    items = await inspector.relation("public", "items")
    async with source.open(items) as query:
        await query.take()
        truncating = asyncio.create_task(db.execute("TRUNCATE items"))
        async with await Connection.connect(database_url, autocommit=True) as other:
            while not await waiting_for_a_lock(other):
                await asyncio.sleep(0.01)
        (row,) = await query.rows(SubsetSelection(items, ("id",)), 7)
        assert json.loads(row)["value"] == {"id": "1"}
    await truncating
    inspector.clean(items.oid)
    assert await ids(source, await inspector.relation("public", "items")) == []


async def test_the_statement_times_out(
    db: Connection,
    database_url: str,
    source: SubsetSource,
    inspector: Inspector,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await db.execute("CREATE TABLE items (id int PRIMARY KEY)")
    items = await inspector.relation("public", "items")
    async with await Connection.connect(database_url) as other:
        await other.execute("LOCK TABLE items IN ACCESS EXCLUSIVE MODE")
        with monkeypatch.context() as shortened:
            shortened.setattr(subset, "STATEMENT_TIMEOUT_MS", 50)
            error = await failure(source, items)
        assert isinstance(error, NotNow)
        assert error.message == "The subset snapshot took too long; ask for less"
    assert await ids(source, items) == []


async def test_rows_that_are_too_many(db: Connection, make_pool: MakePool, inspector: Inspector) -> None:
    await db.execute("CREATE TABLE items (id int PRIMARY KEY)")
    await db.execute("INSERT INTO items SELECT generate_series(1, 50000)")
    items = await inspector.relation("public", "items")
    source = SubsetSource(make_pool(1), max_bytes=100_000)
    error = await failure(source, items)
    assert isinstance(error, RequestError)
    assert error.errors == {"limit": ["the rows are more than 100000 bytes: ask for fewer"]}
    assert len(await ids(source, items, subset_where="id < 100")) == 99


async def test_the_queue_is_bounded(db: Connection, make_pool: MakePool, inspector: Inspector) -> None:
    await db.execute("CREATE TABLE items (id int PRIMARY KEY)")
    items = await inspector.relation("public", "items")
    pool = make_pool(1)
    source = SubsetSource(pool, queue_limit=2)
    async with source.open(items):
        waiting = [asyncio.create_task(ids(source, items)) for _ in range(2)]
        while pool.waiting < 2:
            await asyncio.sleep(0)
        error = await failure(source, items)
    assert isinstance(error, NotNow)
    assert (error.message, error.known) == (
        "Too many subset snapshots are waiting for a database connection",
        True,
    )
    assert await asyncio.gather(*waiting) == [[], []]
    impatient = SubsetSource(pool, queue_timeout_s=0.01)
    async with source.open(items):
        assert isinstance(await failure(impatient, items), NotNow)


async def test_cancelling_cancels_the_query(
    db: Connection, database_url: str, source: SubsetSource, inspector: Inspector
) -> None:
    await db.execute("CREATE TABLE items (id int PRIMARY KEY)")
    items = await inspector.relation("public", "items")
    async with await Connection.connect(database_url) as other:
        await other.execute("LOCK TABLE items IN ACCESS EXCLUSIVE MODE")
        reading = asyncio.create_task(ids(source, items))
        while not await waiting_for_a_lock(db):
            await asyncio.sleep(0.01)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        while await waiting_for_a_lock(db):
            await asyncio.sleep(0.01)


async def test_session_settings_are_neither_used_nor_changed(
    db: Connection, database_url: str, inspector: Inspector
) -> None:
    await db.execute("CREATE TABLE items (id int PRIMARY KEY, at timestamptz, f float8)")
    await db.execute("INSERT INTO items VALUES (1, '2024-01-31 12:00+00', 0.1::float4)")
    items = await inspector.relation("public", "items")
    opened: list[Connection] = []

    async def connect_oddly() -> Connection:
        connection = await connect(database_url, read_values=False)
        await connection.execute("SET DateStyle = 'German'; SET TimeZone = 'Asia/Tokyo'")
        await connection.execute("SET extra_float_digits = -10; SET statement_timeout = '7s'")
        opened.append(connection)
        return connection

    pool = ConnectionPool(connect_oddly, 1)
    (row,) = await read(SubsetSource(pool), items)
    assert row["value"] == {"id": "1", "at": "2024-01-31 12:00:00+00", "f": "0.10000000149011612"}
    (session,) = opened
    assert await one(session, "SHOW TimeZone") == "Asia/Tokyo"
    assert await one(session, "SHOW statement_timeout") == "7s"
    assert session.pgconn.transaction_status == psycopg.pq.TransactionStatus.IDLE
    await pool.close()


async def test_without_the_right_to_read(db: Connection, database_url: str, inspector: Inspector) -> None:
    await db.execute("CREATE TABLE items (id int PRIMARY KEY)")
    items = await inspector.relation("public", "items")
    name = f"subset_reader_{db.info.dbname}"
    await db.execute(f"CREATE ROLE {name} LOGIN".encode())

    async def connect_as_reader() -> Connection:
        connection = await connect(database_url)
        await connection.execute(f"SET ROLE {name}".encode())
        return connection

    pool = ConnectionPool(connect_as_reader, 1)
    try:
        error = await failure(SubsetSource(pool), items)
        assert isinstance(error, RequestError)
        assert "insufficient privilege" in error.errors["table"][0]
        await db.execute(
            f"GRANT SELECT ON items TO {name}; ALTER TABLE items ENABLE ROW LEVEL SECURITY".encode()
        )
        inspector.clean(items.oid)
        items = await inspector.relation("public", "items")
        error = await failure(SubsetSource(pool), items)
        assert isinstance(error, RequestError)
        assert "row-level security" in error.details["said"]
    finally:
        await pool.close()
        await db.execute(f"DROP OWNED BY {name}; DROP ROLE {name}".encode())


async def test_no_database(db: Connection, inspector: Inspector) -> None:
    await db.execute("CREATE TABLE items (id int PRIMARY KEY)")
    items = await inspector.relation("public", "items")
    pool = ConnectionPool(lambda: connect("postgresql://nobody@127.0.0.1:1/none"), 1)
    assert (await failure(SubsetSource(pool), items)).message == "Database connection not available"


async def test_a_standby_is_refused() -> None:
    """Its snapshots do not list running transactions of the primary."""
    with postgres_of() as server:
        async with await Connection.connect(server.url(), autocommit=True) as db:
            await db.execute("CREATE TABLE items (id int PRIMARY KEY)")
        pool = ConnectionPool(lambda: connect(server.url()), 1)
        inspector = Inspector(pool)
        items = await inspector.relation("public", "items")
        await pool.close()
        server.stop()
        (server.data_dir / "standby.signal").touch()
        server.start()
        reading = ConnectionPool(lambda: connect(server.url()), 1)
        error = await failure(SubsetSource(reading), items)
        await reading.close()
        await inspector.close()
    assert isinstance(error, SourceError)
    assert error.message == "snapshots need the primary: this server is a standby"
