"""Receives the bodies of requests, which may be large, slow, or never come.

A body is received before its request gets a permit: a permit is for work. Invariants: the bodies of all
requests together take at most `limit_bytes`; one client has at most its share (`gates.shares`); each body has
a time limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

from pgshapes.errors import Overloaded
from pgshapes.gates.shares import SharedBytes
from pgshapes.http_api.parameters import UnreadableBody
from pgshapes.http_api.response import Receive
from pgshapes.http_api.settings import HttpSettings

UNREAD: Final = "Failed to read request body"
TOO_MANY: Final = "Too many request bodies are being received; please retry"
LEAST_BYTES: Final = 4096
"""What a body counts for before any of it has arrived: a connection, a task and a timer."""
_RETRY_AFTER_S: Final = 5
_SMALL_BYTES: Final = 128 * 1024

_T = TypeVar("_T")


class RequestBodies:
    """The bodies that are held by the requests of one application."""

    def __init__(self, settings: HttpSettings) -> None:
        self._settings = settings
        self.bytes = SharedBytes(settings.bodies_bytes)
        self._large = asyncio.Lock()

    def open(self, client: str | None) -> IncomingBody:
        """A body of a client's request, to be received and released. Raises Overloaded."""
        body = IncomingBody(self.bytes, client, self._settings)
        body.grow(LEAST_BYTES)
        return body

    async def parse(self, body: IncomingBody, parse: Callable[[bytes], _T]) -> _T:
        """What `parse` makes of a body, which is then not kept. Raises what it raises.

        Large bodies, which may take 100 ms, are parsed one by one in a thread, so that the event loop goes
        on; `parse` must use nothing that changes.
        """
        if len(body) <= _SMALL_BYTES:
            return parse(body.take())
        async with self._large:
            return await asyncio.to_thread(lambda: parse(body.take()))


class IncomingBody:
    """The body of one request; call `release` when it is not needed any more."""

    __slots__ = ("_bytes", "_client", "_counted", "_data", "_settings")

    def __init__(self, bytes_: SharedBytes, client: str | None, settings: HttpSettings) -> None:
        self._bytes = bytes_
        self._client = client
        self._settings = settings
        self._counted = 0
        self._data = b""

    def __len__(self) -> int:
        return len(self._data)

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
        if size <= self._counted:
            return
        if not self._bytes.take(self._client, size - self._counted):
            raise Overloaded(TOO_MANY, retry_after_s=_RETRY_AFTER_S, known=True)
        self._counted = size

    def release(self) -> None:
        """Count it no more; a second call does nothing."""
        counted, self._counted = self._counted, 0
        if counted:
            self._bytes.give_back(self._client, counted)

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
