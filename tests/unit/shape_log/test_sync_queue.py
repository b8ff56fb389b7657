from __future__ import annotations

import asyncio

import pytest

from pgshapes.errors import StorageError
from pgshapes.shape_log.file_store.sync_queue import SyncQueue


class Syncs:
    """Records what it was asked for; each sync waits until it is let go."""

    def __init__(self) -> None:
        self.asked: list[frozenset[str] | None] = []
        self.gates: list[asyncio.Future[None]] = []

    async def __call__(self, handles: frozenset[str] | None) -> None:
        self.asked.append(handles)
        self.gates.append(asyncio.get_running_loop().create_future())
        await self.gates[-1]


async def _turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_requests_during_a_sync_share_the_next() -> None:
    syncs = Syncs()
    queue = SyncQueue(syncs)
    first = asyncio.create_task(queue.request("a"))
    await _turn()
    others = [asyncio.create_task(queue.request(handle)) for handle in ("b", "c", "b")]
    await _turn()
    assert syncs.asked == [frozenset("a")]
    syncs.gates[0].set_result(None)
    await first
    await _turn()
    assert syncs.asked == [frozenset("a"), frozenset("bc")]
    assert not any(task.done() for task in others)
    syncs.gates[1].set_result(None)
    await asyncio.gather(*others)
    await queue.idle()


async def test_one_request_for_all_makes_it_all() -> None:
    syncs = Syncs()
    queue = SyncQueue(syncs)
    tasks = [asyncio.create_task(queue.request(handle)) for handle in ("a", None)]
    await _turn()
    assert syncs.asked == [None]
    syncs.gates[0].set_result(None)
    await asyncio.gather(*tasks)


async def test_a_cancelled_request_leaves_the_sync_running() -> None:
    syncs = Syncs()
    queue = SyncQueue(syncs)
    leaver, stayer = (asyncio.create_task(queue.request(handle)) for handle in ("a", "b"))
    await _turn()
    leaver.cancel()
    await _turn()
    assert leaver.cancelled() and not stayer.done()
    syncs.gates[0].set_result(None)
    await stayer


async def test_a_failure_reaches_who_asked_and_no_one_else() -> None:
    syncs = Syncs()
    queue = SyncQueue(syncs)
    first = asyncio.create_task(queue.request("a"))
    await _turn()
    second = asyncio.create_task(queue.request("b"))
    await _turn()
    syncs.gates[0].set_exception(StorageError("no"))
    with pytest.raises(StorageError):
        await first
    await _turn()
    syncs.gates[1].set_result(None)
    await second
