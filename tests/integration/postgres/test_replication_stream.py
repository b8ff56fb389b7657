"""The replication stream: status updates, pausing, acknowledgement, and errors."""

from __future__ import annotations

import asyncio
import itertools

import psycopg
import pytest
import uvloop
from tests.support.postgres.installations import postgres_of
from tests.support.postgres.replicated import PUBLICATION, prepare, replicated

from pgshapes.embedded.server import EmbeddedPostgres
from pgshapes.errors import SourceError, WireError
from pgshapes.model.lsn import Lsn
from pgshapes.postgres.connection import connect, connect_for_replication
from pgshapes.postgres.replication import ReplicationStream
from pgshapes.postgres.slot import find_slot


@pytest.fixture
def slot(sql: psycopg.Connection) -> str:
    sql.execute("CREATE TABLE t (id int PRIMARY KEY, v text)")
    return prepare(sql, "t")


def confirmed(sql: psycopg.Connection, slot: str) -> Lsn:
    row = sql.execute(
        "SELECT confirmed_flush_lsn - '0/0' FROM pg_replication_slots WHERE slot_name = %s", (slot,)
    ).fetchone()
    assert row is not None
    return int(row[0])


async def test_a_paused_stream_does_not_time_out(
    sql: psycopg.Connection, database_url: str, slot: str
) -> None:
    async with replicated(database_url, slot, wal_sender_timeout="4s") as got:
        got.stream.pause()
        # More than the socket buffers hold, so that the server waits longer than its timeout.
        fill = "INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(1, 20000) i"
        await asyncio.to_thread(sql.execute, fill)
        await asyncio.sleep(9)
        assert got.changes == []
        got.stream.resume()
        await got.until(lambda: len(got.changes) == 20_000)


async def test_the_loop_runs_other_tasks_under_load(
    sql: psycopg.Connection, database_url: str, slot: str
) -> None:
    async with replicated(database_url, slot) as got:
        got.stream.pause()
        sql.execute("INSERT INTO t SELECT i, 'x' FROM generate_series(1, 50000) i")
        got.stream.resume()
        turns_at: list[int] = []
        while len(got.changes) < 50_000:
            await asyncio.sleep(0)
            turns_at.append(len(got.changes))
        assert max(after - before for before, after in itertools.pairwise(turns_at)) < 20_000


async def test_only_what_was_acknowledged_is_confirmed(
    sql: psycopg.Connection, database_url: str, slot: str
) -> None:
    before = confirmed(sql, slot)
    async with replicated(database_url, slot) as got:
        got.acknowledges = False
        sql.execute("INSERT INTO t VALUES (1)")
        sql.execute("INSERT INTO t VALUES (2)")
        await got.until(lambda: len(got.changes) == 2)
        first, second = got.fragments
    assert confirmed(sql, slot) == before
    async with replicated(database_url, slot) as got:
        got.acknowledges = False
        await got.until(lambda: len(got.changes) == 2)
        got.stream.acknowledge(first.end_lsn)
        got.stream.acknowledge(before)
    assert confirmed(sql, slot) == first.end_lsn
    async with replicated(database_url, slot) as got:
        await got.until(lambda: len(got.changes) == 1)
    assert got.fragments[0].commit_lsn == second.commit_lsn


async def test_an_acknowledgement_reaches_the_server_while_streaming(
    sql: psycopg.Connection, database_url: str, slot: str
) -> None:
    async with replicated(database_url, slot) as got:
        sql.execute("INSERT INTO t VALUES (1)")
        await got.until(lambda: len(got.changes) == 1)
        async with asyncio.timeout(10):
            while confirmed(sql, slot) < got.fragments[0].end_lsn:
                await asyncio.sleep(0.01)


async def test_a_closed_stream_releases_its_slot(
    sql: psycopg.Connection, database_url: str, slot: str
) -> None:
    async with replicated(database_url, slot) as got:
        await got.until_caught_up(sql)
        admin = await connect(database_url)
        async with admin:
            running = await find_slot(admin, slot)
            assert running is not None and running.active_pid is not None
    async with replicated(database_url, slot):
        """The slot is free at once."""


async def test_close_ends_a_run_without_an_error(database_url: str, slot: str) -> None:
    stream = ReplicationStream(
        await connect_for_replication(database_url), slot=slot, publication=PUBLICATION
    )
    await stream.start()
    running = asyncio.create_task(stream.run(lambda payload, end: None, lambda end: None))
    await asyncio.sleep(0)
    await stream.close()
    await running


async def ended(url: str, slot: str, publication: str = PUBLICATION) -> SourceError:
    """The error that ends a stream."""
    connection = await connect_for_replication(url)
    async with ReplicationStream(connection, slot=slot, publication=publication) as stream:
        with pytest.raises(SourceError) as raised:
            await stream.start(slot_wait_s=0)
            async with asyncio.timeout(30):
                await stream.run(lambda payload, end: None, lambda end: None)
    return raised.value


async def test_a_missing_slot_means_that_shapes_are_void(database_url: str) -> None:
    assert (await ended(database_url, "nothere")).action == "invalidate"


async def test_a_slot_in_use_is_waited_for(database_url: str, slot: str) -> None:
    async with replicated(database_url, slot):
        error = await ended(database_url, slot)
    assert (error.action, error.sqlstate) == ("wait", "55006")
    assert "already in use" in error.message


async def test_a_slot_that_becomes_free_is_taken(database_url: str, slot: str) -> None:
    async with replicated(database_url, slot):
        second = ReplicationStream(
            await connect_for_replication(database_url), slot=slot, publication=PUBLICATION
        )
        starting = asyncio.create_task(second.start(slot_wait_s=30))
        await asyncio.sleep(0.3)
        assert not starting.done()
    await starting
    await second.close()


async def test_a_missing_publication_is_set_up_again(
    sql: psycopg.Connection, database_url: str, slot: str
) -> None:
    if sql.info.server_version >= 180000:
        pytest.skip("from Postgres 18 on the walsender only warns and leaves the changes out")
    sql.execute("INSERT INTO t VALUES (1)")
    error = await ended(database_url, slot, publication="not there")
    assert (error.action, error.sqlstate) == ("retry", "42704")


async def test_an_ended_backend_is_an_error_that_a_retry_helps(
    sql: psycopg.Connection, database_url: str, slot: str
) -> None:
    ending = asyncio.create_task(ended(database_url, slot))
    async with asyncio.timeout(30):
        while not sql.execute(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots"
            " WHERE slot_name = %s AND active",
            (slot,),
        ).fetchone():
            await asyncio.sleep(0.01)
    assert (await ending).action == "retry"


async def test_an_exception_in_a_callback_ends_the_stream(
    sql: psycopg.Connection, database_url: str, slot: str
) -> None:
    def refuse(payload: bytes, end: Lsn) -> None:
        raise WireError("unreadable")

    sql.execute("INSERT INTO t VALUES (1)")
    connection = await connect_for_replication(database_url)
    async with ReplicationStream(connection, slot=slot, publication=PUBLICATION) as stream:
        await stream.start()
        with pytest.raises(WireError, match="unreadable") as raised:
            await stream.run(refuse, lambda end: None)
    assert raised.value.details["lsn"] > 0


async def test_a_paused_stream_sends_its_position_when_closed(
    sql: psycopg.Connection, database_url: str, slot: str
) -> None:
    async with replicated(database_url, slot) as got:
        got.acknowledges = False
        sql.execute("INSERT INTO t VALUES (1)")
        await got.until(lambda: len(got.changes) == 1)
        got.stream.pause()
        sql.execute("INSERT INTO t SELECT i, 'x' FROM generate_series(2, 3000) i")
        got.stream.acknowledge(got.fragments[0].end_lsn)
    assert confirmed(sql, slot) == got.fragments[0].end_lsn
    assert len(got.changes) == 1


def test_a_server_that_stops_ends_the_stream() -> None:
    async def follow(server: EmbeddedPostgres) -> SourceError:
        with psycopg.connect(server.url(), autocommit=True) as sql:
            sql.execute("CREATE TABLE t (id int PRIMARY KEY)")
            slot = prepare(sql, "t")
        connection = await connect_for_replication(server.url())
        async with ReplicationStream(connection, slot=slot, publication=PUBLICATION) as stream:
            await stream.start()
            running = asyncio.create_task(stream.run(lambda payload, end: None, stream.acknowledge))
            await asyncio.sleep(0.1)
            await asyncio.to_thread(server.stop)
            with pytest.raises(SourceError) as raised:
                await running
            return raised.value

    with postgres_of() as server:
        assert asyncio.run(follow(server)).action == "retry"


def test_the_stream_runs_on_uvloop(sql: psycopg.Connection, database_url: str, slot: str) -> None:
    async def follow() -> int:
        async with replicated(database_url, slot) as got:
            sql.execute("INSERT INTO t SELECT i, 'x' FROM generate_series(1, 5000) i")
            await got.until(lambda: len(got.changes) == 5000)
            return len(got.fragments)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(follow()) == 10
