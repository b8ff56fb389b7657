"""Waits for a condition by checking it repeatedly, at growing intervals, until a deadline.

Race: what is waited for is written by another process, which may die, restart or reconnect between its write
and its notification. With notifications alone a lost one would leave the caller waiting until its deadline,
although what it waits for is there. So the condition is found by checking it: a notice may end a sleep early,
and a late or lost one costs time only.

Invariants: it checks before it considers the deadline; no sleep ends after the deadline and none is shorter
than 1 ms. Every setting is the call's own; no state is kept between calls.
"""

from __future__ import annotations

import asyncio
import random as _random
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

T = TypeVar("T")

SHORTEST_SLEEP_S: Final = 0.001
"""Below this a poll is a busy loop: the clock of an event loop does not resolve more."""


async def until(
    check: Callable[[], T | None],
    timeout_s: float,
    *,
    initial_s: float = 0.025,
    factor: float = 2.0,
    cap_s: float = 0.5,
    jitter: float = 0.25,
    notice: Callable[[], Awaitable[None]] | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    random: Callable[[], float] = _random.random,
) -> T:
    """The first truthy result of `check`. Raises TimeoutError when there was none by the deadline.

    Sleeps `initial_s`, then `factor` times as long each time up to `cap_s`, up to `jitter` more or less.
    `notice()` is called before each check; what it returns is awaited beside the sleep, or dropped: a
    `Notice`, not a coroutine.
    """
    deadline = clock() + timeout_s
    interval_s = initial_s
    while True:
        change = None if notice is None else notice()
        result = check()
        if result:
            return result
        remaining_s = deadline - clock()
        if remaining_s < SHORTEST_SLEEP_S:
            raise TimeoutError
        jittered_s = interval_s * (1 + jitter * (2 * random() - 1))
        nap = sleep(min(max(jittered_s, SHORTEST_SLEEP_S), remaining_s))
        await (nap if change is None else _first_of(nap, change))
        interval_s = min(interval_s * factor, cap_s)


async def _first_of(nap: Awaitable[None], change: Awaitable[None]) -> None:
    waiting = [asyncio.ensure_future(nap), asyncio.ensure_future(change)]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waiting:
            wait.cancel()
