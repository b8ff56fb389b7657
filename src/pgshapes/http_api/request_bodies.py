"""Receives the bodies of requests, which may be large, slow, or never come.

A body is received before its request gets a permit: a permit is for work. Invariants: the bodies of all
requests together take at most `limit_bytes`; one client has at most its share (`gates.shares`); each body has
a time limit. State: the bytes that are held, in all and by client; one per application.
"""

from __future__ import annotations

import asyncio
from typing import Final

from pgshapes.errors import Overloaded
from pgshapes.gates.shares import may_take
from pgshapes.http_api.parameters import UnreadableBody
from pgshapes.http_api.response import Receive
from pgshapes.http_api.settings import HttpSettings

UNREAD: Final = "Failed to read request body"
TOO_MANY: Final = "Too many request bodies are being received; please retry"
LEAST_BYTES: Final = 4096
"""What a body counts for before any of it has arrived: a connection, a task and a timer."""
_RETRY_AFTER_S: Final = 5


class RequestBodies:
    """The bodies that are held by the requests of one application."""

    def __init__(self, settings: HttpSettings) -> None:
        self._settings = settings
        self._limit = settings.bodies_bytes
        self.held_bytes = 0
        self._by_client: dict[str, int] = {}

    def open(self, client: str | None) -> IncomingBody:
        """A body of a client's request, to be received and released. Raises Overloaded."""
        body = IncomingBody(self, client, self._settings)
        body.grow(LEAST_BYTES)
        return body

    def take(self, client: str | None, size: int) -> None:
        """Count bytes. Raises Overloaded if there are too many."""
        held = 0 if client is None else self._by_client.get(client, 0)
        is_over_share = client is not None and not may_take(held, self.held_bytes, self._limit, size)
        if is_over_share or self.held_bytes + size > self._limit:
            raise Overloaded(TOO_MANY, retry_after_s=_RETRY_AFTER_S, known=True)
        self.held_bytes += size
        if client is not None:
            self._by_client[client] = held + size

    def give_back(self, client: str | None, size: int) -> None:
        """Count bytes less."""
        self.held_bytes -= size
        if client is not None:
            left = self._by_client[client] - size
            if left:
                self._by_client[client] = left
            else:
                del self._by_client[client]


class IncomingBody:
    """The body of one request; call `release` when it is not needed any more."""

    __slots__ = ("_bodies", "_client", "_counted", "_data", "_settings")

    def __init__(self, bodies: RequestBodies, client: str | None, settings: HttpSettings) -> None:
        self._bodies = bodies
        self._client = client
        self._settings = settings
        self._counted = 0
        self._data = b""

    async def receive(self, receive: Receive) -> None:
        """Receive the whole body. Raises UnreadableBody, Overloaded."""
        try:
            async with asyncio.timeout(self._settings.body_timeout_s):
                self._data = await self._receive_all(receive)
        except TimeoutError:
            raise UnreadableBody(UNREAD) from None

    def take(self) -> bytes:
        """The body, which this object then forgets."""
        data, self._data = self._data, b""
        return data

    def grow(self, size: int) -> None:
        """Count `size` bytes in all. Raises Overloaded."""
        if size > self._counted:
            self._bodies.take(self._client, size - self._counted)
            self._counted = size

    def release(self) -> None:
        """Count it no more; a second call does nothing."""
        counted, self._counted = self._counted, 0
        if counted:
            self._bodies.give_back(self._client, counted)

    async def _receive_all(self, receive: Receive) -> bytes:
        pieces: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise UnreadableBody(UNREAD)
            piece = message.get("body", b"")
            if piece:
                pieces.append(piece)
            size += len(piece)
            if size > self._settings.max_body_bytes:
                raise UnreadableBody("Request body too large", status=413)
            self.grow(size)
            if not message.get("more_body", False):
                return b"".join(pieces)
