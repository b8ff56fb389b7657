"""The owner's mailbox: the calls that are received and not yet answered, and counts of how calls ended.

It does not know where calls come from. Invariants: the handler is called in the loop turn in which a call is
received, so no other code runs before its first await: a creation is claimed by then. A call whose
deadline has passed is not begun. A call whose caller has disconnected is not answered, every other call once,
also if its task is cancelled before its first step. State is owned by the owner's event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from enum import Enum
from functools import partial
from typing import Any, Final, TypeVar

from pgshapes.errors import OwnerUnavailable, PgShapesError
from pgshapes.tables.calls import Call, Reply
from pgshapes.waiting.background import begin

T = TypeVar("T")


class CallContext:
    """Deadline and cancellation of the call that a handler carries out."""

    __slots__ = ("_work", "cancelled", "deadline")

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        """When the caller stops waiting, in `time.monotonic` seconds."""
        self.cancelled = asyncio.Event()
        """Set when the caller no longer waits: at its deadline, when it cancels, or when its link is lost."""
        self._work: asyncio.Future[Any] | None = None

    @property
    def is_cancelled(self) -> bool:
        """Whether the caller no longer waits."""
        return self.cancelled.is_set()

    @property
    def remaining_s(self) -> float:
        """Seconds until the deadline, negative after it."""
        return self.deadline - time.monotonic()

    def cancel(self) -> None:
        """The caller no longer waits."""
        self.cancelled.set()
        if self._work is not None:
            self._work.cancel()

    def cancels(self, work: asyncio.Future[T]) -> asyncio.Future[T]:
        """`work`, which is cancelled when the caller no longer waits."""
        self._work = work
        if self.is_cancelled:
            work.cancel()
        return work


def cancel_on_disconnect(work: Coroutine[Any, Any, T], context: CallContext) -> asyncio.Future[T]:
    """Run work for a caller; cancel it when the caller disconnects."""
    return context.cancels(begin(work, at_end=_retrieve_error))


def _retrieve_error(task: asyncio.Future[Any]) -> None:
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


_Result = tuple[Outcome, Reply | PgShapesError]
_STOPPED: Final = "the owner has stopped"


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
        self._tasks: set[asyncio.Task[_Result]] = set()

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
        work = self._begin(call, context)
        self._tasks.add(begin(_result_of(work), at_end=partial(self._end, work, context, answer)))
        return context

    def _begin(self, call: Call, context: CallContext) -> Awaitable[Reply]:
        try:
            return self._handler(call, context)
        except Exception as error:
            return _raise(error)

    def _end(
        self, work: Awaitable[Reply], context: CallContext, answer: Answerer, task: asyncio.Task[_Result]
    ) -> None:
        """End what the handler returned, if the task did not, and answer."""
        outcome: Outcome
        result: Reply | PgShapesError
        _discard(work)
        self._tasks.discard(task)
        self.depth -= 1
        if task.cancelled():
            outcome, result = Outcome.ABANDONED, OwnerUnavailable(_STOPPED)
        else:
            outcome, result = task.result()
        if context.is_cancelled:
            outcome = Outcome.ABANDONED
        else:
            answer(result)
        self.outcomes[outcome] += 1

    async def close(self) -> None:
        """Cancel the calls under way; their callers get OwnerUnavailable."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _discard(work: Awaitable[Reply]) -> None:
    """Cancel a future that nobody awaits any more, close a coroutine that nobody awaited."""
    if isinstance(work, asyncio.Future):
        work.cancel()
    elif isinstance(work, Coroutine):
        work.close()


def _tag(call: Call) -> str:
    return str(call.__struct_config__.tag)


async def _raise(error: Exception) -> Reply:
    raise error


async def _result_of(work: Awaitable[Reply]) -> _Result:
    try:
        return Outcome.ANSWERED, await work
    except PgShapesError as error:
        return Outcome.REFUSED, error
    except Exception as error:
        asyncio.get_running_loop().call_exception_handler(
            {"message": "a call to the owner failed unexpectedly", "exception": error}
        )
        return Outcome.BROKEN, PgShapesError(f"unexpected {type(error).__name__}")
