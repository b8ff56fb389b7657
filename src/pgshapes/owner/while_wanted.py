"""Work that somebody waits for, ended when he leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from pgshapes.errors import NotNow
from pgshapes.tables.mailbox import CallContext

T = TypeVar("T")

ABANDONED = "Nobody waits for this any more"


async def while_wanted(work: Awaitable[T], context: CallContext) -> T:
    """The result of `work`, which is cancelled when the caller leaves first. Raises NotNow then; nobody hears
    it.
    """
    task, left = asyncio.ensure_future(work), asyncio.ensure_future(context.cancelled.wait())
    task.add_done_callback(_note_error)
    try:
        await asyncio.wait((task, left), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise NotNow(ABANDONED)
        return await task
    finally:
        left.cancel()
        task.cancel()


def _note_error(task: asyncio.Future[T]) -> None:
    """Mark the outcome as seen: the caller may leave in the moment in which it comes."""
    if not task.cancelled():
        task.exception()
