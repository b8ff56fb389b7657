"""What a real server sends for what we request: every kind can be read, whatever the transaction does."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator

import psycopg
import pytest
from tests.support.postgres.replicated import PUBLICATION, prepare, replicated

from pgshapes.errors import WireError
from pgshapes.model.change import Operation
from pgshapes.postgres.connection import connect, connect_for_replication
from pgshapes.postgres.pgoutput import decode_message
from pgshapes.postgres.slot import create_slot, drop_slot

pytestmark = pytest.mark.each_postgres

TABLES = """
CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE DOMAIN positive AS int CHECK (value > 0);
CREATE TYPE pair AS (a int, b text);
CREATE TYPE floats AS RANGE (subtype = float8);
CREATE TABLE t (id int PRIMARY KEY, v text);
CREATE TABLE child (id int PRIMARY KEY, t int REFERENCES t, n serial);
CREATE TABLE typed (id int PRIMARY KEY, m mood, p positive, c pair, f floats, a mood[]);
CREATE TABLE parts (id int, v text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (0) TO (100);
CREATE TABLE parts_high PARTITION OF parts FOR VALUES FROM (100) TO (1000);
ALTER TABLE parts_low REPLICA IDENTITY FULL;
ALTER TABLE parts_high REPLICA IDENTITY FULL;
CREATE TABLE unpublished (id int);
"""
PUBLISHED = ("t", "child", "typed", "parts")


class Heard:
    """Counts the kinds of the messages of a slot, and the operations of the assembled changes."""

    def __init__(self, url: str, slot: str) -> None:
        self._url = url
        self._slot = slot

    @contextlib.asynccontextmanager
    async def listen(self, sql: psycopg.Connection) -> AsyncIterator[tuple[Counter[str], Counter[Operation]]]:
        """The counts are complete after the block."""
        kinds: Counter[str] = Counter()
        operations: Counter[Operation] = Counter()
        async with replicated(self._url, self._slot, logical_decoding_work_mem="64kB") as collected:
            yield kinds, operations
            await collected.until_caught_up(sql)
            kinds.update(collected.kinds)
            operations.update(change.operation for change in collected.changes)


@pytest.fixture
def heard(sql: psycopg.Connection, database_url: str) -> Heard:
    sql.execute(TABLES)
    return Heard(database_url, prepare(sql, *PUBLISHED))


ROWS, UPDATES, DELETES, TRUNCATES = Operation.INSERT, Operation.UPDATE, Operation.DELETE, Operation.TRUNCATE


async def test_rows_of_every_kind_of_statement(sql: psycopg.Connection, heard: Heard) -> None:
    async with heard.listen(sql) as (kinds, operations):
        sql.execute("INSERT INTO t SELECT i, repeat('x', 10000 * i) FROM generate_series(1, 3) i")
        sql.execute("UPDATE t SET id = id + 10")
        sql.execute("INSERT INTO t VALUES (11, 'y') ON CONFLICT (id) DO UPDATE SET v = excluded.v")
        sql.execute("INSERT INTO t VALUES (11, 'z') ON CONFLICT DO NOTHING")
        sql.execute("INSERT INTO typed VALUES (1, 'sad', 1, (1, 'b'), '[1,2)', '{sad}')")
        sql.execute("INSERT INTO parts VALUES (1, 'a')")
        sql.execute("UPDATE parts SET id = 500")
        with sql.cursor().copy("COPY t FROM STDIN") as copy:
            copy.write("100\ta\n101\tb\n")
        sql.execute("DELETE FROM t WHERE id = 13")
        sql.execute("INSERT INTO unpublished VALUES (1)")
        sql.execute("ALTER TABLE t ADD COLUMN w int DEFAULT 5")
        sql.execute("UPDATE t SET v = 'w' WHERE id = 100")
    assert operations == {ROWS: 3 + 1 + 2 + 2, UPDATES: 3 + 1 + 1, DELETES: 1 + 1}
    assert set(kinds) == set("BCRYIUD")


async def test_truncate_of_several_tables(sql: psycopg.Connection, heard: Heard) -> None:
    async with heard.listen(sql) as (kinds, operations):
        sql.execute("TRUNCATE t, unpublished RESTART IDENTITY CASCADE")
        sql.execute("TRUNCATE parts")
        sql.execute("TRUNCATE unpublished")
    assert kinds["T"] == 2
    assert operations[TRUNCATES] == 2 + 2
    assert set(kinds) == set("BCRT")


async def test_transactions_that_are_large_prepared_or_nested(sql: psycopg.Connection, heard: Heard) -> None:
    async with heard.listen(sql) as (kinds, operations):
        sql.execute("INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 5000) i")
        with sql.transaction(force_rollback=True):
            sql.execute("INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(5001, 9000) i")
        for number, end in enumerate(("COMMIT", "ROLLBACK")):
            name = f"{end}_{sql.info.dbname}"
            sql.execute(f"BEGIN; INSERT INTO t VALUES ({9001 + number}); PREPARE TRANSACTION '{name}'")
            sql.execute(f"{end} PREPARED '{name}'")
        with sql.transaction():
            for number in range(100):
                with sql.transaction(force_rollback=bool(number % 2)):
                    sql.execute("INSERT INTO t VALUES (%s)", (10_000 + number,))
        sql.execute(
            "DO $$ BEGIN INSERT INTO t VALUES (20000);"
            " BEGIN INSERT INTO t VALUES (20001), (20000); EXCEPTION WHEN unique_violation THEN NULL; END;"
            " END $$"
        )
    assert operations == {ROWS: 5000 + 1 + 50 + 1}
    assert set(kinds) == set("BCRI")
    assert kinds["B"] == kinds["C"]


async def test_logical_messages_are_not_sent(sql: psycopg.Connection, heard: Heard) -> None:
    async with heard.listen(sql) as (kinds, _):
        sql.execute("SELECT pg_logical_emit_message(false, 'note', 'alone')")
        sql.execute("SELECT pg_logical_emit_message(true, 'note', 'in a transaction')")
        with sql.transaction():
            sql.execute("INSERT INTO t VALUES (1)")
            sql.execute("SELECT pg_logical_emit_message(true, 'note', 'with a row')")
            sql.execute("SELECT pg_logical_emit_message(false, 'note', 'now')")
    assert kinds["I"] == 1
    assert "M" not in kinds


async def test_an_origin(sql: psycopg.Connection, heard: Heard) -> None:
    origin = f"origin_{sql.info.dbname}"
    sql.execute("SELECT pg_replication_origin_create(%s)", (origin,))
    try:
        sql.execute("SELECT pg_replication_origin_session_setup(%s)", (origin,))
        async with heard.listen(sql) as (kinds, _):
            with sql.transaction():
                sql.execute("SELECT pg_replication_origin_xact_setup('0/ABC', now())")
                sql.execute("INSERT INTO t VALUES (1)")
        sql.execute("SELECT pg_replication_origin_session_reset()")
    finally:
        sql.execute("SELECT pg_replication_origin_drop(%s)", (origin,))
    assert set(kinds) == set("BORIC")


async def test_a_relation_with_as_many_columns_as_there_can_be(
    sql: psycopg.Connection, database_url: str
) -> None:
    names = [f"c{number}" for number in range(1, 1600)]
    sql.execute(f"CREATE TABLE wide (id int PRIMARY KEY, {', '.join(f'{name} bool' for name in names)})")
    heard = Heard(database_url, prepare(sql, "wide"))
    async with heard.listen(sql) as (kinds, operations):
        sql.execute("INSERT INTO wide VALUES (1)")
        sql.execute("UPDATE wide SET c1599 = true")
        sql.execute("DELETE FROM wide")
    assert operations == {ROWS: 1, UPDATES: 1, DELETES: 1}
    assert set(kinds) == set("BRIUDC")


async def test_generated_columns(sql: psycopg.Connection, database_url: str) -> None:
    sql.execute("CREATE TABLE t (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED)")
    slot = prepare(sql, "t")
    if sql.info.server_version >= 180000:
        sql.execute(f"ALTER PUBLICATION {PUBLICATION} SET (publish_generated_columns = stored)")
    heard = Heard(database_url, slot)
    async with heard.listen(sql) as (kinds, operations):
        sql.execute("INSERT INTO t VALUES (1)")
        sql.execute("UPDATE t SET id = 2")
    assert operations == {ROWS: 1, UPDATES: 1}
    assert set(kinds) == set("BRIUC")


async def test_a_slot_is_created_after_what_was_prepared_before_it(
    sql: psycopg.Connection, database_url: str
) -> None:
    sql.execute("CREATE TABLE t (id int PRIMARY KEY); ALTER TABLE t REPLICA IDENTITY FULL")
    sql.execute(f"CREATE PUBLICATION {PUBLICATION} FOR TABLE t")
    name = f"before_{sql.info.dbname}"
    sql.execute(f"BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION '{name}'")
    async with await connect(database_url) as admin, await connect_for_replication(database_url) as walsender:
        creation = asyncio.create_task(create_slot(walsender, admin, name))
        waiting = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = %s"
        async with asyncio.timeout(60):
            while sql.execute(waiting, (name,)).fetchone() != (1,):
                await asyncio.sleep(0.01)
        assert not creation.done()
        sql.execute(f"COMMIT PREPARED '{name}'")
        async with asyncio.timeout(60):
            assert await creation > 0
        async with Heard(database_url, name).listen(sql) as (_, operations):
            sql.execute("INSERT INTO t VALUES (2)")
        assert operations == {ROWS: 1}
        await drop_slot(admin, name)


def test_a_two_phase_slot_sends_what_we_cannot_read(sql: psycopg.Connection, database_url: str) -> None:
    """Why `find_slot` finds it unusable; pgoutput of Postgres 14 has no such messages."""
    if sql.info.server_version < 150000:
        pytest.skip("new in Postgres 15")
    sql.execute("CREATE TABLE t (id int PRIMARY KEY)")
    sql.execute(f"CREATE PUBLICATION {PUBLICATION} FOR TABLE t")
    name = f"two_phase_{sql.info.dbname}"
    sql.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput', false, true)", (name,))
    sql.execute(f"BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION '{name}'")
    sql.execute(f"ROLLBACK PREPARED '{name}'")
    rows = sql.execute(
        "SELECT data FROM pg_logical_slot_peek_binary_changes(%s, NULL, NULL,"
        " 'proto_version', '1', 'publication_names', %s)",
        (name, PUBLICATION),
    ).fetchall()
    kinds = [bytes(data[:1]) for (data,) in rows]
    assert {b"b", b"P", b"r"} <= set(kinds)
    for data in (data for (data,) in rows if bytes(data[:1]) in b"bPr"):
        with pytest.raises(WireError, match="unknown kind"):
            decode_message(bytes(data))
