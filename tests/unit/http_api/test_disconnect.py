"""Cancelling requests whose clients disconnect."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pgshapes.http_api.disconnect import while_connected


class FakeConnection:
    """A connection that the client can close."""

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
    async def receive() -> dict[str, Any]:
        raise AssertionError("receive must not be called")

    async def work() -> None:
        done.append(1)

    done: list[int] = []
    assert await while_connected(work(), receive)
    assert done == [1]


async def test_work_that_waits_is_completed_while_its_client_is_connected() -> None:
    connection, go = FakeConnection(), asyncio.Event()
    done: list[int] = []

    async def work() -> None:
        await go.wait()
        await asyncio.sleep(0)
        done.append(1)

    task = asyncio.create_task(while_connected(work(), connection.receive))
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

    task = asyncio.create_task(while_connected(work(), connection.receive))
    await asyncio.sleep(0)
    connection.disconnect()
    assert await asyncio.wait_for(task, 20) is False
    assert released == [1]
    assert task.cancelling() == 0


async def test_a_cancellation_from_elsewhere_is_passed_on() -> None:
    connection = FakeConnection()
    task = asyncio.create_task(while_connected(asyncio.sleep(1000), connection.receive))
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
        await while_connected(work(), FakeConnection().receive)


async def test_work_may_use_timeouts() -> None:
    seen: list[str] = []

    async def work() -> None:
        try:
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        except TimeoutError:
            seen.append("late")

    assert await while_connected(work(), FakeConnection().receive)
    assert seen == ["late"]
