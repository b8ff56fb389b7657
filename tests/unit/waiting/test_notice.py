"""A notice: many wait, each may be cancelled, nothing is leaked."""

from __future__ import annotations

import asyncio
import gc
import weakref

from pgshapes.tables.tables import Tables
from pgshapes.waiting.notice import Notice


async def test_it_wakes_ten_thousand_and_later_ones_do_not_wait() -> None:
    notice = Notice()
    waiting = [asyncio.ensure_future(notice) for _ in range(10_000)]
    await asyncio.sleep(0)
    assert notice.waiters == 10_000
    notice.give()
    await asyncio.gather(*waiting)
    await notice
    assert notice.waiters == 0


async def test_cancelling_a_waiter_ends_that_wait_only() -> None:
    notice = Notice()
    waiting = [asyncio.ensure_future(notice) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[1].cancel()
    await asyncio.sleep(0)
    assert notice.waiters == 2
    notice.give()
    await asyncio.gather(waiting[0], waiting[2])
    assert waiting[1].cancelled()


async def test_a_waiter_cancelled_in_the_turn_of_the_notice_is_cancelled() -> None:
    notice = Notice()
    waiting = asyncio.ensure_future(notice)
    await asyncio.sleep(0)
    waiting.cancel()
    notice.give()
    await asyncio.gather(waiting, return_exceptions=True)
    assert waiting.cancelled()


async def test_all_waiters_of_a_key_share_one_notice_which_is_freed_with_the_last() -> None:
    table = Tables().progress
    asked = [table.changed("k") for _ in range(100)]
    assert len({id(notice) for notice in asked}) == 1
    gone = weakref.ref(asked[0])
    waiting = asyncio.ensure_future(asked[0])
    asked.clear()
    await asyncio.sleep(0)
    assert gone() is not None
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    del waiting
    await asyncio.sleep(0)
    gc.collect()
    assert gone() is None


def test_asking_for_unknown_keys_and_not_waiting_keeps_nothing() -> None:
    table = Tables().tails
    for number in range(1000):
        table.changed(f"unknown {number}")
    assert len(table._notices) == 0
