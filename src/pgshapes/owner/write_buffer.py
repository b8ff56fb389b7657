"""Group commit in front of the catalogue.

Writes of one loop turn go together, and so do those that arrive while a commit is under way: a commit costs a
sync of the disk, a burst of creations costs two. Owned by the replicator's loop; the commits run in one
thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from pgshapes.owner.catalogue import Statement


class CommitsStatements(Protocol):
    """What the buffer writes to."""

    def commit(self, statements: Sequence[Statement]) -> None:
        """Make all durable, or none."""


class WriteBuffer:
    """Statements on their way to the disk, in order."""

    def __init__(self, catalogue: CommitsStatements) -> None:
        self._catalogue = catalogue
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="catalogue")
        self._waiting: list[tuple[Statement, asyncio.Future[None]]] = []
        self._committer: asyncio.Task[None] | None = None
        self.commits = 0

    def put(self, *statements: Statement) -> asyncio.Future[None]:
        """Queue writes; the future is done when the last of them is durable, or fails with StorageError."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        future.add_done_callback(_retrieve)
        for statement in statements[:-1]:
            queued: asyncio.Future[None] = loop.create_future()
            queued.add_done_callback(_retrieve)
            self._waiting.append((statement, queued))
        self._waiting.append((statements[-1], future))
        if self._committer is None:
            self._committer = loop.create_task(self._commit_all())
        return future

    async def close(self) -> None:
        """Commit what is queued and end the thread."""
        if self._committer is not None:
            await self._committer
        self._thread.shutdown()

    async def _commit_all(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                statements = [statement for statement, _ in batch]
                try:
                    await loop.run_in_executor(self._thread, self._catalogue.commit, statements)
                except Exception as error:
                    for _, future in batch:
                        if not future.done():
                            future.set_exception(error)
                else:
                    self.commits += 1
                    for _, future in batch:
                        if not future.done():
                            future.set_result(None)
        finally:
            self._committer = None


def _retrieve(future: asyncio.Future[None]) -> None:
    if not future.cancelled():
        future.exception()
