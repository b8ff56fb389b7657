"""One read for many, and always one that began after it was asked for."""

from __future__ import annotations

import asyncio

import pytest

from pgshapes.waiting.batch import BatchQueue


class Catalogue:
    """Reads when it is told to."""

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


async def test_who_asks_during_a_read_shares_the_next_one() -> None:
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


async def test_what_is_not_found_is_none() -> None:
    catalogue = Catalogue()
    catalogue.may_answer.set()
    assert await catalogue.read_of("nothing") is None


async def test_a_failure_is_that_of_all_who_shared_the_read_and_of_no_other() -> None:
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


async def test_one_who_leaves_takes_nothing_from_the_others() -> None:
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
    await asyncio.wait([first, later])
    assert first.cancelled() and later.cancelled()
    catalogue.failure = None
    assert await catalogue.read_of("a") == 1


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
