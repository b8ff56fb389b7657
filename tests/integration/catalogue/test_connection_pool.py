"""The pool lends each connection to one borrower, and only usable ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from pgshapes.postgres.connection import Connection, ConnectionPool, PoolTimeout

MakePool = Callable[[int], ConnectionPool]


async def pid(pool: ConnectionPool) -> int:
    async with pool.connection() as connection:
        return connection.info.backend_pid


async def test_a_connection_is_reused(make_pool: MakePool) -> None:
    pool = make_pool(3)
    assert len({await pid(pool) for _ in range(5)}) == 1


async def test_borrowers_are_bounded_and_served_in_order(make_pool: MakePool) -> None:
    pool = make_pool(1)
    order: list[int] = []

    async def borrow(number: int) -> None:
        async with pool.connection():
            order.append(number)

    async with pool.connection():
        borrowers = [asyncio.create_task(borrow(number)) for number in range(5)]
        while pool.waiting < 5:
            await asyncio.sleep(0)
        borrowers.pop(2).cancel()
    await asyncio.gather(*borrowers)
    assert order == [0, 1, 3, 4]
    assert pool.waiting == 0


async def test_waiting_too_long_raises_pool_timeout(make_pool: MakePool) -> None:
    pool = make_pool(1)
    async with pool.connection():
        with pytest.raises(PoolTimeout):
            async with pool.connection(0.01):
                pass
    assert await pid(pool)


async def test_an_open_transaction_is_rolled_back_before_the_connection_is_lent_again(
    make_pool: MakePool,
) -> None:
    pool = make_pool(1)
    async with pool.connection() as connection:
        await connection.execute("CREATE TABLE public.left_behind ()")
        await connection.execute("BEGIN; DROP TABLE public.left_behind")
        first = connection.info.backend_pid
    async with pool.connection() as connection:
        assert connection.info.backend_pid == first
        await connection.execute("SELECT FROM public.left_behind")


async def test_a_connection_with_a_running_query_is_not_lent_again(make_pool: MakePool) -> None:
    pool = make_pool(1)
    async with pool.connection() as connection:
        connection.pgconn.send_query(b"SELECT pg_sleep(60)")
        first = connection.info.backend_pid
    async with pool.connection() as connection:
        while await alive(connection, first):
            await asyncio.sleep(0.01)


async def alive(connection: Connection, pid: int) -> bool:
    found = await connection.execute("SELECT FROM pg_stat_activity WHERE pid = %s", (pid,))
    return await found.fetchone() is not None


async def test_a_connection_that_a_cancellation_may_hit_is_not_lent_again(make_pool: MakePool) -> None:
    pool = make_pool(1)
    loan = await pool.borrow()
    first = loan.connection.info.backend_pid
    cancellation = asyncio.create_task(asyncio.sleep(0.01))
    ended = loan.end(cancellation)
    assert loan.end() is ended
    assert await pid(pool) != first
    assert cancellation.done()
    async with asyncio.timeout(10):
        await ended


@pytest.mark.parametrize("steps", range(4))
async def test_a_borrower_that_is_cancelled_while_it_returns_loses_nothing(
    make_pool: MakePool, steps: int
) -> None:
    pool = make_pool(1)

    async def borrow() -> None:
        async with pool.connection() as connection:
            await connection.execute("BEGIN")
            is_begun.set()

    is_begun = asyncio.Event()
    borrower = asyncio.create_task(borrow())
    await is_begun.wait()
    for _ in range(steps):
        await asyncio.sleep(0)
    borrower.cancel()
    async with pool.connection(5) as connection:
        assert connection.info.transaction_status.name == "IDLE"


async def test_a_connection_whose_cleaning_is_cancelled_is_closed(make_pool: MakePool) -> None:
    pool = make_pool(1)
    loan = await pool.borrow()
    await loan.connection.execute("BEGIN")
    known = asyncio.all_tasks()
    loan.end()
    (cleaning,) = asyncio.all_tasks() - known
    cleaning.cancel()
    async with pool.connection(5) as connection:
        assert connection is not loan.connection
    assert loan.connection.closed


async def test_a_connection_that_the_server_closed_is_not_lent_again(
    db: Connection, make_pool: MakePool
) -> None:
    pool = make_pool(1)
    first = await pid(pool)
    await db.execute("SELECT pg_terminate_backend(%s, 10000)", (first,))
    assert await pid(pool) != first


async def test_a_failed_connect_frees_its_slot(make_pool: MakePool) -> None:
    attempts = 0

    async def fail() -> Connection:
        nonlocal attempts
        attempts += 1
        raise ConnectionError("no")

    pool = ConnectionPool(fail, 1)
    for _ in range(3):
        with pytest.raises(ConnectionError):
            await pid(pool)
    assert attempts == 3


async def test_a_connection_returned_after_close_is_closed(make_pool: MakePool) -> None:
    pool = make_pool(1)
    async with pool.connection() as connection:
        await pool.close()
    assert connection.closed
