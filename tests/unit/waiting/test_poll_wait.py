"""The intervals of polling, with a fake clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgshapes.waiting.notice import Notice
from pgshapes.waiting.poll_wait import SHORTEST_SLEEP_S, until

T = TypeVar("T")


class Time:
    """A clock that only sleeping advances; records the sleeps."""

    def __init__(self, randoms: list[float] | None = None) -> None:
        self.now = 1000.0
        self.sleeps: list[float] = []
        self._randoms = randoms or [0.5]

    def clock(self) -> float:
        return self.now

    async def sleep(self, duration_s: float) -> None:
        self.sleeps.append(duration_s)
        self.now += duration_s

    def random(self) -> float:
        return self._randoms[len(self.sleeps) % len(self._randoms)]

    async def until(self, check: Callable[[], T | None], timeout_s: float, **options: Any) -> T:
        return await until(
            check, timeout_s, clock=self.clock, sleep=self.sleep, random=self.random, **options
        )


def after(checks: int) -> Callable[[], bool]:
    """A check that is true at the `checks`-th call."""
    seen = iter(range(1, 1_000_000))
    return lambda: next(seen) >= checks


async def test_a_true_condition_needs_no_sleep() -> None:
    time = Time()
    assert await time.until(lambda: "yes", 0) == "yes"
    assert time.sleeps == []


async def test_the_default_schedule_doubles_from_25_to_500_ms() -> None:
    time = Time()
    await time.until(after(9), 60)
    assert time.sleeps == pytest.approx([0.025, 0.05, 0.1, 0.2, 0.4, 0.5, 0.5, 0.5])


async def test_two_waits_with_different_settings_do_not_influence_each_other() -> None:
    one, other = Time(), Time()
    await asyncio.gather(
        one.until(after(9), 60, initial_s=0.005, cap_s=0.1),
        other.until(after(4), 60, initial_s=1.0, factor=3.0, cap_s=5.0),
    )
    assert one.sleeps == pytest.approx([0.005, 0.01, 0.02, 0.04, 0.08, 0.1, 0.1, 0.1])
    assert other.sleeps == pytest.approx([1.0, 3.0, 5.0])
    again = Time()
    await again.until(after(3), 60)
    assert again.sleeps == pytest.approx([0.025, 0.05])


@given(
    randoms=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=20),
    initial_s=st.floats(0.00001, 1),
    cap_s=st.floats(0.01, 2),
    timeout_s=st.floats(0, 5),
)
async def test_sleeps_stay_within_jitter_deadline_and_1_ms(
    randoms: list[float], initial_s: float, cap_s: float, timeout_s: float
) -> None:
    time = Time(randoms)
    with pytest.raises(TimeoutError):
        await time.until(lambda: None, timeout_s, initial_s=initial_s, cap_s=cap_s)
    assert time.now <= 1000.0 + timeout_s + 1e-9
    assert all(sleep >= SHORTEST_SLEEP_S for sleep in time.sleeps)
    expected_s = initial_s
    for sleep in time.sleeps[:-1]:
        assert max(0.75 * expected_s, SHORTEST_SLEEP_S) <= sleep * 1.0000001
        assert sleep <= max(1.25 * expected_s, SHORTEST_SLEEP_S) * 1.0000001
        expected_s = min(expected_s * 2, cap_s)


async def test_it_checks_once_more_at_the_deadline() -> None:
    time = Time()
    looked_at: list[float] = []

    def check() -> bool:
        looked_at.append(time.now - 1000.0)
        return time.now >= 1001.0

    assert await time.until(check, 1.0)
    assert looked_at[-1] == pytest.approx(1.0)


async def test_without_time_it_still_checks_once() -> None:
    checks: list[None] = []
    with pytest.raises(TimeoutError):
        await Time().until(lambda: checks.append(None), 0)
    assert len(checks) == 1


async def test_a_notice_ends_the_sleep_early() -> None:
    state: list[str] = []
    change = Notice()

    async def forever(duration_s: float) -> None:
        await asyncio.Event().wait()

    waiting = asyncio.create_task(until(lambda: state, 60, notice=lambda: change, sleep=forever))
    await asyncio.sleep(0)
    state.append("done")
    change.give()
    async with asyncio.timeout(10):
        assert await waiting == ["done"]


async def test_a_lost_notice_costs_time_only() -> None:
    time = Time()
    await time.until(after(3), 60, notice=lambda: asyncio.get_running_loop().create_future())
    assert time.sleeps == pytest.approx([0.025, 0.05])


async def test_a_notice_is_taken_before_each_check() -> None:
    order: list[str] = []

    def notice() -> asyncio.Future[None]:
        order.append("notice")
        return asyncio.get_running_loop().create_future()

    def check() -> bool:
        order.append("look")
        return len(order) >= 6

    await Time().until(check, 60, notice=notice)
    assert order == ["notice", "look"] * 3


async def test_cancelling_a_wait_leaves_no_task() -> None:
    waiting = asyncio.create_task(until(lambda: False, 60, notice=Notice))
    await asyncio.sleep(0.001)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
