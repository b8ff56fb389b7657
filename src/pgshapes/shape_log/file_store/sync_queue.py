"""Groups requests to make shapes durable: who asks while a sync runs is served by the next one, together.

Owner's event loop only. A request that is cancelled leaves the sync that it asked for running.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

SyncShapes = Callable[[frozenset[str] | None], Awaitable[None]]
"""Makes what these shapes (None: all) have written until now durable."""


class SyncQueue:
    """Runs one sync at a time. Its state is the list of requests that no sync has taken yet."""

    def __init__(self, sync_shapes: SyncShapes) -> None:
        self._sync_shapes = sync_shapes
        self._waiting: list[tuple[str | None, asyncio.Future[None]]] = []
        self._serving: asyncio.Task[None] | None = None

    async def request(self, handle: str | None) -> None:
        """Wait until all that the shape (None: every shape) wrote before this call was synced."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((handle, future))
        if self._serving is None:
            self._serving = asyncio.create_task(self._serve())
        await future

    async def idle(self) -> None:
        """Wait until no sync runs."""
        if self._serving is not None:
            await asyncio.wait({self._serving})

    async def _serve(self) -> None:
        try:
            while self._waiting:
                requests, self._waiting = self._waiting, []
                await self._serve_group(requests)
        finally:
            self._serving = None

    async def _serve_group(self, requests: list[tuple[str | None, asyncio.Future[None]]]) -> None:
        handles = {handle for handle, _ in requests}
        wanted = None if None in handles else frozenset(handle for handle in handles if handle)
        waiting = [future for _, future in requests]
        try:
            await self._sync_shapes(wanted)
        except asyncio.CancelledError:
            _resolve(waiting, lambda future: future.cancel())
            raise
        except Exception as error:
            failure = error
            _resolve(waiting, lambda future: future.set_exception(failure))
        else:
            _resolve(waiting, lambda future: future.set_result(None))


def _resolve(waiting: list[asyncio.Future[None]], resolve: Callable[[asyncio.Future[None]], object]) -> None:
    for future in waiting:
        if not future.done():
            resolve(future)
