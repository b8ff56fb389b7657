"""A stream whose server is gone is left, and one whose server is only busy is not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import psycopg
import pytest
from tests.support.postgres.replicated import PUBLICATION, prepare, works
from tests.support.servers.black_hole import proxied

from pgshapes.errors import SourceError
from pgshapes.model.lsn import Lsn
from pgshapes.postgres.bounded_connection import ActivityCheck
from pgshapes.postgres.connection import connect_for_replication
from pgshapes.postgres.replication import ReplicationStream

END_S = 60.0


@pytest.fixture
def slot(sql: psycopg.Connection) -> str:
    sql.execute("CREATE TABLE t (id int PRIMARY KEY, v text)")
    return prepare(sql, "t")


async def dead() -> bool:
    """The answer about a session that does not exist any more."""
    return False


@contextlib.asynccontextmanager
async def streaming(
    url: str, slot: str, check: ActivityCheck
) -> AsyncIterator[tuple[ReplicationStream, list[Lsn]]]:
    """A stream with a short timeout, and the positions of its keepalives."""
    walsender = await connect_for_replication(url)
    await walsender.execute(b"SET wal_sender_timeout = '3s'")
    stream = ReplicationStream(walsender, slot=slot, publication=PUBLICATION)
    walsender.check_with(check)
    async with stream:
        await stream.start()
        yield stream, []


async def test_a_silent_server_is_left(database_url: str, slot: str) -> None:
    with proxied(database_url) as (proxy, url):
        async with streaming(url, slot, dead) as (stream, keepalives):
            running = asyncio.ensure_future(stream.run(lambda *_: None, keepalives.append))
            await asyncio.sleep(0.2)
            proxy.swallow()
            async with asyncio.timeout(END_S):
                with pytest.raises(SourceError, match="Postgres has sent nothing for"):
                    await running
            assert stream.is_silent


async def test_an_idle_server_answers_requests_for_a_reply(database_url: str, slot: str) -> None:
    """Nothing is written; without a request for a reply nothing would be sent."""
    async with streaming(database_url, slot, dead) as (stream, keepalives):
        running = asyncio.ensure_future(stream.run(lambda *_: None, keepalives.append))
        await asyncio.wait((running,), timeout=7)
        assert not running.done()
        assert len(keepalives) > 3
        running.cancel()


async def test_a_server_that_works_is_waited_for(database_url: str, slot: str) -> None:
    """As far as it can be asked: it may decode for long without sending anything."""
    checks = 0

    async def check() -> bool:
        nonlocal checks
        checks += 1
        return checks < 3 and await works()

    with proxied(database_url) as (proxy, url):
        async with streaming(url, slot, check) as (stream, keepalives):
            running = asyncio.ensure_future(stream.run(lambda *_: None, keepalives.append))
            await asyncio.sleep(0.2)
            proxy.swallow()
            async with asyncio.timeout(END_S):
                with pytest.raises(SourceError, match="Postgres has sent nothing for"):
                    await running
    assert checks == 3


async def test_a_paused_stream_is_not_silent(database_url: str, slot: str) -> None:
    async with streaming(database_url, slot, dead) as (stream, keepalives):
        running = asyncio.ensure_future(stream.run(lambda *_: None, keepalives.append))
        await asyncio.sleep(0.2)
        stream.pause()
        await asyncio.wait((running,), timeout=7)
        assert not running.done()
        stream.resume()
        await asyncio.wait((running,), timeout=1)
        assert not running.done()
        running.cancel()
