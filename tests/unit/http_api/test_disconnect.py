"""Cancelling requests whose clients disconnect."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pgshapes.errors import NotNow
from pgshapes.http_api.disconnect import WaitingRequests


class FakeConnection:
    """A connection that the client can close."""

    has_begun = False

    def __init__(self) -> None:
        self.listeners = 0
        self._disconnected = asyncio.Event()

    def disconnect(self) -> None:
        self._disconnected.set()

    async def receive(self) -> dict[str, Any]:
        self.listeners += 1
        try:
            await self._disconnected.wait()
        finally:
            self.listeners -= 1
        return {"type": "http.disconnect"}


async def test_work_that_never_waits_is_not_listened_for() -> None:
    connection = FakeConnection()

    async def work() -> None:
        done.append(1)

    done: list[int] = []
    assert await WaitingRequests().run(work(), connection)
    await asyncio.sleep(0)
    assert (done, connection.listeners) == ([1], 0)


async def test_work_that_waits_is_completed_while_its_client_is_connected() -> None:
    connection, go = FakeConnection(), asyncio.Event()
    done: list[int] = []

    async def work() -> None:
        await go.wait()
        await asyncio.sleep(0)
        done.append(1)

    task = asyncio.create_task(WaitingRequests().run(work(), connection))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert connection.listeners == 1
    go.set()
    assert await task
    assert done == [1]
    await asyncio.sleep(0)
    assert connection.listeners == 0


async def test_work_is_cancelled_when_its_client_disconnects() -> None:
    connection = FakeConnection()
    released: list[int] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            released.append(1)

    task = asyncio.create_task(WaitingRequests().run(work(), connection))
    await asyncio.sleep(0)
    connection.disconnect()
    assert await asyncio.wait_for(task, 20) is False
    assert released == [1]
    assert task.cancelling() == 0


async def test_a_cancellation_from_elsewhere_is_passed_on() -> None:
    connection = FakeConnection()
    task = asyncio.create_task(WaitingRequests().run(asyncio.sleep(1000), connection))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    assert connection.listeners == 0


async def test_a_failure_is_passed_on() -> None:
    async def work() -> None:
        await asyncio.sleep(0)
        raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        await WaitingRequests().run(work(), FakeConnection())


async def test_work_may_use_timeouts() -> None:
    seen: list[str] = []

    async def work() -> None:
        try:
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        except TimeoutError:
            seen.append("late")

    assert await WaitingRequests().run(work(), FakeConnection())
    assert seen == ["late"]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_work_that_waits_is_refused(when: str) -> None:
    """Also work that begins to wait later."""
    waiting, released = WaitingRequests(), list[int]()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            released.append(1)

    if when == "before":
        waiting.refuse()
    task = asyncio.create_task(waiting.run(work(), FakeConnection()))
    await asyncio.sleep(0)
    if when == "after":
        waiting.refuse()
    with pytest.raises(NotNow):
        await asyncio.wait_for(task, 20)
    assert released == [1]
    assert task.cancelling() == 0


async def test_a_response_that_has_begun_is_not_refused() -> None:
    waiting, connection, go = WaitingRequests(), FakeConnection(), asyncio.Event()

    async def work() -> None:
        connection.has_begun = True
        await go.wait()

    task = asyncio.create_task(waiting.run(work(), connection))
    await asyncio.sleep(0)
    waiting.refuse()
    await asyncio.sleep(0)
    assert not task.done()
    go.set()
    assert await task


async def test_a_cancellation_from_elsewhere_is_passed_on_also_if_it_was_refused() -> None:
    waiting = WaitingRequests()
    task = asyncio.create_task(waiting.run(asyncio.sleep(1000), FakeConnection()))
    await asyncio.sleep(0)
    waiting.refuse()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
