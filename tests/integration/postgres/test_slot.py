"""Creating, finding and dropping slots; lost slots and slots of others."""

from __future__ import annotations

import asyncio
import inspect
import re

import psycopg
import pytest
from tests.support.postgres.databases import fresh_database
from tests.support.postgres.installations import postgres_of
from tests.support.postgres.replicated import prepare, replicated

from pgshapes.embedded.server import EmbeddedPostgres
from pgshapes.errors import SourceError
from pgshapes.postgres import slot as slot_module
from pgshapes.postgres.connection import connect, connect_for_replication
from pgshapes.postgres.slot import create_slot, drop_slot, find_slot

pytestmark = pytest.mark.each_postgres


@pytest.fixture
def name(sql: psycopg.Connection) -> str:
    return f"slot_{sql.info.dbname}"


async def test_a_slot_is_made_found_and_dropped(database_url: str, name: str) -> None:
    async with await connect(database_url) as admin, await connect_for_replication(database_url) as walsender:
        assert await find_slot(admin, name) is None
        begins = await create_slot(walsender, admin, name)
        slot = await find_slot(admin, name)
        assert slot is not None
        assert slot == (name, begins, None, None)
        await drop_slot(admin, name)
        assert await find_slot(admin, name) is None
        await drop_slot(admin, name)


async def test_a_temporary_slot_goes_with_its_connection(database_url: str, name: str) -> None:
    async with await connect(database_url) as admin:
        async with await connect_for_replication(database_url) as walsender:
            await create_slot(walsender, admin, name, temporary=True)
            slot = await find_slot(admin, name)
            assert slot is not None and "it is temporary" in str(slot.unusable)
        async with asyncio.timeout(10):
            while await find_slot(admin, name) is not None:
                await asyncio.sleep(0.01)


async def test_a_slot_that_exists_is_not_made_again(database_url: str, name: str) -> None:
    async with await connect(database_url) as admin, await connect_for_replication(database_url) as walsender:
        await create_slot(walsender, admin, name)
        with pytest.raises(SourceError, match="already exists"):
            await create_slot(walsender, admin, name)


async def test_creation_waits_for_open_transactions(
    sql: psycopg.Connection, database_url: str, name: str
) -> None:
    sql.execute("CREATE TABLE t (id int)")
    async with await connect(database_url) as admin, await connect_for_replication(database_url) as walsender:
        with psycopg.connect(database_url) as writer:
            writer.execute("INSERT INTO t VALUES (1)")
            creation = asyncio.create_task(create_slot(walsender, admin, name))
            await asyncio.sleep(1.3)
            assert not creation.done()
            writer.commit()
        async with asyncio.timeout(30):
            assert await creation > 0
        assert await find_slot(admin, name) is not None


async def test_a_slot_that_is_being_created_is_waited_for(
    sql: psycopg.Connection, database_url: str, name: str
) -> None:
    async with await connect(database_url) as admin, await connect_for_replication(database_url) as walsender:
        with psycopg.connect(database_url) as writer:
            writer.execute("CREATE TABLE t (id int)")
            creation = asyncio.create_task(create_slot(walsender, admin, name))
            async with asyncio.timeout(30), await connect(database_url) as other:
                is_there = "SELECT FROM pg_replication_slots WHERE slot_name = %s"
                while await (await other.execute(is_there.encode(), (name,))).fetchone() is None:
                    await asyncio.sleep(0.01)
                with pytest.raises(SourceError, match="is being created by backend") as raised:
                    await find_slot(other, name)
            writer.commit()
        assert raised.value.action == "wait"
        assert await creation > 0


async def test_a_slot_in_use_is_dropped_when_it_is_free(sql: psycopg.Connection, database_url: str) -> None:
    slot = prepare(sql)
    async with await connect(database_url) as admin:
        async with replicated(database_url, slot):
            with pytest.raises(SourceError) as raised:
                await drop_slot(admin, slot, wait_s=0)
            assert raised.value.action == "wait"
            dropping = asyncio.create_task(drop_slot(admin, slot, wait_s=30))
            await asyncio.sleep(0.2)
        await dropping
        assert await find_slot(admin, slot) is None


async def test_a_slot_of_another_database_is_refused(
    postgres_server: EmbeddedPostgres, sql: psycopg.Connection, database_url: str
) -> None:
    with fresh_database(postgres_server) as other:
        slot = prepare(sql)
        async with await connect(other) as admin:
            with pytest.raises(SourceError, match="belongs to pgoutput in database") as raised:
                await find_slot(admin, slot)
    assert raised.value.action == "operator"


async def test_a_physical_slot_is_refused(sql: psycopg.Connection, database_url: str, name: str) -> None:
    sql.execute("SELECT pg_create_physical_replication_slot(%s)", (name,))
    try:
        async with await connect(database_url) as admin:
            with pytest.raises(SourceError, match="belongs to a physical standby") as raised:
                await find_slot(admin, name)
    finally:
        sql.execute("SELECT pg_drop_replication_slot(%s)", (name,))
    assert raised.value.action == "operator"


async def test_a_two_phase_slot_is_unusable(sql: psycopg.Connection, database_url: str, name: str) -> None:
    sql.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput', false, true)", (name,))
    async with await connect(database_url) as admin:
        slot = await find_slot(admin, name)
    assert slot is not None and "it is two_phase" in str(slot.unusable)


async def test_a_failover_slot_is_used(sql: psycopg.Connection, database_url: str, name: str) -> None:
    if sql.info.server_version < 170000:
        pytest.skip("failover slots are new in Postgres 17")
    sql.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput', failover => true)", (name,))
    async with await connect(database_url) as admin:
        slot = await find_slot(admin, name)
    assert slot is not None and slot.unusable is None


def test_no_property_of_a_slot_is_overlooked(sql: psycopg.Connection) -> None:
    """A new one fails this test until `slot.py` says what it means."""
    columns = {row.name for row in sql.execute("SELECT * FROM pg_replication_slots").description or ()}
    text = inspect.getsource(slot_module)
    ignored = {"slot_name", "slot_type", "datoid", "active", "two_phase_at"}
    assert {column for column in columns - ignored if not re.search(rf"\b{column}\b", text)} == set()


def test_a_slot_whose_wal_was_removed_is_unusable() -> None:
    async def look(url: str) -> bool:
        async with await connect(url) as admin:
            slot = await find_slot(admin, "old")
            return slot is not None and "it was invalidated" in str(slot.unusable)

    settings = {"max_slot_wal_keep_size": "1MB", "min_wal_size": "32MB", "max_wal_size": "32MB"}
    with postgres_of(settings=settings) as server, psycopg.connect(server.url(), autocommit=True) as sql:
        sql.execute("SELECT pg_create_logical_replication_slot('old', 'pgoutput')")
        sql.execute("CREATE TABLE t (id int)")
        for _ in range(3):
            sql.execute("INSERT INTO t VALUES (1)")
            sql.execute("SELECT pg_switch_wal()")
        sql.execute("CHECKPOINT")
        assert asyncio.run(look(server.url()))
