"""Work for a caller is cancelled when the caller disconnects; a call is answered however its task ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable

import pytest

from pgshapes.errors import OwnerUnavailable, PgShapesError, RequestError
from pgshapes.tables.calls import Call, ListUnseen, Reply
from pgshapes.tables.mailbox import CallContext, Mailbox, cancel_on_disconnect


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


def begin(work: Work) -> tuple[asyncio.Future[str], CallContext]:
    context = CallContext(time.monotonic() + 60)
    return cancel_on_disconnect(work.run(), context), context


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
    context.cancel()
    await turns()
    assert (call.cancelled(), work.cancelled) == (True, 1)


async def test_work_is_cancelled_when_its_caller_has_disconnected_before() -> None:
    context = CallContext(time.monotonic() + 60)
    context.cancel()
    work = Work()
    call = cancel_on_disconnect(work.run(), context)
    await turns()
    assert (call.cancelled(), work.cancelled) == (True, 0)


async def test_work_is_cancelled_with_the_task_that_waits_for_it() -> None:
    work = Work()
    call, _ = begin(work)
    await turns()
    call.cancel()
    await turns()
    assert (call.cancelled(), work.cancelled) == (True, 1)


class Received:
    """A mailbox with one call, which waits for a future of the handler, and the answers to it."""

    def __init__(self, *, is_coroutine: bool) -> None:
        self.waiter: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.answers: list[Reply | PgShapesError] = []
        self._is_coroutine = is_coroutine
        self.mailbox = Mailbox(self._handle)
        known = asyncio.all_tasks()
        self.mailbox.receive(ListUnseen(), time.monotonic() + 60, self.answers.append)
        (self.task,) = asyncio.all_tasks() - known

    def _handle(self, call: Call, context: CallContext) -> Awaitable[Reply]:
        return self._wait() if self._is_coroutine else self.waiter

    async def _wait(self) -> Reply:
        return await self.waiter


@pytest.mark.parametrize("is_coroutine", [False, True])
@pytest.mark.parametrize("steps", [0, 1])
async def test_a_call_whose_task_is_cancelled_is_answered(steps: int, is_coroutine: bool) -> None:
    received = Received(is_coroutine=is_coroutine)
    await turns(steps)
    received.task.cancel()
    await turns()
    assert [type(answer) for answer in received.answers] == [OwnerUnavailable]
    assert received.mailbox.depth == 0
    assert received.waiter.cancelled() or (is_coroutine and steps == 0)


async def test_a_call_is_answered_when_the_mailbox_closes_in_the_same_turn() -> None:
    received = Received(is_coroutine=False)
    await received.mailbox.close()
    assert [type(answer) for answer in received.answers] == [OwnerUnavailable]
    assert (received.mailbox.depth, received.waiter.cancelled()) == (0, True)
