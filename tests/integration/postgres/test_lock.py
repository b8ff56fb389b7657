"""One holder at a time; others wait, and a dead holder is terminated."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import psycopg
import pytest
from tests.support.postgres.replicated import prepare, replicated
from tests.support.servers.black_hole import proxied

from pgshapes.errors import SourceError
from pgshapes.postgres import bounded_connection
from pgshapes.postgres.connection import Connection, connect
from pgshapes.postgres.lock import CHECKS, AdvisoryLock, LockBreaker


@pytest.fixture
def slot(sql: psycopg.Connection) -> str:
    return prepare(sql)


def is_held(lock: AdvisoryLock) -> bool:
    """Whether the lock was acquired and its connection is not known to be broken."""
    return lock._connection is not None and not lock._connection.broken


async def test_the_second_waits_until_the_first_releases(database_url: str, slot: str) -> None:
    first, second = AdvisoryLock(database_url, slot), AdvisoryLock(database_url, slot)
    waiting = asyncio.Event()
    await first.acquire(lambda: pytest.fail("it is free"))
    taking = asyncio.create_task(second.acquire(waiting.set))
    await waiting.wait()
    assert (is_held(first), is_held(second)) == (True, False)
    await first.release()
    await taking
    assert (is_held(first), is_held(second)) == (False, True)
    await second.release()


async def test_locks_of_different_slots_are_independent(database_url: str, slot: str) -> None:
    first, second = AdvisoryLock(database_url, slot), AdvisoryLock(database_url, f"{slot}_2")
    await first.acquire()
    await second.acquire(lambda: pytest.fail("it is free"))
    await first.release()
    await second.release()


async def test_cancelled_waiting_leaves_no_session(
    sql: psycopg.Connection, database_url: str, slot: str
) -> None:
    first, second = AdvisoryLock(database_url, slot), AdvisoryLock(database_url, slot)
    waiting = asyncio.Event()
    await first.acquire()
    taking = asyncio.create_task(second.acquire(waiting.set))
    await waiting.wait()
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking
    await first.release()
    await second.acquire()
    await second.release()


async def test_the_loss_of_the_lock_is_detected(
    sql: psycopg.Connection, database_url: str, slot: str
) -> None:
    lock = AdvisoryLock(database_url, slot)
    await lock.acquire()
    losing = asyncio.create_task(lock.wait_until_lost())
    sql.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted")
    async with asyncio.timeout(30):
        await losing
    assert not is_held(lock)
    await lock.release()


async def test_a_holder_that_streams_is_not_terminated(database_url: str, slot: str) -> None:
    lock, breaker = AdvisoryLock(database_url, slot), LockBreaker(slot)
    await lock.acquire()
    async with replicated(database_url, slot), await connect(database_url) as connection:
        assert [await breaker.check(connection) for _ in range(CHECKS)] == [None] * CHECKS
    assert is_held(lock)
    await lock.release()


@contextlib.contextmanager
def dead_holder(url: str, slot: str) -> Iterator[psycopg.Connection]:
    """A session that has the lock and does nothing, as that of an instance that is gone."""
    with psycopg.connect(url, autocommit=True) as holder:
        holder.execute("SELECT pg_advisory_lock(hashtext(%s))", (slot,))
        yield holder


async def test_a_holder_that_sends_nothing_is_terminated_after_some_checks(
    database_url: str, slot: str
) -> None:
    breaker = LockBreaker(slot)
    with dead_holder(database_url, slot) as holder:
        async with await connect(database_url) as connection:
            assert [await breaker.check(connection) for _ in range(CHECKS - 1)] == [None] * (CHECKS - 1)
            assert await breaker.check(connection) == holder.info.backend_pid
        with pytest.raises(psycopg.OperationalError):
            holder.execute("SELECT 1")


async def test_a_holder_that_loads_its_shapes_is_not_terminated(database_url: str, slot: str) -> None:
    """It does not stream yet, but it sends statements."""
    lock, breaker = AdvisoryLock(database_url, slot, beat_s=0.01), LockBreaker(slot)
    await lock.acquire()
    async with await connect(database_url) as connection:
        for _ in range(3 * CHECKS):
            before = await state_change(connection)
            assert await breaker.check(connection) is None
            async with asyncio.timeout(30):
                while await state_change(connection) == before:
                    await asyncio.sleep(0.01)
    assert is_held(lock)
    await lock.release()


async def state_change(connection: Connection) -> object:
    sql = b"SELECT state_change FROM pg_stat_activity WHERE application_name = 'pgshapes lock'"
    return await (await connection.execute(sql)).fetchone()


async def test_a_waiting_instance_gets_the_lock_of_a_dead_holder(database_url: str, slot: str) -> None:
    heir = AdvisoryLock(database_url, slot, break_interval_s=0.05)
    with dead_holder(database_url, slot):
        async with asyncio.timeout(30):
            await heir.acquire()
    assert is_held(heir)
    await heir.release()


@pytest.fixture
def early_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent connection is checked after less than a second."""
    monkeypatch.setattr(bounded_connection, "CHECK_AFTER_S", 0.3)
    monkeypatch.setattr(bounded_connection, "CONFIRM_AFTER_S", 0.05)


@pytest.mark.usefixtures("early_checks")
async def test_a_lock_behind_a_dead_connection_is_lost_and_free_again(database_url: str, slot: str) -> None:
    """Nobody closes the connection, and the server does not know that it is dead."""
    with proxied(database_url) as (proxy, url):
        lock, next_one = AdvisoryLock(url, slot, beat_s=0.05), AdvisoryLock(url, slot)
        await lock.acquire()
        proxy.swallow()
        async with asyncio.timeout(30):
            await lock.wait_until_lost()
            assert not is_held(lock)
            await lock.release()
            await next_one.acquire()
        assert is_held(next_one)
        await next_one.release()


@pytest.mark.usefixtures("early_checks")
async def test_a_wait_behind_a_dead_connection_ends(database_url: str, slot: str) -> None:
    holder = AdvisoryLock(database_url, slot)
    await holder.acquire()
    with proxied(database_url) as (proxy, url):
        second = AdvisoryLock(url, slot)
        waiting = asyncio.Event()
        taking = asyncio.create_task(second.acquire(waiting.set))
        await waiting.wait()
        await asyncio.sleep(1)  # longer than the limit: the server works on it
        assert not taking.done()
        proxy.swallow()
        await holder.release()
        async with asyncio.timeout(30):
            with pytest.raises(SourceError, match="has sent nothing"):
                await taking
