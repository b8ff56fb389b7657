"""Whether a session works is asked of the server itself."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
from tests.support.postgres.replicated import prepare, replicated
from tests.support.servers.ports import free_port

from pgshapes.postgres.backend_activity import is_working, terminate
from pgshapes.postgres.connection import APPLICATION, connect, connect_for_replication

NOBODY = 2**30


async def test_a_session_that_waits_for_a_lock_works(sql: psycopg.Connection, database_url: str) -> None:
    sql.execute("SELECT pg_advisory_lock(1)")
    async with await connect(database_url) as waiting:
        statement = asyncio.ensure_future(waiting.execute(b"SELECT pg_advisory_lock(1)"))
        pid = waiting.info.backend_pid
        async with asyncio.timeout(30):
            while not await is_working(partial(connect, database_url), pid):
                await asyncio.sleep(0.01)
        sql.execute("SELECT pg_advisory_unlock(1)")
        await statement
        assert not await is_working(partial(connect, database_url), pid)


async def test_a_session_that_cannot_send_does_not_work(database_url: str) -> None:
    async with await connect(database_url) as stuck:
        stuck.pgconn.send_query(b"COPY (SELECT repeat('x', 1000) FROM generate_series(1, 100000)) TO STDOUT")
        stuck.pgconn.flush()
        async with asyncio.timeout(30):
            while await is_working(partial(connect, database_url), stuck.info.backend_pid):
                await asyncio.sleep(0.05)
        stuck.pgconn.finish()


async def test_a_walsender_without_changes_does_not_work(sql: psycopg.Connection, database_url: str) -> None:
    slot = prepare(sql)
    async with replicated(database_url, slot):
        row = sql.execute(
            "SELECT active_pid FROM pg_replication_slots WHERE slot_name = %s", (slot,)
        ).fetchone()
        assert row is not None
        async with asyncio.timeout(30):
            while await is_working(partial(connect, database_url), row[0]):
                await asyncio.sleep(0.05)


async def test_a_walsender_that_waits_for_old_transactions_works(
    sql: psycopg.Connection, database_url: str
) -> None:
    """It creates a slot."""
    sql.execute("CREATE TABLE written (id int)")
    async with (
        await connect(database_url) as writer,
        await connect_for_replication(database_url) as walsender,
    ):
        await writer.execute(b"BEGIN; INSERT INTO public.written VALUES (1)")
        name = f"slot_of_{sql.info.dbname}"
        sql_ = f"CREATE_REPLICATION_SLOT {name} TEMPORARY LOGICAL pgoutput NOEXPORT_SNAPSHOT"
        creation = asyncio.ensure_future(walsender.execute(sql_.encode()))
        async with asyncio.timeout(30):
            while not await walsender.is_working():
                await asyncio.sleep(0.01)
        await writer.execute(b"COMMIT")
        async with asyncio.timeout(30):
            while not creation.done():
                assert await walsender.is_working() or creation.done() or await _ends_soon(creation)
        await creation


async def _ends_soon(task: asyncio.Future[Any]) -> bool:
    """Whether it has ended, and its answer is on its way."""
    await asyncio.wait((task,), timeout=5)
    return task.done()


async def test_a_server_that_answers_may_be_alive(sql: psycopg.Connection, database_url: str) -> None:
    """It is full, or does not tell what its sessions do."""
    role = f"limited_{sql.info.dbname}"
    sql.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x' CONNECTION LIMIT 1")
    try:
        url = with_user(database_url, role, "x")
        async with await connect(url) as only:
            assert await is_working(partial(connect, url), only.info.backend_pid) is None
            assert await is_working(partial(connect, with_user(url, role, "wrong")), 1) is None
    finally:
        sql.execute(f"DROP ROLE {role}")
    async with await connect(database_url) as silent:
        await silent.execute(b"SET track_activities = off")
        assert await is_working(partial(connect, database_url), silent.info.backend_pid) is None


def with_user(url: str, user: str, password: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{user}:{password}@{parts.hostname}:{parts.port}"))


async def test_nobody_works_without_an_answer(database_url: str) -> None:
    assert await is_working(partial(connect, database_url), NOBODY) is False
    assert await is_working(partial(connect, f"postgresql://127.0.0.1:{free_port()}/none"), 1) is False


async def test_only_a_session_of_ours_is_ended(sql: psycopg.Connection, database_url: str) -> None:
    async with await connect(database_url) as ours:
        await terminate(partial(connect, database_url), sql.info.backend_pid, APPLICATION)
        sql.execute("SELECT 1")
        await terminate(partial(connect, database_url), ours.info.backend_pid, APPLICATION)
        row = sql.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", (ours.info.backend_pid,))
        async with asyncio.timeout(30):
            while row.fetchone() is not None:
                await asyncio.sleep(0.01)
                row = sql.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", (ours.info.backend_pid,))
