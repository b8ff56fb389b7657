"""One batch for many requests, and always one that began after they were made."""

from __future__ import annotations

import asyncio

import pytest

from pgshapes.errors import NotNow, StorageError
from pgshapes.waiting.batch import BatchQueue


class Catalogue:
    """Reads when the test lets it."""

    def __init__(self) -> None:
        self.reads: list[tuple[str, ...]] = []
        self.may_answer = asyncio.Event()
        self.failure: BaseException | None = None
        self.reading = BatchQueue(self._read)

    async def _read(self, keys: tuple[str, ...]) -> dict[str, int]:
        number = len(self.reads)
        self.reads.append(keys)
        await self.may_answer.wait()
        if self.failure is not None:
            raise self.failure
        return {key: number for key in keys if key != "nothing"}

    async def read_of(self, key: str) -> int | None:
        return await self.reading.request(key)


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_requests_during_a_read_share_the_next_one() -> None:
    catalogue = Catalogue()
    first = asyncio.create_task(catalogue.read_of("a"))
    await turns()
    later = [asyncio.create_task(catalogue.read_of(key)) for key in "aabbc"]
    await turns()
    catalogue.may_answer.set()
    assert await first == 0
    assert await asyncio.gather(*later) == [1] * 5
    assert catalogue.reads == [("a",), ("a", "b", "c")]
    assert await catalogue.read_of("a") == 2
    assert catalogue.reading.begun == 3


async def test_a_missing_result_is_none() -> None:
    catalogue = Catalogue()
    catalogue.may_answer.set()
    assert await catalogue.read_of("nothing") is None


async def test_a_failure_is_that_of_its_batch_only() -> None:
    catalogue = Catalogue()
    catalogue.failure = ValueError("no")
    asking = [asyncio.create_task(catalogue.read_of(key)) for key in "ab"]
    await turns()
    catalogue.may_answer.set()
    for task in asking:
        with pytest.raises(ValueError, match="no"):
            await task
    catalogue.failure = None
    assert await catalogue.read_of("a") == 1


async def test_cancelling_one_waiter_does_not_affect_the_others() -> None:
    catalogue = Catalogue()
    leaver, stayer = (asyncio.create_task(catalogue.read_of("a")) for _ in range(2))
    await turns()
    leaver.cancel()
    await turns()
    catalogue.may_answer.set()
    assert await stayer == 0
    assert leaver.cancelled()


async def test_when_a_batch_is_cancelled_no_request_is_left_waiting() -> None:
    catalogue = Catalogue()
    catalogue.failure = asyncio.CancelledError()
    first = asyncio.create_task(catalogue.read_of("a"))
    await turns()
    later = asyncio.create_task(catalogue.read_of("b"))
    await turns()
    catalogue.may_answer.set()
    for request in (first, later):
        with pytest.raises(NotNow, match="stopping"):
            await request
    catalogue.failure = None
    assert await catalogue.read_of("a") == 1


async def test_requests_are_answered_when_their_batch_is_cancelled_before_its_first_step() -> None:
    catalogue = Catalogue()
    known = asyncio.all_tasks()
    request = catalogue.reading.request("a")
    (serving,) = asyncio.all_tasks() - known
    serving.cancel()
    with pytest.raises(NotNow, match="stopping"):
        await request
    catalogue.may_answer.set()
    assert await catalogue.read_of("a") == 0


async def test_idle_waits_for_every_request() -> None:
    catalogue = Catalogue()
    await catalogue.reading.idle()
    first = catalogue.reading.request("a")
    await turns()
    second = catalogue.reading.request("b")
    idle = asyncio.create_task(catalogue.reading.idle())
    await turns()
    assert not idle.done()
    catalogue.may_answer.set()
    await idle
    assert (first.result(), second.result()) == (0, 1)


class Syncs:
    """Requested syncs, without results; each waits until the test lets it end."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.gates: list[asyncio.Future[None]] = []
        self.queue: BatchQueue[str, None] = BatchQueue(self._sync)

    async def _sync(self, handles: tuple[str, ...]) -> dict[str, None]:
        self.asked.append(handles)
        self.gates.append(asyncio.get_running_loop().create_future())
        await self.gates[-1]
        return {}


async def test_requests_during_a_sync_share_the_next() -> None:
    syncs = Syncs()
    first = syncs.queue.request("a")
    await turns()
    others = [syncs.queue.request(handle) for handle in ("b", "c", "b")]
    await turns()
    assert syncs.asked == [("a",)]
    syncs.gates[0].set_result(None)
    await first
    await turns()
    assert syncs.asked == [("a",), ("b", "c")]
    assert not any(other.done() for other in others)
    syncs.gates[1].set_result(None)
    await asyncio.gather(*others)
    await syncs.queue.idle()


async def test_a_cancelled_request_leaves_the_sync_running() -> None:
    syncs = Syncs()
    leaver, stayer = (syncs.queue.request(handle) for handle in "ab")
    await turns()
    leaver.cancel()
    await turns()
    assert leaver.cancelled() and not stayer.done()
    syncs.gates[0].set_result(None)
    await stayer


async def test_a_request_that_is_cancelled_before_its_sync_is_served() -> None:
    syncs = Syncs()
    first = syncs.queue.request("a")
    await turns()
    syncs.queue.request("b").cancel()
    syncs.gates[0].set_result(None)
    await first
    await turns()
    assert syncs.asked == [("a",), ("b",)]
    syncs.gates[1].set_result(None)
    await syncs.queue.idle()


async def test_a_failure_reaches_its_requests_only() -> None:
    syncs = Syncs()
    first = syncs.queue.request("a")
    await turns()
    second = syncs.queue.request("b")
    await turns()
    syncs.gates[0].set_exception(StorageError("no"))
    with pytest.raises(StorageError):
        await first
    await turns()
    syncs.gates[1].set_result(None)
    await second
