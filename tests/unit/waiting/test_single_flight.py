"""One piece of work, many waiters."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from pgshapes.errors import CreationFailed, NotNow
from pgshapes.waiting.single_flight import RELEASED_PER_TURN, SingleFlight


class Work:
    """Work that ends when the test lets it; counts how often it was begun and cancelled."""

    def __init__(self) -> None:
        self.gate: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.begun = 0
        self.cancelled = 0

    async def __call__(self) -> str:
        self.begun += 1
        try:
            return await asyncio.shield(self.gate)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def join(
    flights: SingleFlight[str, str], work: Work, count: int, timeout_s: float = 60
) -> list[asyncio.Task[str]]:
    async def wait() -> str:
        return await flights.wait("k", work, timeout_s)

    return [asyncio.create_task(wait()) for _ in range(count)]


async def test_all_get_the_result_of_one_piece_of_work() -> None:
    flights, work = SingleFlight[str, str](), Work()
    waiters = join(flights, work, 500)
    await turns()
    assert (work.begun, flights.begun, flights.joined, flights.waiters) == (1, 1, 499, 500)
    work.gate.set_result("handle")
    assert await asyncio.gather(*waiters) == ["handle"] * 500
    assert (flights.under_way, flights.waiters) == (0, 0)


async def test_all_get_the_error() -> None:
    flights, work = SingleFlight[str, str](), Work()
    waiters = join(flights, work, 100)
    await turns()
    work.gate.set_exception(CreationFailed("no"))
    results = await asyncio.gather(*waiters, return_exceptions=True)
    assert {type(result) for result in results} == {CreationFailed}


async def test_waiters_are_released_a_few_per_turn() -> None:
    flights, work = SingleFlight[str, str](), Work()
    waiters = join(flights, work, 500)
    await turns()
    work.gate.set_result("handle")
    most, done = 0, 0
    while done < len(waiters):
        await asyncio.sleep(0)
        now = sum(waiter.done() for waiter in waiters)
        most, done = max(most, now - done), now
    assert 0 < most <= RELEASED_PER_TURN


async def test_a_deadline_ends_one_wait_and_not_the_work() -> None:
    flights, work = SingleFlight[str, str](), Work()
    waiter = join(flights, work, 1)
    hasty = join(flights, work, 1, timeout_s=0.001)
    with pytest.raises(TimeoutError):
        await hasty[0]
    assert (work.cancelled, flights.waiters) == (0, 1)
    work.gate.set_result("handle")
    assert await waiter[0] == "handle"


async def test_the_last_waiter_to_leave_ends_the_work() -> None:
    flights, work = SingleFlight[str, str](), Work()
    waiters = join(flights, work, 3)
    await turns()
    for waiter in waiters[:2]:
        waiter.cancel()
    await turns()
    assert (work.cancelled, flights.waiters, flights.under_way) == (0, 1, 1)
    waiters[2].cancel()
    await turns()
    assert (work.cancelled, flights.waiters, flights.under_way) == (1, 0, 0)


async def test_a_waiter_after_all_have_left_begins_new_work() -> None:
    flights, work = SingleFlight[str, str](), Work()
    (leaving,) = join(flights, work, 1)
    await turns()
    leaving.cancel()
    (staying,) = join(flights, work, 1)
    await turns()
    work.gate.set_result("handle")
    assert await staying == "handle"
    assert work.begun == 2


async def test_a_deadline_in_the_last_wait_ends_the_work() -> None:
    flights, work = SingleFlight[str, str](), Work()
    with pytest.raises(TimeoutError):
        await join(flights, work, 1, timeout_s=0.001)[0]
    await turns()
    assert (work.cancelled, flights.under_way) == (1, 0)


async def test_work_that_is_cancelled_elsewhere_refuses_its_waiters() -> None:
    flights, work = SingleFlight[str, str](), Work()
    waiters = join(flights, work, 2)
    await turns()
    work.gate.cancel()
    results = await asyncio.gather(*waiters, return_exceptions=True)
    assert {type(result) for result in results} == {NotNow}


async def test_leaving_frees_the_memory_of_a_wait() -> None:
    flights, work = SingleFlight[str, str](), Work()
    (staying,) = join(flights, work, 1)
    waiters = join(flights, work, 200)
    await turns()
    traces = [weakref.ref(waiter) for waiter in waiters]
    for waiter in waiters:
        waiter.cancel()
    await asyncio.wait(waiters)
    del waiter, waiters
    gc.collect()
    assert [trace for trace in traces if trace() is not None] == []
    assert flights.waiters == 1
    work.gate.set_result("handle")
    await staying


async def test_a_waiter_is_counted_before_it_is_awaited() -> None:
    flights, work = SingleFlight[str, str](), Work()
    leaving = flights.wait("k", work)
    staying = flights.wait("k", work)
    leaving.cancel()
    await turns()
    assert (work.cancelled, flights.waiters) == (0, 1)
    work.gate.set_result("handle")
    assert await staying == "handle"


async def test_joining_in_the_turn_in_which_the_last_one_leaves_keeps_the_work() -> None:
    flights, work = SingleFlight[str, str](), Work()
    leaving = flights.wait("k", work)
    await turns()
    leaving.cancel()
    staying = flights.wait("k", work)
    await turns()
    work.gate.set_result("handle")
    assert await staying == "handle"
    assert (work.begun, work.cancelled) == (1, 0)


async def test_a_waiter_without_a_deadline_waits_for_the_end() -> None:
    flights, work = SingleFlight[str, str](), Work()
    waiter = flights.wait("k", work)
    await turns()
    work.gate.set_exception(CreationFailed("no"))
    with pytest.raises(CreationFailed):
        await waiter


async def test_work_that_may_not_be_cancelled_continues_without_waiters() -> None:
    flights, work = SingleFlight[str, str](), Work()
    asked: list[int] = []

    def on_abandoned() -> bool:
        asked.append(flights.waiters)
        return len(asked) == 2

    first = flights.begin("k", work(), on_abandoned=on_abandoned).join()
    await turns()
    first.cancel()
    await turns()
    assert (asked, work.cancelled, flights.under_way) == ([0], 0, 1)
    second = flights.wait("k", work)
    second.cancel()
    await turns()
    assert (asked, work.cancelled, flights.under_way) == ([0, 0], 1, 0)
    assert (flights.begun, flights.joined) == (1, 1)


async def test_detached_work_is_not_joined_and_answers_its_waiters() -> None:
    flights, work = SingleFlight[str, str](), Work()
    before = flights.wait("k", work)
    await turns()
    flights.detach()
    after = flights.wait("k", work)
    await turns()
    assert (work.begun, flights.under_way) == (2, 1)
    work.gate.set_result("handle")
    assert [*await asyncio.gather(before, after)] == ["handle"] * 2
    assert flights.under_way == 0


async def test_closing_cancels_all_work_and_refuses_its_waiters() -> None:
    flights, work = SingleFlight[str, str](), Work()
    waiters = [flights.wait("k", work)]
    flights.detach()
    waiters.append(flights.wait("k", work))
    await turns()
    await flights.close()
    results = await asyncio.gather(*waiters, return_exceptions=True)
    assert {type(result) for result in results} == {NotNow}
    assert work.cancelled == 2
