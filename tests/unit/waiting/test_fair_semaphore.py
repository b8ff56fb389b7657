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


class House:
    """Tasks that hold slots until they are told to leave."""

    def __init__(self, limit: int) -> None:
        self.slots: FairSemaphore[str] = FairSemaphore(limit)
        self.inside: Counter[str] = Counter()
        self.entered: list[str] = []
        self._leave = {key: asyncio.Event() for key in "abcdefgh"}
        self.tasks: list[asyncio.Task[None]] = []

    def send(self, key: str, count: int = 1) -> list[asyncio.Task[None]]:
        sent = [asyncio.create_task(self._visit(key)) for _ in range(count)]
        self.tasks += sent
        return sent

    async def _visit(self, key: str) -> None:
        async with self.slots.slot(key):
            self.inside[key] += 1
            self.entered.append(key)
            try:
                await self._leave[key].wait()
            finally:
                self.inside[key] -= 1

    async def end(self, key: str) -> None:
        self._leave[key].set()
        await turns(500)


@pytest.mark.parametrize(("limit", "held"), [(1, 1), (2, 1), (4, 2), (16, 8), (64, 32)])
async def test_one_key_gets_half(limit: int, held: int) -> None:
    house = House(limit)
    house.send("a", 100)
    await turns()
    assert (house.inside["a"], house.slots.in_use, house.slots.waiting) == (held, held, 100 - held)
    await house.end("a")
    assert (house.slots.in_use, house.slots.waiting) == (0, 0)


async def test_each_further_key_that_is_held_up_gets_half_of_the_rest() -> None:
    house = House(64)
    for key in "abcdef":
        house.send(key, 40)
        await turns()
    assert [house.inside[key] for key in "abcdef"] == [32, 16, 8, 4, 2, 1]
    house.send("g")
    await turns()
    assert house.inside["g"] == 1


async def test_a_key_that_is_held_up_does_not_hold_up_another() -> None:
    house = House(4)
    house.send("a", 50)
    await turns()
    house.send("b")
    await turns()
    assert house.inside["b"] == 1


async def test_keys_are_served_in_turn() -> None:
    house = House(2)
    house.send("a")
    house.send("b")
    await turns()
    house.send("c", 3)
    house.send("d", 3)
    await turns()
    assert house.entered == ["a", "b"]
    house._leave["c"].set()
    house._leave["d"].set()
    await house.end("a")
    await turns(20)
    assert sorted(house.entered[2:4]) == ["c", "d"]
    assert Counter(house.entered) == {"a": 1, "b": 1, "c": 3, "d": 3}


async def test_who_is_cancelled_while_waiting_takes_no_slot() -> None:
    house = House(2)
    house.send("a")
    (waiting,) = house.send("a")
    await turns()
    waiting.cancel()
    await turns()
    assert (house.slots.in_use, house.slots.waiting) == (1, 0)


async def test_who_is_cancelled_in_the_moment_of_entering_returns_the_slot() -> None:
    house = House(1)
    house.send("a")
    (waiting,) = house.send("b")
    await turns()
    house._leave["a"].set()
    while house.slots.waiting:
        await asyncio.sleep(0)
    waiting.cancel()
    await turns()
    assert (house.slots.in_use, house.slots.waiting) == (0, 0)


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=80), st.integers(1, 8))
async def test_no_slot_is_lost_or_given_twice(steps: list[tuple[str, bool]], limit: int) -> None:
    house = House(limit)
    for key, is_arrival in steps:
        if is_arrival:
            house.send(key)
        else:
            present = [task for task in house.tasks if not task.done()]
            if present:
                present[len(present) // 2].cancel()
        await asyncio.sleep(0)
        assert house.slots.in_use <= limit
    for key in "abcd":
        await house.end(key)
    await turns(200)
    assert all(task.done() for task in house.tasks)
    assert (house.slots.in_use, house.slots.waiting) == (0, 0)
