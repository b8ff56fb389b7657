"""Streams that talk to a `ShapeServer` without sockets and without waiting."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from tests.unit.client.shape_server import ADDRESS, Pauses, ShapeServer

from pgshapes.client import Backoff, Query, ShapeStream, StreamOptions


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
async def connect() -> AsyncIterator[Callable[[ShapeServer], httpx.AsyncClient]]:
    clients: list[httpx.AsyncClient] = []

    def connected(server: ShapeServer) -> httpx.AsyncClient:
        clients.append(httpx.AsyncClient(transport=httpx.ASGITransport(app=server)))
        return clients[-1]

    yield connected
    for client in clients:
        await client.aclose()


@pytest.fixture
def open_stream(
    connect: Callable[[ShapeServer], httpx.AsyncClient], pauses: Pauses
) -> Callable[..., ShapeStream]:
    def opened(server: ShapeServer, query: Query | str = "items", **settings: Any) -> ShapeStream:
        start = settings.pop("start", None)
        options = StreamOptions(
            backoff=Backoff(chance=lambda: 0.5), sleep=pauses.sleep, now=lambda: 0.0, **settings
        )
        extra = {} if start is None else {"start": start}
        return ShapeStream(ADDRESS, query, options=options, http=connect(server), **extra)

    return opened
