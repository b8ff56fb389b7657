"""Runs a function in a thread, to its end.

Race: a task that waits for `asyncio.to_thread` is cancelled. The thread goes on, and what it writes then is
written beside what the next user of the same files or objects does. So a cancellation is raised only when the
function has ended.

Invariant: when `to_its_end` returns or raises, the function does not run any more. State: none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from pgshapes.waiting.background import begin, holds_nothing

P = ParamSpec("P")
T = TypeVar("T")


async def to_its_end(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of the function. Raises what it raised; CancelledError, after it, if the task is cancelled
    meanwhile.
    """
    running = begin(asyncio.to_thread(function, *args, **kwargs), at_end=holds_nothing)
    was_cancelled = False
    while not running.done():
        try:
            await asyncio.wait({running})
        except asyncio.CancelledError:
            was_cancelled = True
    if was_cancelled:
        if not running.cancelled():
            running.exception()  # marked as retrieved
        raise asyncio.CancelledError
    return running.result()
