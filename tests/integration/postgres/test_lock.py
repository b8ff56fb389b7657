"""One holder at a time; others wait, and a dead holder is terminated."""

from __future__ import annotations

import asyncio

import psycopg
import pytest
from tests.support.postgres.replicated import prepare, replicated

from pgshapes.postgres.connection import connect
from pgshapes.postgres.lock import AdvisoryLock, LockBreaker


@pytest.fixture
def slot(sql: psycopg.Connection) -> str:
    return prepare(sql)


async def test_the_second_waits_until_the_first_releases(database_url: str, slot: str) -> None:
    first, second = AdvisoryLock(database_url, slot), AdvisoryLock(database_url, slot)
    waiting = asyncio.Event()
    await first.acquire(lambda: pytest.fail("it is free"))
    taking = asyncio.create_task(second.acquire(waiting.set))
    await waiting.wait()
    assert (first.is_held, second.is_held) == (True, False)
    await first.release()
    await taking
    assert (first.is_held, second.is_held) == (False, True)
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
    assert not lock.is_held
    await lock.release()


async def test_a_holder_that_streams_is_not_terminated(database_url: str, slot: str) -> None:
    lock, breaker = AdvisoryLock(database_url, slot), LockBreaker(slot)
    await lock.acquire()
    async with replicated(database_url, slot), await connect(database_url) as connection:
        assert [await breaker.check(connection) for _ in range(3)] == [None, None, None]
    assert lock.is_held
    await lock.release()


async def test_a_holder_that_does_not_stream_is_terminated_at_the_second_check(
    database_url: str, slot: str
) -> None:
    lock, breaker = AdvisoryLock(database_url, slot), LockBreaker(slot)
    await lock.acquire()
    losing = asyncio.create_task(lock.wait_until_lost())
    async with await connect(database_url) as connection:
        assert await breaker.check(connection) is None
        assert await breaker.check(connection) is not None
        async with asyncio.timeout(30):
            await losing
    await lock.release()


async def test_a_waiting_instance_gets_the_lock_of_a_dead_holder(database_url: str, slot: str) -> None:
    dead, heir = AdvisoryLock(database_url, slot), AdvisoryLock(database_url, slot, break_interval_s=0.05)
    await dead.acquire()
    async with asyncio.timeout(30):
        await heir.acquire()
    assert heir.is_held
    await heir.release()
    await dead.release()
