"""Bodies that are received at the same time take a bounded amount of memory."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import MutableMapping
from typing import Any

import pytest

from pgshapes.errors import Overloaded
from pgshapes.http_api.parameters import UnreadableBody
from pgshapes.http_api.request_bodies import LEAST_BYTES, RequestBodies
from pgshapes.http_api.settings import HttpSettings

SETTINGS = HttpSettings(bodies_bytes=100_000, max_body_bytes=50_000)


def receive_of(*pieces: bytes) -> Any:
    left = list(pieces)

    async def receive() -> MutableMapping[str, Any]:
        piece = left.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(left)}

    return receive


async def test_a_body_in_pieces() -> None:
    bodies = RequestBodies(SETTINGS)
    body = bodies.open("a")
    assert bodies.bytes.held_bytes == LEAST_BYTES
    await body.receive(receive_of(b"x" * 9_000, b"", b"y"))
    assert bodies.bytes.held_bytes == 9_001
    assert body.take() == b"x" * 9_000 + b"y"
    assert body.take() == b""
    body.release()
    body.release()
    assert bodies.bytes.held_bytes == 0
    assert bodies.bytes._by_client == {}


async def test_a_body_that_is_too_large() -> None:
    bodies = RequestBodies(SETTINGS)
    body = bodies.open(None)
    with pytest.raises(UnreadableBody) as refused:
        await body.receive(receive_of(*[b"x" * 10_000] * 6))
    assert refused.value.status == 413
    body.release()
    assert bodies.bytes.held_bytes == 0


async def test_all_bodies_together() -> None:
    bodies = RequestBodies(SETTINGS)
    held = [bodies.open(None) for _ in range(2)]
    for body in held:
        await body.receive(receive_of(b"x" * 45_000))
    late = bodies.open(None)
    with pytest.raises(Overloaded):
        await late.receive(receive_of(b"x" * 20_000))
    late.release()
    held[0].release()
    again = bodies.open(None)
    await again.receive(receive_of(b"x" * 20_000))


async def test_one_client_has_its_share() -> None:
    bodies = RequestBodies(SETTINGS)
    held = [bodies.open("a") for _ in range(19)]
    with pytest.raises(Overloaded):
        bodies.open("a")
    bodies.open("b")
    for body in held:
        body.release()
    assert bodies.bytes.held_bytes == LEAST_BYTES


async def test_a_body_that_does_not_come() -> None:
    bodies = RequestBodies(HttpSettings(body_timeout_s=0.001))

    async def never() -> MutableMapping[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(UnreadableBody):
        await bodies.open(None).receive(never)


@pytest.mark.parametrize(("size", "is_elsewhere"), [(100, False), (300_000, True)])
async def test_a_large_body_is_parsed_in_a_thread(size: int, is_elsewhere: bool) -> None:
    bodies = RequestBodies(HttpSettings())
    body = bodies.open(None)
    await body.receive(receive_of(b"x" * size))
    thread = await bodies.parse(body, lambda data: (len(data), threading.get_ident()))
    assert thread[0] == size and len(body) == 0
    assert (thread[1] != threading.get_ident()) is is_elsewhere
