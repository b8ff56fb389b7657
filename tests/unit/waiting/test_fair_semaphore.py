"""Slots of which no key can hold all."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgshapes.waiting.fair_semaphore import FairSemaphore


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


class SlotHolders:
    """Tasks that hold slots until `end` is called for their key."""

    def __init__(self, limit: int) -> None:
        self.slots: FairSemaphore[str] = FairSemaphore(limit)
        self.holding: Counter[str] = Counter()
        self.granted: list[str] = []
        self._ends = {key: asyncio.Event() for key in "abcdefgh"}
        self.tasks: list[asyncio.Task[None]] = []

    def begin(self, key: str, count: int = 1) -> list[asyncio.Task[None]]:
        begun = [asyncio.create_task(self._hold(key)) for _ in range(count)]
        self.tasks += begun
        return begun

    async def _hold(self, key: str) -> None:
        async with self.slots.slot(key):
            self.holding[key] += 1
            self.granted.append(key)
            try:
                await self._ends[key].wait()
            finally:
                self.holding[key] -= 1

    async def end(self, key: str) -> None:
        self._ends[key].set()
        await turns(500)


@pytest.mark.parametrize(("limit", "held"), [(1, 1), (2, 1), (4, 2), (16, 8), (64, 32)])
async def test_one_key_gets_half(limit: int, held: int) -> None:
    holders = SlotHolders(limit)
    holders.begin("a", 100)
    await turns()
    assert (holders.holding["a"], holders.slots.in_use, holders.slots.waiting) == (held, held, 100 - held)
    await holders.end("a")
    assert (holders.slots.in_use, holders.slots.waiting) == (0, 0)


async def test_each_further_blocked_key_gets_half_of_the_rest() -> None:
    holders = SlotHolders(64)
    for key in "abcdef":
        holders.begin(key, 40)
        await turns()
    assert [holders.holding[key] for key in "abcdef"] == [32, 16, 8, 4, 2, 1]
    holders.begin("g")
    await turns()
    assert holders.holding["g"] == 1


async def test_a_blocked_key_does_not_block_another() -> None:
    holders = SlotHolders(4)
    holders.begin("a", 50)
    await turns()
    holders.begin("b")
    await turns()
    assert holders.holding["b"] == 1


async def test_keys_are_served_in_turn() -> None:
    holders = SlotHolders(2)
    holders.begin("a")
    holders.begin("b")
    await turns()
    holders.begin("c", 3)
    holders.begin("d", 3)
    await turns()
    assert holders.granted == ["a", "b"]
    holders._ends["c"].set()
    holders._ends["d"].set()
    await holders.end("a")
    await turns(20)
    assert sorted(holders.granted[2:4]) == ["c", "d"]
    assert Counter(holders.granted) == {"a": 1, "b": 1, "c": 3, "d": 3}


async def test_a_task_cancelled_while_waiting_takes_no_slot() -> None:
    holders = SlotHolders(2)
    holders.begin("a")
    (waiting,) = holders.begin("a")
    await turns()
    waiting.cancel()
    await turns()
    assert (holders.slots.in_use, holders.slots.waiting) == (1, 0)


async def test_a_task_cancelled_when_it_gets_its_slot_returns_it() -> None:
    holders = SlotHolders(1)
    holders.begin("a")
    (waiting,) = holders.begin("b")
    await turns()
    holders._ends["a"].set()
    while holders.slots.waiting:
        await asyncio.sleep(0)
    waiting.cancel()
    await turns()
    assert (holders.slots.in_use, holders.slots.waiting) == (0, 0)


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=80), st.integers(1, 8))
async def test_no_slot_is_lost_or_granted_twice(steps: list[tuple[str, bool]], limit: int) -> None:
    holders = SlotHolders(limit)
    for key, is_arrival in steps:
        if is_arrival:
            holders.begin(key)
        else:
            present = [task for task in holders.tasks if not task.done()]
            if present:
                present[len(present) // 2].cancel()
        await asyncio.sleep(0)
        assert holders.slots.in_use <= limit
    for key in "abcd":
        await holders.end(key)
    await turns(200)
    assert all(task.done() for task in holders.tasks)
    assert (holders.slots.in_use, holders.slots.waiting) == (0, 0)
