"""The lifespan of an application, and requests inside and outside of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.support.seams.http_fakes import Client as FakeClient
from tests.support.seams.http_fakes import FakeBackend

from pgshapes.errors import ConfigError, PgShapesError
from pgshapes.server.application import Application, Opened

GET = {"type": "http", "method": "GET", "path": "/v1/health", "query_string": b"", "headers": []}


class Parts:
    """The parts that an application opens; opening or closing fails as `fails_at` says."""

    def __init__(self, *, fails_at: str = "", error: Exception | None = None) -> None:
        self.fails_at = fails_at
        self.error = error or ConfigError("cannot start")
        self.is_open = False
        self.was_stopping = False
        """Whether held requests had been answered when it closed."""
        self.client = FakeClient(FakeBackend())
        self.app = Application(self.open)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Opened]:
        if self.fails_at == "startup":
            raise self.error
        self.is_open = True
        yield Opened(self.client.app, self.client.stopping)
        self.was_stopping = self.client.stopping.is_set()
        self.is_open = False
        if self.fails_at == "shutdown":
            raise PgShapesError("the database was replaced")

    async def get(self) -> list[dict[str, Any]]:
        sent: list[dict[str, Any]] = []

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(dict(GET), asyncio.Event().wait, send)  # type: ignore[arg-type]
        return sent


async def send_steps(app: Application, *steps: str) -> list[str]:
    """Send these steps of the lifespan protocol to the application; return what it sends."""
    inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    for step in steps:
        inbox.put_nowait({"type": f"lifespan.{step}"})
    sent: list[str] = []

    async def send(message: Any) -> None:
        sent.append(f"{message['type']} {message.get('message', '')}".strip())

    await app({"type": "lifespan"}, inbox.get, send)
    return sent


async def test_the_lifespan_protocol() -> None:
    parts = Parts()
    heard = await send_steps(parts.app, "startup", "shutdown")
    assert heard == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert parts.client.stopping.is_set()
    assert not parts.is_open


async def test_a_failed_start_is_reported_to_the_server() -> None:
    parts = Parts(fails_at="startup")
    assert await send_steps(parts.app, "startup") == ["lifespan.startup.failed pgshapes: cannot start"]


async def test_any_other_error_at_the_start_is_reported_too() -> None:
    parts = Parts(fails_at="startup", error=OSError("too many open files"))
    (heard,) = await send_steps(parts.app, "startup")
    assert heard.startswith("lifespan.startup.failed pgshapes: OSError")


async def test_a_failed_shutdown_is_reported_to_the_server() -> None:
    heard = await send_steps(Parts(fails_at="shutdown").app, "startup", "shutdown")
    assert heard == [
        "lifespan.startup.complete",
        "lifespan.shutdown.failed pgshapes: the database was replaced",
    ]


async def test_requests_are_answered_while_it_is_open() -> None:
    parts = Parts()
    async with parts.app.lifespan():
        start, body = await parts.get()
    assert (start["status"], body["body"]) == (200, b'{"status":"active"}')


async def test_a_request_outside_of_the_lifespan_says_what_to_do() -> None:
    parts = Parts()
    with pytest.raises(RuntimeError, match="--lifespan on"):
        await parts.get()
    async with parts.app.lifespan():
        pass
    with pytest.raises(RuntimeError, match="--lifespan on"):
        await parts.get()


async def test_the_lifespan_can_be_reopened_but_not_nested() -> None:
    parts = Parts()
    async with parts.app.lifespan():
        with pytest.raises(RuntimeError, match="already"):
            async with parts.app.lifespan():
                pass
        assert parts.is_open
    async with parts.app.lifespan():
        assert parts.is_open


async def test_held_requests_are_answered_before_it_closes() -> None:
    parts = Parts()
    async with parts.app.lifespan():
        assert not parts.client.stopping.is_set()
    assert parts.was_stopping


async def test_requests_are_held_no_longer_once_a_server_says_so() -> None:
    parts = Parts()
    async with parts.app.lifespan():
        parts.app.stop_holding()
        assert parts.client.stopping.is_set()


async def test_on_end_is_called_when_the_replicator_ends() -> None:
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    heard = asyncio.Event()

    @asynccontextmanager
    async def open_() -> AsyncIterator[Opened]:
        yield Opened(FakeClient(FakeBackend()).app, asyncio.Event(), ended)

    app = Application(open_)
    async with app.lifespan():
        app.on_end(heard.set)
        ended.set_result(None)
        await heard.wait()
