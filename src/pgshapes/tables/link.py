"""How a caller reaches the owner: the tables to read, and calls for what cannot be read.

`OwnerLink` is the seam. The link inside one process is here, the link between processes in `unix_link`.
Invariants of every link: when a call has been answered, the caller's tables hold all that the owner wrote
before the answer. An error arrives as the class that was raised.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from pgshapes.errors import OwnerTimeout, PgShapesError
from pgshapes.tables.calls import Call, Reply
from pgshapes.tables.mailbox import Answerer, Handler, Mailbox
from pgshapes.tables.tables import Tables
from pgshapes.tables.tables_reader import TablesReader


class OwnerLink(Protocol):
    """A caller's connection to the owner, which is established again when it is lost."""

    @property
    def tables(self) -> TablesReader:
        """The tables of this process; always the same object for one link."""

    @property
    def epoch(self) -> int:
        """The epoch of the owner that wrote the tables. It changes together with them."""

    @property
    def is_connected(self) -> bool:
        """Whether the tables follow the owner now. If not, they are the last known state."""

    @property
    def is_following(self) -> bool:
        """Whether it is connected, and the tables have all that they must have to be served from."""

    async def connected(self) -> None:
        """Wait until `is_connected`."""

    async def call(self, call: Call, *, timeout_s: float) -> Reply:
        """Send a call to the owner and wait for the reply.

        Raises what the owner raised, OwnerTimeout after `timeout_s`, and OwnerUnavailable when the owner
        cannot be reached or is lost before it has answered: always a PgShapesError, so that each has an
        answer for clients. Cancelling the calling task cancels the call.
        """

    async def barrier(self, *, timeout_s: float) -> None:
        """Wait until the tables are at least as new as the owner's are now.

        Raises OwnerTimeout after `timeout_s`, OwnerUnavailable as `call` does.
        """


@asynccontextmanager
async def answered_within(timeout_s: float) -> AsyncIterator[None]:
    """Raise OwnerTimeout in the block after `timeout_s`."""
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError:
        raise OwnerTimeout("the owner does not answer") from None


class InProcessLink:
    """Owner and callers in one event loop: the tables are the owner's own, a call is a task."""

    def __init__(self, tables: Tables, handler: Handler) -> None:
        self.mailbox = Mailbox(handler)
        self._tables = tables

    @property
    def tables(self) -> Tables:
        """The owner's tables themselves."""
        return self._tables

    @property
    def epoch(self) -> int:
        """The tables' epoch."""
        return self._tables.epoch

    @property
    def is_connected(self) -> bool:
        """Always true."""
        return True

    @property
    def is_following(self) -> bool:
        """Always true."""
        return True

    async def connected(self) -> None:
        """Return at once."""

    async def call(self, call: Call, *, timeout_s: float) -> Reply:
        """See `OwnerLink.call`."""
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        context = self.mailbox.receive(call, time.monotonic() + timeout_s, answerer(answer))
        try:
            async with answered_within(timeout_s):
                return await answer
        finally:
            if not answer.done() or answer.cancelled():
                context.cancel()

    async def barrier(self, *, timeout_s: float) -> None:
        """Return at once: the tables are the owner's."""

    async def close(self) -> None:
        """Cancel the calls under way."""
        await self.mailbox.close()


def answerer(future: asyncio.Future[Reply]) -> Answerer:
    """A function that resolves `future` with a reply or an error, unless its waiter was cancelled."""

    def answer(result: Reply | PgShapesError) -> None:
        if future.done():
            return
        if isinstance(result, PgShapesError):
            future.set_exception(result)
        else:
            future.set_result(result)

    return answer
