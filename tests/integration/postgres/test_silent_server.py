"""A server that is gone while its connections stay open: every wait ends by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import psycopg
import pytest
from tests.support.postgres.replicated import works
from tests.support.servers.black_hole import Proxy, proxied

from pgshapes.postgres import bounded_connection, simple_query
from pgshapes.postgres.bounded_connection import CHECK_AFTER_S, SILENCE_LIMIT_S, ServerSilent
from pgshapes.postgres.connection import (
    Connection,
    ConnectionPool,
    connect,
    connect_for_replication,
    connect_shared,
)
from pgshapes.postgres.simple_query import CopyOut

END_S = 60.0
LIMIT_S = 0.3


@pytest.fixture(autouse=True)
def early_confirmation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_connection, "CONFIRM_AFTER_S", 0.05)


@pytest.fixture
def hole(database_url: str) -> Iterator[tuple[Proxy, str]]:
    """A proxy, and the URL through it."""
    with proxied(database_url) as found:
        yield found


@pytest.fixture
async def db(hole: tuple[Proxy, str]) -> AsyncIterator[Connection]:
    """A connection through the proxy, with a short limit."""
    async with await connect(hole[1]) as connection:
        connection.silence_limit_s = LIMIT_S
        yield connection


async def _execute(db: Connection) -> None:
    await db.execute(b"SELECT 1")


async def _cursor(db: Connection) -> None:
    async with db.cursor() as cursor:
        await cursor.execute(b"SELECT 1")


async def _stream(db: Connection) -> None:
    async with db.cursor() as cursor:
        async for _ in cursor.stream(b"SELECT 1"):
            pass


async def _copy(db: Connection) -> None:
    async with db.cursor() as cursor, cursor.copy(b"COPY (SELECT 1) TO STDOUT") as copy:
        await copy.read()


async def _transaction(db: Connection) -> None:
    async with db.transaction():
        pass


async def _run(db: Connection) -> None:
    await simple_query.run(db, "SELECT 1")


async def _describe(db: Connection) -> None:
    await simple_query.describe(db, "SELECT 1")


async def _copy_out(db: Connection) -> None:
    await CopyOut.begin(db, "COPY (SELECT 1) TO STDOUT")


async def _notifies(db: Connection) -> None:
    async for _ in db.notifies():
        pass


async def _pipeline(db: Connection) -> None:
    async with db.pipeline():
        await db.execute(b"SELECT 1")


WAITS: list[Callable[[Connection], Awaitable[None]]] = [
    *(_execute, _cursor, _stream, _copy, _transaction, _run, _describe, _copy_out, _notifies, _pipeline)
]


@pytest.mark.parametrize("wait", WAITS, ids=lambda wait: wait.__name__)
async def test_every_wait_ends(
    hole: tuple[Proxy, str], db: Connection, wait: Callable[[Connection], Awaitable[None]]
) -> None:
    hole[0].swallow()
    async with asyncio.timeout(END_S):
        with pytest.raises(ServerSilent):
            await wait(db)
    assert db.closed
    assert db.silent_since is not None


@pytest.mark.parametrize("wait", [_execute, _run], ids=lambda wait: wait.__name__)
async def test_a_cancelled_wait_ends(
    hole: tuple[Proxy, str], db: Connection, wait: Callable[[Connection], Awaitable[None]]
) -> None:
    """The server cancels a statement, but says so to nobody."""
    db.silence_limit_s = END_S
    hole[0].swallow()
    waiting = asyncio.ensure_future(wait(db))
    await asyncio.sleep(0.1)
    waiting.cancel()
    async with asyncio.timeout(END_S):
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert db.closed
    assert db.silent_since is not None


async def test_a_cancelled_statement_leaves_a_living_connection_usable(db: Connection) -> None:
    db.silence_limit_s = END_S
    waiting = asyncio.ensure_future(db.execute(b"SELECT pg_sleep(60)"))
    await asyncio.sleep(0.1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await (await db.execute(b"SELECT 1")).fetchone() == (1,)
    assert db.silent_since is None


async def test_a_copy_that_stands_still_ends(hole: tuple[Proxy, str], db: Connection) -> None:
    """Some lines have arrived, then nothing does."""
    sql = "COPY (SELECT repeat('x', 10000) FROM generate_series(1, 20000)) TO STDOUT"
    copy = await CopyOut.begin(db, sql)
    assert await copy.next_batch()
    hole[0].swallow()
    async with asyncio.timeout(END_S):
        with pytest.raises(ServerSilent):
            while await copy.next_batch():
                pass


async def test_a_slow_statement_is_waited_for_while_the_server_works(db: Connection) -> None:
    row = await (await db.execute(b"SELECT 1 FROM pg_sleep(1)")).fetchone()
    assert row == (1,)


async def test_a_dead_connection_is_noticed_though_the_server_lives(hole: tuple[Proxy, str]) -> None:
    """Whatever it is used for: every session of our own is checked, also while it is opened."""
    for open_ in (connect, connect_for_replication):
        async with await open_(hole[1]) as session:
            assert session.silence_limit_s == CHECK_AFTER_S
            assert not await session.is_working()


async def test_the_session_of_a_dead_connection_is_ended(
    hole: tuple[Proxy, str], database_url: str, db: Connection
) -> None:
    """It would keep its locks, for which the owner of the table would wait."""
    async with await connect(database_url) as owner:
        await owner.execute(b"CREATE TABLE public.t (id int)")
        await db.execute(b"BEGIN")
        await db.execute(b"SELECT FROM public.t")
        hole[0].swallow()
        with pytest.raises(ServerSilent):
            await db.execute(b"SELECT 1")
        async with asyncio.timeout(END_S):
            await owner.execute(b"DROP TABLE public.t")


async def test_a_direct_shared_session_is_checked_always(hole: tuple[Proxy, str]) -> None:
    """Also when a transaction begins: nothing can be in between."""
    async with await connect_shared(hole[1], is_pooled=False) as session:
        session.reset()
        assert session.silence_limit_s == CHECK_AFTER_S
        assert session.end_session is not None
    async with await connect_shared(hole[1]) as session:
        assert session.end_session is None, "a pooler has given its backend to others"


async def test_a_shared_session_is_checked_in_a_transaction_only(database_url: str) -> None:
    """Between two transactions a pooler may give it another backend."""
    pool = ConnectionPool(lambda: connect_shared(database_url), 1)
    async with pool.connection() as session:
        assert session.silence_limit_s == SILENCE_LIMIT_S
        session.check_with(works)
    async with pool.connection() as again:
        assert again is session
        assert session.silence_limit_s == SILENCE_LIMIT_S
        assert not await session.is_working()
    await pool.close()


async def test_an_answer_that_arrives_during_the_check_is_taken(db: Connection) -> None:
    async def check() -> bool:
        await asyncio.sleep(1.5)
        return False

    db.check_with(check)
    db.silence_limit_s = LIMIT_S
    row = await (await db.execute(b"SELECT 1 FROM pg_sleep(1)")).fetchone()
    assert row == (1,)


async def test_the_wait_ends_with_the_work(db: Connection) -> None:
    answers = iter((True, False, True, None, False, False))

    async def check() -> bool | None:
        return next(answers)

    db.check_with(check)
    db.silence_limit_s = LIMIT_S
    async with asyncio.timeout(END_S):
        with pytest.raises(ServerSilent):
            await db.execute(b"SELECT pg_sleep(600)")


async def test_what_is_not_known_ends_the_wait_late(
    hole: tuple[Proxy, str], db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full server answers, but does not say whether it works. The statement does not stay behind."""
    checks = 0

    async def check() -> bool | None:
        nonlocal checks
        checks += 1
        if checks == 3:
            monkeypatch.setattr(bounded_connection, "SILENCE_LIMIT_S", 0.0)
        return None

    db.check_with(check)
    db.silence_limit_s = LIMIT_S
    pid = db.info.backend_pid
    async with asyncio.timeout(END_S), await connect(hole[1]) as other:
        with pytest.raises(ServerSilent):
            await db.execute(b"SELECT pg_sleep(600)")
        assert checks == 3
        still_there = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND state = 'active'"
        while await (await other.execute(still_there, (pid,))).fetchone() is not None:
            await asyncio.sleep(0.01)


async def test_a_wait_that_is_cancelled_during_a_check_cancels_the_statement(db: Connection) -> None:
    begun = asyncio.Event()

    async def check() -> bool:
        begun.set()
        await asyncio.sleep(END_S)
        return True

    db.check_with(check)
    db.silence_limit_s = LIMIT_S
    waiting = asyncio.ensure_future(db.execute(b"SELECT pg_sleep(600)"))
    await begun.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    db.check_with(None)
    assert await (await db.execute(b"SELECT 1")).fetchone() == (1,), "it is cancelled, and can be used again"


async def test_a_check_that_fails_closes_the_connection(db: Connection) -> None:
    async def check() -> bool:
        raise psycopg.OperationalError("no connection")

    db.check_with(check)
    db.silence_limit_s = LIMIT_S
    with pytest.raises(psycopg.OperationalError, match="no connection"):
        await db.execute(b"SELECT pg_sleep(60)")
    assert db.closed


async def test_dead_connections_of_a_pool_cost_one_look_up(hole: tuple[Proxy, str]) -> None:
    opened: list[Connection] = []

    async def open_() -> Connection:
        connection = await connect(hole[1])
        connection.silence_limit_s = LIMIT_S
        opened.append(connection)
        return connection

    pool = ConnectionPool(open_, 4)
    await _use_at_once(pool, 4)
    assert len(opened) == 4
    hole[0].swallow()
    async with asyncio.timeout(END_S):
        with pytest.raises(ServerSilent):
            async with pool.connection() as first:
                await first.execute(b"SELECT 1")
    assert all(connection.closed for connection in opened)
    async with pool.connection() as next_one:
        await next_one.execute(b"SELECT 1")
    await pool.close()


async def test_a_connection_that_answered_meanwhile_is_kept(hole: tuple[Proxy, str]) -> None:
    pool = ConnectionPool(lambda: connect(hole[1]), 2)
    async with pool.connection() as silent:
        hole[0].swallow()
        silent.silence_limit_s = LIMIT_S
        async with pool.connection() as alive:
            waiting = asyncio.ensure_future(silent.execute(b"SELECT 1"))
            await asyncio.sleep(0.05)
            await alive.execute(b"SELECT 1")
        with pytest.raises(ServerSilent):
            await waiting
    async with pool.connection() as again:
        assert again is alive
    await pool.close()


async def _use_at_once(pool: ConnectionPool, count: int) -> None:
    barrier = asyncio.Barrier(count)

    async def use() -> None:
        async with pool.connection() as connection:
            await connection.execute(b"SELECT 1")
            await barrier.wait()

    await asyncio.gather(*(use() for _ in range(count)))
