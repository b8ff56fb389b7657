"""Names are looked up beside the event loop, and its end does not wait for them."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest

from pgshapes.server.event_loop import run_in_loop


def test_a_name_is_looked_up() -> None:
    found: list[Any] = []

    async def look_up() -> None:
        loop = asyncio.get_running_loop()
        found.extend(await loop.getaddrinfo("localhost", 5432, type=socket.SOCK_STREAM))
        with pytest.raises(socket.gaierror):
            await loop.getaddrinfo("localhost", "no such service")

    run_in_loop(look_up())
    assert found == socket.getaddrinfo("localhost", 5432, type=socket.SOCK_STREAM)


def test_a_look_up_without_an_answer_does_not_hold_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answered = threading.Event(), threading.Event()

    def never(*_: Any, **__: Any) -> list[Any]:
        asked.set()
        answered.wait()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", never)

    async def give_up() -> None:
        looking_up = asyncio.ensure_future(asyncio.get_running_loop().getaddrinfo("host", 1))
        await asyncio.to_thread(asked.wait)
        looking_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await looking_up

    run_in_loop(give_up())
    assert not answered.is_set()
    answered.set()
