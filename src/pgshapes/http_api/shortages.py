"""What a response that has begun does when its storage cannot be used now: it waits, and goes on.

An ordinary read answers 503, and the client tries again; a response that has begun could only break off. So
it tries again itself, for a limited time. Damage is not waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from pgshapes.errors import StorageShortage
from pgshapes.waiting.backoff import Backoff

T = TypeVar("T")

LIMIT_S: Final = 10.0
"""Less than the 15 s for which a process that stops waits for its responses."""
_FIRST_S: Final = 0.02
_CAP_S: Final = 0.5


async def outlast(read: Callable[[], Awaitable[T]], limit_s: float = LIMIT_S) -> T:
    """What `read` returns, tried again while it raises StorageShortage; raises that after `limit_s`, and
    whatever else `read` raises at once.
    """
    clock = asyncio.get_running_loop().time
    backoff = Backoff(_FIRST_S, _CAP_S)
    ends_s = clock() + limit_s
    while True:
        try:
            return await read()
        except StorageShortage:
            if clock() >= ends_s:
                raise
        await asyncio.sleep(backoff.next_s())
