"""Retries a snapshot until it is complete, with growing pauses, up to a deadline.

Race: a transaction is delivered in the stream before a new snapshot sees it, usually by microseconds. A
snapshot that is taken in between lacks its rows, and they are not delivered again: a shape made from it would
lack them indefinitely, and a subset would be older than what its client has. So each snapshot is checked, and
taken again if it does not see enough.

Invariant: at least one attempt is made, one at a time, and each that failed is counted before the deadline is
considered. No state is kept between calls.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

T = TypeVar("T")

FIRST_PAUSE_S: Final = 0.001
"""A transaction is usually visible microseconds after it was delivered."""
LONGEST_PAUSE_S: Final = 0.25
"""While a synchronous standby is unavailable it may take indefinitely."""


async def retake(
    take: Callable[[], Awaitable[T | None]],
    timeout_s: float,
    on_retake: Callable[[], None],
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> T | None:
    """What `take` returns first that is not None; None when that was not before the deadline.

    Pauses 1, 2, 4 … 250 ms between attempts. `on_retake` is called after each that returned None. Raises what
    `take` raises.
    """
    deadline_s, pause_s = clock() + timeout_s, FIRST_PAUSE_S
    while (taken := await take()) is None:
        on_retake()
        if clock() >= deadline_s:
            return None
        await sleep(pause_s)
        pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
    return taken
