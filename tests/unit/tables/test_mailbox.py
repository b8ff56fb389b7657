"""Work for a caller is cancelled when the caller disconnects."""

from __future__ import annotations

import asyncio
import time

import pytest

from pgshapes.errors import NotNow, RequestError
from pgshapes.tables.mailbox import CallContext, cancel_on_disconnect


class Work:
    """Work that ends when the test lets it; counts how often it was cancelled."""

    def __init__(self) -> None:
        self.gate: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.cancelled = 0

    async def run(self) -> str:
        try:
            return await self.gate
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


def begin(work: Work) -> tuple[asyncio.Task[str], CallContext]:
    context = CallContext(time.monotonic() + 60)
    return asyncio.create_task(cancel_on_disconnect(work.run(), context)), context


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_the_result_is_that_of_the_work() -> None:
    work = Work()
    call, _ = begin(work)
    work.gate.set_result("handle")
    assert await call == "handle"


async def test_a_failure_is_that_of_the_work() -> None:
    work = Work()
    call, _ = begin(work)
    work.gate.set_exception(RequestError.field("table", "no"))
    with pytest.raises(RequestError):
        await call


async def test_work_is_cancelled_when_its_caller_disconnects() -> None:
    work = Work()
    call, context = begin(work)
    await turns()
    context.cancelled.set()
    with pytest.raises(NotNow):
        await call
    await turns()
    assert work.cancelled == 1


async def test_work_is_cancelled_with_the_task_that_waits_for_it() -> None:
    work = Work()
    call, _ = begin(work)
    await turns()
    call.cancel()
    await turns()
    assert (call.cancelled(), work.cancelled) == (True, 1)
