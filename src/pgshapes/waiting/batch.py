"""Requests that arrive while a batch runs form the next batch.

Race: a request arrives while the work that could have served it is already under way: a read that has taken
its snapshot, a sync that has listed its files, a commit that has begun. If the request were answered by that
work, a caller would get a result that is older than its request, or an acknowledgement of a write that is not
durable.
If each request had work of its own instead, a burst of a thousand would be a thousand queries or disk syncs.

Invariant: the batch that answers a request begins after the request was made; batches run one at a time;
every request is answered, also if its caller no longer waits, and if the task that serves them is cancelled.
State: the requests that are not answered yet belong to one `BatchQueue`, in one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Generic, TypeVar

from pgshapes.errors import NotNow
from pgshapes.waiting.background import begin
from pgshapes.waiting.single_flight import STOPPING

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class BatchQueue(Generic[K, V]):
    """Runs batches of requests, one at a time.

    `run` gets each different request of a batch once, in the order of their arrival; it returns results by
    request, or none where none are needed. What it raises is the outcome of every request of that batch, and
    of no other.
    """

    def __init__(self, run: Callable[[tuple[K, ...]], Awaitable[Mapping[K, V]]]) -> None:
        self._run = run
        self._waiting: list[tuple[K, asyncio.Future[V | None]]] = []
        self._batch: list[tuple[K, asyncio.Future[V | None]]] = []
        """The requests of the batch that runs."""
        self._serving: asyncio.Task[None] | None = None
        self.begun = 0
        """Batches so far."""

    def request(self, request: K) -> asyncio.Future[V | None]:
        """The result for `request`, None if `run` returned none. Fails with NotNow if the batch is cancelled.
        Cancelling the future does not cancel the batch.
        """
        answer: asyncio.Future[V | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, answer))
        if self._serving is None:
            self._serving = begin(self._serve(), at_end=self._give_up)
        return answer

    async def idle(self) -> None:
        """Wait until no request is left unanswered."""
        if self._serving is not None:
            await asyncio.wait({self._serving})

    async def _serve(self) -> None:
        while self._waiting:
            self._batch, self._waiting = self._waiting, []
            self.begun += 1
            await self._answer(self._batch)
        self._serving = None

    def _give_up(self, serving: asyncio.Task[None]) -> None:
        """Fail what is unanswered if the task did not come to its end."""
        if self._serving is serving:
            self._serving = None
            unanswered, self._batch, self._waiting = self._batch + self._waiting, [], []
            for _, answer in unanswered:
                _fail(answer, NotNow(STOPPING))

    async def _answer(self, batch: list[tuple[K, asyncio.Future[V | None]]]) -> None:
        try:
            results = await self._run(tuple(dict.fromkeys(request for request, _ in batch)))
        except Exception as error:
            for _, answer in batch:
                _fail(answer, error)
        else:
            for request, answer in batch:
                if not answer.done():
                    answer.set_result(results.get(request))


def _fail(answer: asyncio.Future[V | None], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
        answer.exception()  # marked as retrieved, also if no task awaits it
