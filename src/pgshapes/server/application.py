"""The ASGI 3 application with its lifespan: what `pgshapes serve` runs and what `pgshapes.asgi` hands out.

Not here: what a request gets (`http_api`), what has to run for it (`wiring`). Whoever runs the application,
an ASGI server by the lifespan protocol or code by `async with`, opens it once; requests before that or after
it are an error of the server. State: what is open.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import NamedTuple

import structlog

from pgshapes.errors import PgShapesError
from pgshapes.http_api.app import AsgiApp
from pgshapes.http_api.response import Receive, Scope, Send

_log = structlog.get_logger(__name__)


class Opened(NamedTuple):
    """What runs while the lifespan lasts."""

    app: AsgiApp
    stopping: asyncio.Event
    """Held requests are answered at once when it is set."""
    ended: asyncio.Future[None] | None = None
    """Done when what the application depends on has ended by itself; None if nothing can."""


Open = Callable[[], AbstractAsyncContextManager[Opened]]
"""Starts what the application needs and ends it again. Raises ConfigError when it cannot work."""


class Application:
    """Serves shapes from the start of its lifespan to the end of it."""

    def __init__(self, open_: Open) -> None:
        self._open = open_
        self._opened: Opened | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI connection. Raises RuntimeError outside of the lifespan."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif self._opened is not None:
            await self._opened.app(scope, receive, send)
        else:
            raise RuntimeError(
                "the lifespan of this application has not begun: run it under an ASGI server with lifespan"
                " support (uvicorn --lifespan on), or enter `app.lifespan()` in the lifespan of the"
                " application around it"
            )

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """Open the application for as long as the block lasts; `FastAPI(lifespan=app.lifespan)` does so.

        `app` is the application around this one, as frameworks pass it; it is not used. Raises ConfigError.
        """
        if self._opened is not None:
            raise RuntimeError("the lifespan of this application has begun already")
        async with self._open() as opened:
            self._opened = opened
            try:
                yield
            finally:
                self.stop_holding()
                self._opened = None

    def stop_holding(self) -> None:
        """Answer held requests now, and do not hold any more: the server is going to stop."""
        if self._opened is not None:
            self._opened.stopping.set()

    def on_end(self, callback: Callable[[], None]) -> None:
        """Have `callback` called when the application cannot go on by itself. Only while it is open."""
        assert self._opened is not None
        if self._opened.ended is not None:
            self._opened.ended.add_done_callback(lambda _: callback())

    async def _live(self, receive: Receive, send: Send) -> None:
        """The lifespan protocol (ASGI specification, Lifespan)."""
        await receive()
        step = "startup"
        try:
            async with self.lifespan():
                await send({"type": "lifespan.startup.complete"})
                step = "shutdown"
                await receive()
        except PgShapesError as error:
            _log.error(f"{step} failed", error=error.message)
            await send({"type": f"lifespan.{step}.failed", "message": f"pgshapes: {error.message}"})
        else:
            await send({"type": "lifespan.shutdown.complete"})
