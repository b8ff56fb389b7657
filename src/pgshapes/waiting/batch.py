"""One read for all keys that are wanted at a time. Knows nothing of Postgres.

Who asks while a read is under way is answered by the next one: an answer was always read after it was asked
for. State: the keys that wait for the next read belong to this object.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class CoalescedRead(Generic[K, V]):
    """Answers of `read`, which gets many keys and gives what it found for them."""

    def __init__(self, read: Callable[[tuple[K, ...]], Coroutine[Any, Any, Mapping[K, V]]]) -> None:
        self._read = read
        self._next: dict[K, asyncio.Future[V | None]] = {}
        self._reader: asyncio.Task[None] | None = None
        self.made = 0
        """Reads begun."""

    async def get(self, key: K) -> V | None:
        """What a fresh read finds for `key`. Raises what `read` raises."""
        answer = self._next.get(key)
        if answer is None:
            answer = self._next[key] = asyncio.get_running_loop().create_future()
        if self._reader is None:
            self._reader = asyncio.create_task(self._answer_all())
        await asyncio.wait([answer])
        return answer.result()

    async def _answer_all(self) -> None:
        try:
            while self._next:
                asked, self._next = self._next, {}
                self.made += 1
                await self._answer(asked)
        finally:
            self._reader = None

    async def _answer(self, asked: dict[K, asyncio.Future[V | None]]) -> None:
        try:
            found = await self._read(tuple(asked))
        except Exception as error:
            for answer in asked.values():
                answer.set_exception(error)
                answer.exception()  # seen, also when its askers have left
            return
        for key, answer in asked.items():
            answer.set_result(found.get(key))
