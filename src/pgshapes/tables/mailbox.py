"""The owner's mailbox: the calls that are received and not yet answered, and counts of how calls ended.

It does not know where calls come from. Invariants: the handler is called in the loop turn in which a call is
received, so no other code runs before its first await: a creation is claimed by then. A call whose
deadline has passed is not begun. A call whose caller has disconnected is not answered. State is owned by the
owner's event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Final, TypeVar

from pgshapes.errors import NotNow, OwnerUnavailable, PgShapesError
from pgshapes.tables.calls import Call, Reply

T = TypeVar("T")

ABANDONED: Final = "The caller has disconnected"


class CallContext:
    """Deadline and cancellation of the call that a handler carries out."""

    __slots__ = ("cancelled", "deadline")

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        """When the caller stops waiting, in `time.monotonic` seconds."""
        self.cancelled = asyncio.Event()
        """Set when the caller no longer waits: at its deadline, when it cancels, or when its link is lost."""

    @property
    def is_cancelled(self) -> bool:
        """Whether the caller no longer waits."""
        return self.cancelled.is_set()

    @property
    def remaining_s(self) -> float:
        """Seconds until the deadline, negative after it."""
        return self.deadline - time.monotonic()


async def cancel_on_disconnect(work: Awaitable[T], context: CallContext) -> T:
    """Run work for a caller; cancel it when the caller disconnects. Raises NotNow then, which is not sent."""
    task, left = asyncio.ensure_future(work), asyncio.ensure_future(context.cancelled.wait())
    task.add_done_callback(_retrieve_error)
    try:
        await asyncio.wait((task, left), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise NotNow(ABANDONED)
        return await task
    finally:
        left.cancel()
        task.cancel()


def _retrieve_error(task: asyncio.Future[T]) -> None:
    """Mark the exception as retrieved: the caller may disconnect in the same loop turn."""
    if not task.cancelled():
        task.exception()


Handler = Callable[[Call, CallContext], Awaitable[Reply]]
"""Carries out a call. Called when the call is received; what it returns is awaited in a task of its own."""

Answerer = Callable[[Reply | PgShapesError], None]


class Outcome(Enum):
    """How a call ended."""

    ANSWERED = "answered"
    REFUSED = "refused"
    """Answered with one of our errors."""
    BROKEN = "broken"
    """The handler raised something that is not one of our errors: a defect."""
    EXPIRED = "expired"
    """Received after its deadline: not begun."""
    ABANDONED = "abandoned"
    """The caller stopped waiting before the answer."""


class Mailbox:
    """Carries out calls with one handler, counts them, and answers those that are still wanted."""

    def __init__(self, handler: Handler) -> None:
        self.depth = 0
        """Calls received and not yet done."""
        self.high_water = 0
        """The greatest depth so far."""
        self.calls: Counter[str] = Counter()
        """Calls received, by tag."""
        self.outcomes: Counter[Outcome] = Counter()
        self.tap: Callable[[Call], None] | None = None
        """Called with every call that is received; for tests and traces."""
        self._handler = handler
        self._tasks: set[asyncio.Task[None]] = set()

    def receive(self, call: Call, deadline: float, answer: Answerer) -> CallContext:
        """Begin a call. `answer` gets its reply or error unless the context is cancelled first."""
        context = CallContext(deadline)
        self.calls[_tag(call)] += 1
        if self.tap is not None:
            self.tap(call)
        if context.remaining_s <= 0:
            self.outcomes[Outcome.EXPIRED] += 1
            return context
        self.depth += 1
        self.high_water = max(self.high_water, self.depth)
        task = asyncio.ensure_future(self._carry_out(self._begin(call, context), context, answer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return context

    def _begin(self, call: Call, context: CallContext) -> Awaitable[Reply]:
        try:
            return self._handler(call, context)
        except Exception as error:
            return _raise(error)

    async def _carry_out(self, work: Awaitable[Reply], context: CallContext, answer: Answerer) -> None:
        outcome = Outcome.ABANDONED
        result: Reply | PgShapesError = OwnerUnavailable("the owner has stopped")
        try:
            outcome, result = await _result_of(work)
        finally:
            self.depth -= 1
            if context.is_cancelled:
                outcome = Outcome.ABANDONED
            else:
                answer(result)
            self.outcomes[outcome] += 1

    async def close(self) -> None:
        """Cancel the calls under way; their callers get OwnerUnavailable."""
        await asyncio.sleep(0)
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _tag(call: Call) -> str:
    return str(call.__struct_config__.tag)


async def _raise(error: Exception) -> Reply:
    raise error


async def _result_of(work: Awaitable[Reply]) -> tuple[Outcome, Reply | PgShapesError]:
    try:
        return Outcome.ANSWERED, await work
    except PgShapesError as error:
        return Outcome.REFUSED, error
    except Exception as error:
        asyncio.get_running_loop().call_exception_handler(
            {"message": "a call to the owner failed unexpectedly", "exception": error}
        )
        return Outcome.BROKEN, PgShapesError(f"unexpected {type(error).__name__}")
