"""The ASGI 3 application with its lifespan, for `pgshapes serve` and for `pgshapes.asgi`.

`http_api` answers the requests; `wiring` starts what they need. The lifespan is opened once, by an ASGI
server with the lifespan protocol or by code with `async with`. A request outside of the lifespan is an error
of the server. State: what the open lifespan runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, NamedTuple

from pgshapes.errors import PgShapesError
from pgshapes.http_api.app import ShapeApp
from pgshapes.http_api.response import Receive, Scope, Send
from pgshapes.logs import get_logger

_log = get_logger(__name__)

REFUSED_AFTER_S: Final = 2.0
"""After the beginning of a stop. The owner stops, too, or clients find it through another process."""


class Opened(NamedTuple):
    """What runs during the lifespan."""

    app: ShapeApp
    stopping: asyncio.Event
    """When it is set, held requests are answered at once."""
    ended: asyncio.Future[None] | None = None
    """Done when the replicator in this process has ended; None if it runs in another process."""


Open = Callable[[], AbstractAsyncContextManager[Opened]]
"""Starts what the application needs, and stops it at the end of the block. Raises ConfigError."""


class Application:
    """An ASGI application that serves shapes during its lifespan."""

    def __init__(self, open_: Open) -> None:
        self._open = open_
        self._opened: Opened | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection. Raises RuntimeError outside of the lifespan."""
        if scope["type"] == "lifespan":
            await self._run_lifespan(receive, send)
        elif self._opened is not None:
            await self._opened.app(scope, receive, send)
        else:
            raise RuntimeError(
                "the lifespan of this application has not started: run it with an ASGI server that supports"
                " lifespan (uvicorn --lifespan on), or enter `app.lifespan()` in the lifespan of the"
                " application that it is mounted in"
            )

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """Run the application during the block; use it as `FastAPI(lifespan=app.lifespan)`.

        Frameworks pass the application that this one is mounted in as `app`; it is not used. Raises
        ConfigError, and RuntimeError if the lifespan is open already.
        """
        if self._opened is not None:
            raise RuntimeError("the lifespan of this application has already started")
        async with self._open() as opened:
            self._opened = opened
            try:
                yield
            finally:
                self.stop_holding()
                self._opened = None

    def stop_holding(self) -> None:
        """Answer held requests now and hold no further ones, because the server is stopping. To be called in
        the event loop.

        Requests that wait for something else, for example the creation of a shape, are refused after
        `REFUSED_AFTER_S`.

        A server that waits for its requests before it ends the lifespan, as uvicorn does, has to call this
        when it begins to stop; or it limits its wait (`--timeout-graceful-shutdown`). It should refuse
        further requests first, also on connections that are open: each of them is answered at once, and
        clients repeat it.
        """
        if self._opened is not None and not self._opened.stopping.is_set():
            loop = asyncio.get_running_loop()  # raises, before anything is changed, outside of the loop
            self._opened.stopping.set()
            loop.call_later(REFUSED_AFTER_S, self._opened.app.waiting.refuse)

    def on_end(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the replicator in this process ends. Only while the application is open."""
        assert self._opened is not None
        if self._opened.ended is not None:
            self._opened.ended.add_done_callback(lambda _: callback())

    async def _run_lifespan(self, receive: Receive, send: Send) -> None:
        """The lifespan protocol (ASGI specification, Lifespan)."""
        await receive()
        step = "startup"
        try:
            async with self.lifespan():
                await send({"type": "lifespan.startup.complete"})
                step = "shutdown"
                await receive()
        except Exception as error:
            reason = error.message if isinstance(error, PgShapesError) else repr(error)
            _log.error(f"{step} failed", error=reason)
            await send({"type": f"lifespan.{step}.failed", "message": f"pgshapes: {reason}"})
        else:
            await send({"type": "lifespan.shutdown.complete"})
